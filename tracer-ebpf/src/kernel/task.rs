//! Processes and their descriptor tables.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel_str_bytes};
use tracer_ebpf::{COMM_LEN, EXE_LEN, Proc};

use super::{File, constant, field, read};

const PF_EXITING: u32 = 4;

/// A `struct task_struct`.
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

    /// Real user id.
    #[inline(always)]
    pub fn uid(self) -> u32 {
        field!(field!(self.0, task_cred: u64), cred_uid: u32)
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        field!(self.0, task_comm: [u8; COMM_LEN])
    }

    /// A number that every exec changes.
    #[inline(always)]
    pub fn exec_id(self) -> u32 {
        field!(self.0, task_exec_id: u64) as u32
    }

    /// Exit status, encoded as by wait(2).
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

    /// Whether no thread of its group is alive. That is so in the exit handler of the last thread,
    /// because `do_exit` decrements `signal->live` before the tracepoint (kernel/exit.c).
    #[inline(always)]
    pub fn group_dead(self) -> bool {
        field!(field!(self.0, task_signal: u64), signal_live: u32) == 0
    }

    /// Pid in the process's own pid namespace.
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

    /// Base name of the executable file, NUL-padded.
    #[inline(always)]
    pub fn exe(self, out: &mut [u8; EXE_LEN]) {
        let name = self.program().name();
        *out = [0; EXE_LEN];
        if name != 0 {
            // SAFETY: the helper checks the address. A longer name is cut and then matches none.
            let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, out) };
        }
    }

    /// First address of the arguments in user memory, and the address after their last byte.
    #[inline(always)]
    pub fn args(self) -> (u64, u64) {
        let mm = field!(self.0, task_mm: u64);
        (field!(mm, mm_arg_start: u64), field!(mm, mm_arg_end: u64))
    }

    /// Address of its `struct files_struct`. Threads share one, and so do processes that were cloned
    /// with `CLONE_FILES`.
    #[inline(always)]
    pub fn files(self) -> u64 {
        field!(self.0, task_files: u64)
    }

    /// Its descriptor table at this moment.
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
    /// Number of descriptors that the table has room for.
    pub max: u32,
}

impl Fds {
    /// The open file of a descriptor; [`File`] 0 when there is none.
    #[inline(always)]
    pub fn file(self, fd: u32) -> File {
        if fd >= self.max {
            return File(0);
        }
        File(read(self.table, fd.wrapping_mul(8)))
    }

    /// [`Fds::file`] in a loop that does not break at the table's end. With a break there, the
    /// compiler counts down from a number that the verifier does not know.
    #[inline(always)]
    pub fn nth(self, fd: u32) -> File {
        File(file_at(self.table, self.max, fd))
    }
}

/// [`Fds::file`] for loops, see [`super::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_at(table: u64, max: u32, fd: u32) -> u64 {
    Fds { table, max }.file(fd).0
}
