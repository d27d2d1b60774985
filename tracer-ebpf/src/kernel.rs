//! Typed reads of kernel structs through the run-time layout.
//!
//! Every pointer is a plain address here and every read goes through `bpf_probe_read_kernel`, which
//! gives zeroes where memory is not mapped: the same code serves tracepoints, fentry and iterators.
//! A zero address is "none" and stays so through a chain of reads.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_jiffies64, bpf_ktime_get_boot_ns,
    bpf_probe_read_kernel, bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes,
};
use tracer_ebpf::{
    COMM_LEN, Config, ConnId, EXE_LEN, OPTIONAL, Proc, Progress, StreamEnds, transport,
};

use crate::{
    tty::{self, Tty},
    unix::Unix,
};

#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::EMPTY;

/// A value that user space injected: `constant!(sys.read)`.
macro_rules! constant {
    ($($field:ident).+) => {
        // SAFETY: reads a static; volatile because user space replaces its bytes before loading,
        // so the compiler must not assume the initial value.
        unsafe { core::ptr::read_volatile(&raw const crate::kernel::CONFIG.$($field).+) }
    };
}
pub(crate) use constant;

/// Reads `$ty` at a field of the layout: `field!(addr, pipe_head: u32)`.
macro_rules! field {
    ($addr:expr, $field:ident: $ty:ty) => {
        crate::kernel::read::<$ty>($addr, crate::kernel::constant!(layout.$field))
    };
}
pub(crate) use field;

pub const FMODE_READ: u32 = 1;
pub const FMODE_WRITE: u32 = 2;
const PF_EXITING: u32 = 4;
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFCHR: u16 = 0o020_000;
const AF_UNIX: u16 = 1;
/// File system of descriptors that are no files (include/uapi/linux/magic.h).
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
/// Device numbers of Documentation/admin-guide/devices.txt, in the kernel's own encoding
/// (`MKDEV`, include/linux/kdev_t.h).
const PTMX: u32 = 5 << 20 | 2;
const PTS_MAJORS: core::ops::RangeInclusive<u32> = 136..=143;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
/// Most slots of a pipe whose lengths are added up: 1 MiB, the limit of unprivileged users
/// (`/proc/sys/fs/pipe-max-size`), has 256.
const PIPE_SLOTS: u32 = 256;

/// Reads a `T` at `addr + offset`; zeroes when `addr` is 0 or not mapped.
#[inline(always)]
pub fn read<T: Copy + Default>(addr: u64, offset: u32) -> T {
    if addr == 0 {
        return T::default();
    }
    // SAFETY: the helper checks the address and T is plain data.
    unsafe { bpf_probe_read_kernel((addr + u64::from(offset)) as *const T) }.unwrap_or_default()
}

/// Reads 4 bytes in a loop. A global function: the verifier checks it once, while each branch of a
/// read that is inlined doubles its work at every turn.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn word(at: u64) -> u64 {
    u64::from(read::<u32>(at, 0))
}

