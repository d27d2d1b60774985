//! Ptys. What the session writes to the slave waits in the master's flip buffers and line
//! discipline; what the server writes to the master waits in the slave's.

use tracer_ebpf::{told, transport};

use crate::{
    kernel::{File, Task, constant, field, long, read},
    streams::{self, server_close, stream},
};

/// Flip buffers that are added up: `TTYB_DEFAULT_MEM_LIMIT` (drivers/tty/tty_buffer.c) is 640 KiB,
/// and a write of up to 2 KiB gets one of its own size.
const BUFFERS: u32 = 512;
/// Inode number of pty 0 (`devpts_pty_new`, fs/devpts/inode.c).
const PTS_INODE: u64 = 3;
/// Descriptors of a server that are searched for the master.
const FDS: u32 = 64;

/// A `struct tty_struct`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tty(pub u64);

impl Tty {
    /// The other side.
    #[inline(always)]
    pub fn link(self) -> Self {
        Self(field!(self.0, tty_link: u64))
    }

    /// Open files.
    #[inline(always)]
    pub fn count(self) -> u32 {
        field!(self.0, tty_count: u32)
    }

    #[inline(always)]
    pub fn unread(self) -> u64 {
        tty_unread(self.0)
    }

    /// Number of the pty as devpts shows it, for both sides: `pty_unix98_install` makes them with
    /// one index.
    #[inline(always)]
    pub fn object(self) -> u64 {
        PTS_INODE + u64::from(field!(self.0, tty_index: u32))
    }
}

/// Bytes that wait to be read from a tty: in its line discipline and before it (FIONREAD tells only
/// the first). A global function, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tty_unread(tty: u64) -> u64 {
    let discipline = field!(tty, tty_disc_data: u64);
    let head = field!(discipline, ntty_head: u64);
    let mut sum = head.wrapping_sub(field!(discipline, ntty_tail: u64));
    let port = field!(tty, tty_port: u64);
    let mut buffer: u64 = field!(port, port_buf_head: u64);
    for _ in 0..BUFFERS {
        if buffer == 0 {
            break;
        }
        sum += flip_bytes(buffer);
        buffer = long(buffer + u64::from(constant!(layout.flip_next)));
    }
    sum
}

/// Bytes of one flip buffer; for a loop, see [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flip_bytes(buffer: u64) -> u64 {
    let used = field!(buffer, flip_used: u32);
    u64::from(used.saturating_sub(field!(buffer, flip_read: u32)))
}

/// The tty of an open file that is one.
#[inline(always)]
pub fn of_file(file: File) -> Tty {
    Tty(read(file.private(), constant!(layout.ttyfile_tty)))
}

/// The tty that a `kiocb` is for.
#[inline(always)]
pub fn of_call(kiocb: u64) -> Tty {
    of_file(File(field!(kiocb, kiocb_file: u64)))
}

/// The current process, a server's child, may have a pty as its stdin: if its parent has the
/// master, both directions become streams of that server. A function of its own, also for the
/// verifier: it needs its own share of the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_pty() -> u64 {
    let task = Task::current();
    let parent = task.parent();
    let Some(slave) = task.fds().file(0).pts() else {
        return 0;
    };
    let master = slave.link();
    // An old pty at the address may still have its entry.
    let is_known = stream(master.0)
        .is_some_and(|state| state.server == parent.tgid() && state.told[told::SERVER_CLOSED] == 0);
    if is_known || find_master(parent.0, master.0) == 0 {
        return 0;
    }
    direction(master, slave, parent);
    direction(slave, master, parent);
    1
}

#[inline(always)]
fn direction(reader: Tty, writer: Tty, server: Task) {
    if let Some(state) = streams::created(reader.0, transport::PTY) {
        state.object = reader.object();
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = server.tgid();
    }
}

/// Whether a server has the master open. Global, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_master(server: u64, master: u64) -> u64 {
    let fds = Task(server).fds();
    for fd in 0..FDS {
        if is_master(fds.nth(fd).0, master) != 0 {
            return 1;
        }
    }
    0
}

/// For a loop, see [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_master(file: u64, master: u64) -> u64 {
    let file = File(file);
    u64::from(file.is_ptmx() && of_file(file).0 == master)
}

/// A tty's file is being released. The master's is the end of both directions, whoever closes it
/// last: the privileged monitor often holds a copy.
#[inline(always)]
pub fn release(file: File, refs: u32) {
    let tty = of_file(file);
    let Some(state) = stream(tty.0) else { return };
    if state.session == 0 || state.slot == 0 || state.reader != tty.0 {
        return;
    }
    let slave = state.writer;
    server_close(state, tty.0, refs);
    if let Some(state) = stream(slave) {
        server_close(state, slave, refs);
    }
}

/// A descriptor is being closed, where releases themselves cannot be seen: the last, or all that a
/// dying server has.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    if !file.is_ptmx() {
        return;
    }
    let refs = file.refs();
    let all = || {
        Task::current().exiting()
            && stream(of_file(file).0)
                .is_some_and(|state| state.server == pid && state.told[told::SERVER_CLOSED] == 0)
    };
    if refs == 1 || all() {
        release(file, refs);
    }
}
