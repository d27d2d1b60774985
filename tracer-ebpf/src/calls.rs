//! Pending calls: what a program must know about the beginning of a call when the call ends, by
//! thread.
//!
//! Each backend uses one of the structs of this module: `kprobe` [`SavedArgs`], `fentry` (only where
//! programs have backups) [`HandledReturn`], and `syscall` [`Syscall`]. The traced functions do not
//! call one another, so a thread has at most one pending call.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, macros::map, maps::HashMap};
use tracer_ebpf::loss;

use crate::emit::count_loss;

/// The arguments of a kernel function, for the kretprobe, which gets only the result.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SavedArgs {
    /// The function: see [`crate::functions::function_id`].
    pub function: u64,
    /// Its first three arguments.
    pub args: [u64; 3],
}

/// The last return that was handled, so that the backup program does not handle it again.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HandledReturn {
    /// The function: see [`crate::functions::function_id`].
    pub function: u64,
    /// What it returned.
    pub result: u64,
    /// The [`crate::functions::Program`] that handled the return.
    pub by: u64,
    /// Always 0.
    pub pad: u64,
}

/// A system call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Syscall {
    /// An [`operation`].
    pub operation: u64,
    /// Of a read or write: key of the stream. Of a call that makes a pair of descriptors: address of
    /// the user's array for them. Otherwise 0.
    pub target: u64,
    /// Of a write(2) or sendto(2): number of bytes to write. Otherwise 0.
    pub len: u64,
    /// The [`crate::functions::Program`] that saw the call begin.
    pub by: u64,
}

/// Kinds of system calls: [`Syscall::operation`].
pub mod operation {
    pub const READ: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const PIPE: u64 = 3;
    pub const WAIT: u64 = 4;
    pub const SOCKETPAIR: u64 = 5;
    pub const CLOSE: u64 = 6;
}

/// A pending call. Only the programs of one backend use the map at a time, and all of them use the
/// same variant. An entry that another backend left does not match by its first word.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Call {
    saved_args: SavedArgs,
    handled_return: HandledReturn,
    syscall: Syscall,
}

impl Call {
    #[inline(always)]
    pub fn saved_args(self) -> SavedArgs {
        // SAFETY: all variants are four numbers.
        unsafe { self.saved_args }
    }

    #[inline(always)]
    pub fn handled_return(self) -> HandledReturn {
        // SAFETY: all variants are four numbers.
        unsafe { self.handled_return }
    }

    #[inline(always)]
    pub fn syscall(self) -> Syscall {
        // SAFETY: all variants are four numbers.
        unsafe { self.syscall }
    }
}

impl From<SavedArgs> for Call {
    #[inline(always)]
    fn from(saved_args: SavedArgs) -> Self {
        Self { saved_args }
    }
}

impl From<HandledReturn> for Call {
    #[inline(always)]
    fn from(handled_return: HandledReturn) -> Self {
        Self { handled_return }
    }
}

impl From<Syscall> for Call {
    #[inline(always)]
    fn from(syscall: Syscall) -> Self {
        Self { syscall }
    }
}

/// Pending calls by thread (pid and tid as of `bpf_get_current_pid_tgid`).
#[map]
static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(65_536, 0);

/// The current thread begins a call. An older entry of the thread is overwritten.
#[inline(always)]
pub fn begin(call: impl Into<Call>) {
    let call: Call = call.into();
    if CALLS
        .insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY))
        .is_err()
    {
        count_loss(loss::CALLS);
    }
}

/// The current thread's pending call.
#[inline(always)]
pub fn pending() -> Option<Call> {
    // SAFETY: only this thread uses its entry.
    unsafe { CALLS.get(bpf_get_current_pid_tgid()) }.copied()
}

/// Removes and returns the current thread's pending call, which ends now.
#[inline(always)]
pub fn end() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread uses its entry.
    let call = unsafe { CALLS.get(thread) }.copied()?;
    let _ = CALLS.remove(thread);
    Some(call)
}