/// The same for 8 bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn long(at: u64) -> u64 {
    read(at, 0)
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[derive(Clone, Copy)]
pub struct Task(pub u64);

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { bpf_get_current_task() })
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        field!(self.0, task_pid: u32)
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        field!(self.0, task_tgid: u32)
    }

    /// The process: its pid and the start of its first thread.
    #[inline(always)]
    pub fn proc(self) -> Proc {
        let leader = field!(self.0, task_leader: u64);
        Proc {
            start: field!(leader, task_start: u64),
            pid: self.tgid(),
            pad: 0,
        }
    }

    #[inline(always)]
    pub fn parent(self) -> Self {
        Self(field!(self.0, task_parent: u64))
    }

    #[inline(always)]
    pub fn uid(self) -> u32 {
        field!(field!(self.0, task_cred: u64), cred_uid: u32)
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        field!(self.0, task_comm: [u8; COMM_LEN])
    }

    /// Differs from one exec to the next.
    #[inline(always)]
    pub fn exec_id(self) -> u32 {
        field!(self.0, task_exec_id: u64) as u32
    }

    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        field!(self.0, task_exit_code: u32)
    }

    #[inline(always)]
    pub fn exiting(self) -> bool {
        field!(self.0, task_flags: u32) & PF_EXITING != 0
    }

    /// Whether its parent waits in vfork(2) or posix_spawn(3) for it to execute something.
    #[inline(always)]
    pub fn is_vforked(self) -> bool {
        field!(self.0, task_vfork_done: u64) != 0
    }

    /// Whether no thread of its group is alive: true in the exit handler of the last one, since
    /// `do_exit` decrements `signal->live` before the tracepoint (kernel/exit.c).
    #[inline(always)]
    pub fn group_dead(self) -> bool {
        field!(field!(self.0, task_signal: u64), signal_live: u32) == 0
    }

    /// Pid in the process's own namespace.
    #[inline(always)]
    pub fn ns_pid(self) -> u32 {
        let leader = field!(self.0, task_leader: u64);
        let pid = field!(leader, task_thread_pid: u64);
        let level = field!(pid, pid_level: u32);
        read(
            pid,
            constant!(layout.pid_numbers) + level * constant!(upid_size),
        )
    }

    /// The executable file.
    #[inline(always)]
    pub fn program(self) -> File {
        let mm = field!(self.0, task_mm: u64);
        File(field!(mm, mm_exe_file: u64))
    }

    /// Base name of the executable file.
    #[inline(always)]
    pub fn exe(self, out: &mut [u8; EXE_LEN]) {
        let file = self.program();
        let name = field!(field!(file.0, file_dentry: u64), dentry_name: u64);
        *out = [0; EXE_LEN];
        if name != 0 {
            // SAFETY: the helper checks the address. A longer name is cut and then matches none.
            let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, out) };
        }
    }

    /// First and last address of the arguments in user memory.
    #[inline(always)]
    pub fn args(self) -> (u64, u64) {
        let mm = field!(self.0, task_mm: u64);
        (field!(mm, mm_arg_start: u64), field!(mm, mm_arg_end: u64))
    }

    /// Its descriptor table, shared by threads and by whoever was cloned so.
    #[inline(always)]
    pub fn files(self) -> u64 {
        field!(self.0, task_files: u64)
    }

    #[inline(always)]
    pub fn fds(self) -> Fds {
        let fdt = field!(self.files(), files_fdt: u64);
        Fds {
            table: field!(fdt, fdt_fd: u64),
            max: field!(fdt, fdt_max: u32),
        }
    }
}

/// A descriptor table at one moment.
#[derive(Clone, Copy)]
pub struct Fds {
    table: u64,
    pub max: u32,
}

impl Fds {
    #[inline(always)]
    pub fn file(self, fd: u32) -> File {
        if fd >= self.max {
            return File(0);
        }
        File(read(self.table, fd.wrapping_mul(8)))
    }

    /// The same in a loop, which goes on past the table's end: when it breaks there, the compiler
    /// counts down from what the verifier does not know.
    #[inline(always)]
    pub fn nth(self, fd: u32) -> File {
        File(file_at(self.table, self.max, fd))
    }
}

/// For loops, see [`word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_at(table: u64, max: u32, fd: u32) -> u64 {
    Fds { table, max }.file(fd).0
}

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct File(pub u64);

impl File {
    /// Whether it is not a file but an error (`IS_ERR`, include/linux/err.h).
    #[inline(always)]
    pub fn is_error(self) -> bool {
        self.0 > u64::MAX - 4096
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        field!(self.0, file_mode: u32)
    }

    /// Of a pipe: each write to it is a packet, of which a read discards what it has no room for
    /// (`O_DIRECT`, pipe(2)).
    #[inline(always)]
    pub fn is_packetized(self) -> bool {
        field!(self.0, file_flags: u32) & constant!(o_direct) != 0
    }

    #[inline(always)]
    pub fn inode(self) -> u64 {
        field!(self.0, file_inode: u64)
    }

    /// User id of whom it belongs to.
    #[inline(always)]
    pub fn owner(self) -> u32 {
        field!(self.inode(), inode_uid: u32)
    }

    #[inline(always)]
    pub fn ino(self) -> u64 {
        field!(self.inode(), inode_ino: u64)
    }

