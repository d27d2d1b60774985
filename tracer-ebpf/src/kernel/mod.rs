//! Typed reads of kernel structs through the run-time layout.
//!
//! Each type of this module is the address of one kernel struct, and its methods read that struct's
//! fields. Every pointer is a plain number, and every read goes through `bpf_probe_read_kernel`,
//! which returns zeroes where no memory is mapped: the same code serves tracepoints, fentry programs
//! and iterators. Address 0 means "none" and stays so through a chain of reads.
//!
//! This module knows nothing of sessions and streams. All other modules of the programs may use it.

mod file;
mod pipe;
mod sock;
mod task;
mod tty;
mod unix;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel};
pub use file::{FMODE_READ, FMODE_WRITE, File};
pub use pipe::Pipe;
pub use sock::Sock;
pub use task::Task;
use tracer_ebpf::Config;
pub use tty::Tty;
pub use unix::{ScmFiles, Unix};

/// The constants of this load. User space sets them before it loads the programs.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::EMPTY;

/// Reads a constant that user space injected: `constant!(sys.read)`.
macro_rules! constant {
    ($($field:ident).+) => {
        // SAFETY: reads a static; volatile because user space replaces its bytes before loading,
        // so the compiler must not assume the initial value.
        unsafe { core::ptr::read_volatile(&raw const crate::kernel::CONFIG.$($field).+) }
    };
}
pub(crate) use constant;

/// Reads a `$ty` at a field of the layout: `field!(address, pipe_head: u32)`.
macro_rules! field {
    ($addr:expr, $field:ident: $ty:ty) => {
        crate::kernel::read::<$ty>($addr, crate::kernel::constant!(layout.$field))
    };
}
pub(crate) use field;

/// Reads a `T` at `addr + offset`; zeroes when `addr` is 0 or not mapped.
#[inline(always)]
pub fn read<T: Copy + Default>(addr: u64, offset: u32) -> T {
    if addr == 0 {
        return T::default();
    }
    // SAFETY: the helper checks the address and T is plain data.
    unsafe { bpf_probe_read_kernel((addr + u64::from(offset)) as *const T) }.unwrap_or_default()
}

/// [`read`]s 4 bytes in a loop. It is a global function, which the verifier checks only once. Each
/// branch of a read that is inlined into a loop doubles the verifier's work at every turn.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn word(at: u64) -> u64 {
    u64::from(read::<u32>(at, 0))
}

/// [`read`]s 8 bytes in a loop, see [`word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn long(at: u64) -> u64 {
    read(at, 0)
}

/// The time of now, ns of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Pid of the current process.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}