    #[inline(always)]
    fn kind(self) -> u16 {
        field!(self.inode(), inode_mode: u16) & S_IFMT
    }

    /// References to it: one for each descriptor in any process, and those in use just now.
    #[inline(always)]
    pub fn refs(self) -> u32 {
        (field!(self.0, file_count: u64) as u32)
            .wrapping_add(1)
            .wrapping_sub(constant!(one_ref))
    }

    /// What the transport keeps with it.
    #[inline(always)]
    pub fn private(self) -> u64 {
        field!(self.0, file_private: u64)
    }

    /// The pipe that it is an end of.
    #[inline(always)]
    pub fn pipe(self) -> Option<Pipe> {
        (self.0 != 0 && self.kind() == S_IFIFO).then(|| self.as_pipe())
    }

    /// The same where it is known to be one.
    #[inline(always)]
    pub fn as_pipe(self) -> Pipe {
        Pipe(self.private())
    }

    /// The TCP socket that it is.
    #[inline(always)]
    pub fn tcp(self) -> Option<Sock> {
        if self.0 == 0 || self.kind() != S_IFSOCK {
            return None;
        }
        let sock = Sock(field!(self.private(), socket_sk: u64));
        sock.is_tcp().then_some(sock)
    }

    /// The unix socket that it is, of any type.
    #[inline(always)]
    pub fn any_unix(self) -> Option<Unix> {
        if self.0 == 0 || self.kind() != S_IFSOCK {
            return None;
        }
        let sock = Unix::of_socket(self.private());
        (field!(sock.0, sock_family: u16) == AF_UNIX).then_some(sock)
    }

    /// The unix stream socket that it is.
    #[inline(always)]
    pub fn unix(self) -> Option<Unix> {
        self.any_unix()
            .filter(|sock| field!(sock.0, sock_type: u16) == SOCK_STREAM)
    }

    /// The io_uring that it is: address of its `struct io_ring_ctx`.
    #[inline(always)]
    pub fn ring(self) -> Option<u64> {
        let sb = field!(self.inode(), inode_sb: u64);
        if self.0 == 0 || field!(sb, sb_magic: u64) != ANON_INODE_FS_MAGIC {
            return None;
        }
        let name = field!(field!(self.0, file_dentry: u64), dentry_name: u64);
        (read::<[u8; 11]>(name, 0) == *b"[io_uring]\0").then(|| self.private())
    }

    /// What a process writes to by it: a pipe or a terminal.
    #[inline(always)]
    pub fn output(self, out: &mut StreamEnds) {
        out.transport = if self.pipe().is_some() {
            transport::PIPE
        } else if self.pts().is_some() {
            transport::PTY
        } else {
            transport::NONE
        };
        if out.transport != transport::NONE {
            out.object = self.ino();
        }
    }

    #[inline(always)]
    fn device(self) -> u32 {
        if self.0 == 0 || self.kind() != S_IFCHR {
            return 0;
        }
        field!(self.inode(), inode_rdev: u32)
    }

    /// The slave side of a pty that it is.
    #[inline(always)]
    pub fn pts(self) -> Option<Tty> {
        let major = self.device() >> 20;
        (major >= *PTS_MAJORS.start() && major <= *PTS_MAJORS.end()).then(|| tty::of_file(self))
    }

    /// Either side of a pty that it is.
    #[inline(always)]
    pub fn pty(self) -> Option<Tty> {
        if self.is_ptmx() {
            Some(tty::of_file(self))
        } else {
            self.pts()
        }
    }

    /// Whether it is the master side of a pty.
    #[inline(always)]
    pub fn is_ptmx(self) -> bool {
        self.device() == PTMX
    }
}

/// A `struct pipe_inode_info`.
#[derive(Clone, Copy)]
pub struct Pipe(pub u64);

impl Pipe {
    #[inline(always)]
    pub fn readers(self) -> u32 {
        field!(self.0, pipe_readers: u32)
    }

    #[inline(always)]
    pub fn writers(self) -> u32 {
        field!(self.0, pipe_writers: u32)
    }

    #[inline(always)]
    pub fn capacity(self) -> u32 {
        field!(self.0, pipe_usage: u32).wrapping_mul(constant!(page_size))
    }

    #[inline(always)]
    pub fn unread(self) -> u64 {
        pipe_unread(self.0)
    }
}

/// Bytes in a pipe. A global function, so that the verifier checks its loop once and not at each
/// of its callers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pipe_unread(pipe: u64) -> u64 {
    let head = field!(pipe, pipe_head: u32);
    let tail = field!(pipe, pipe_tail: u32);
    let mask = field!(pipe, pipe_ring: u32).wrapping_sub(1);
    let bufs = field!(pipe, pipe_bufs: u64);
    let used = head.wrapping_sub(tail);
    let mut sum = 0u64;
    for i in 0..PIPE_SLOTS {
        if i >= used {
            break;
        }
        let slot = tail.wrapping_add(i) & mask;
        let at = slot
            .wrapping_mul(constant!(pipe_buf_size))
            .wrapping_add(constant!(layout.pipe_buf_len));
        sum += word(bufs + u64::from(at));
    }
    sum
}

/// A `struct sock`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sock(pub u64);

impl Sock {
    #[inline(always)]
    fn is_tcp(self) -> bool {
        let family = field!(self.0, sock_family: u16);
        (family == AF_INET || family == AF_INET6)
            && field!(self.0, sock_type: u16) == SOCK_STREAM
            && (field!(self.0, sock_protocol: u16) & 0xff) == IPPROTO_TCP
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        field!(self.0, sock_state: u8)
    }

    #[inline(always)]
    pub fn local_port(self) -> u16 {
        field!(self.0, sock_lport: u16)
    }

    #[inline(always)]
    pub fn peer_port(self) -> u16 {
        u16::from_be(field!(self.0, sock_dport: u16))
    }

    #[inline(always)]
    pub fn error(self) -> u32 {
        field!(self.0, sock_err: u32)
    }

    /// Where the next byte that is written to it will be, modulo 2^32.
    #[inline(always)]
    pub fn write_seq(self) -> u32 {
        field!(self.0, tcp_write_seq: u32)
    }

    #[inline(always)]
    pub fn progress(self) -> Progress {
        let unacked = field!(self.0, tcp_snd_una: u32);
        let acked = field!(self.0, tcp_bytes_acked: u64);
        let past = |at: u32| acked + u64::from(at.wrapping_sub(unacked));
        Progress {
            queued: past(self.write_seq()),
            sent: past(field!(self.0, tcp_snd_nxt: u32)),
            acked,
            heard: self.heard(),
        }
    }

    /// When the peer last sent data; `tcp_event_data_recv` (net/ipv4/tcp_input.c) notes the jiffy.
    #[inline(always)]
    fn heard(self) -> u64 {
        if constant!(layout.tcp_heard) == OPTIONAL {
            return 0;
        }
        // SAFETY: no arguments.
        let jiffies = unsafe { bpf_jiffies64() } as u32;
        let ago = jiffies.wrapping_sub(field!(self.0, tcp_heard: u32));
        now().saturating_sub(u64::from(ago) * u64::from(constant!(tick)))
    }

    #[inline(always)]
    pub fn id(self, out: &mut ConnId) {
        let family = field!(self.0, sock_family: u16);
        out.sock = self.0;
        out.family = u32::from(family);
        out.local_port = self.local_port();
        out.peer_port = self.peer_port();
        if family == AF_INET {
            self.address(constant!(layout.sock_saddr), &mut out.local[..4]);
            self.address(constant!(layout.sock_daddr), &mut out.peer[..4]);
        } else {
            self.address(constant!(layout.sock_saddr6), &mut out.local);
            self.address(constant!(layout.sock_daddr6), &mut out.peer);
        }
    }

    #[inline(always)]
    fn address(self, offset: u32, out: &mut [u8]) {
        if offset != OPTIONAL {
            // SAFETY: the helper checks the address.
            let _ = unsafe {
                bpf_probe_read_kernel_buf((self.0 + u64::from(offset)) as *const u8, out)
            };
        }
    }
}
