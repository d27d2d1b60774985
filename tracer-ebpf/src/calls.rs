//! Calls under way: what a call's end needs to know of its beginning, kept by thread.
//!
//! For the backends that see the two apart: system calls, and kernel functions by kprobes; and for
//! programs with twins. What is followed calls nothing else that is, so a thread is in one call at most.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, macros::map, maps::HashMap};
use tracer_ebpf::loss;

use crate::emit::lost;

/// A call under way.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// What is called; each backend has its own numbers.
    pub what: u64,
    /// What is kept of its arguments.
    pub args: [u64; 3],
}

/// Calls under way by thread.
#[map]
static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(65_536, 0);

/// The current thread begins a call; one that it began before has ended.
#[inline(always)]
pub fn begin(what: u64, args: [u64; 3]) {
    let call = Call { what, args };
    if CALLS
        .insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY))
        .is_err()
    {
        lost(loss::CALLS);
    }
}

/// The call that the current thread has begun.
#[inline(always)]
pub fn under_way() -> Option<Call> {
    // SAFETY: only this thread uses its entry.
    unsafe { CALLS.get(bpf_get_current_pid_tgid()) }.copied()
}

/// The call that the current thread has begun, which ends now.
#[inline(always)]
pub fn end() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread uses its entry.
    let call = unsafe { CALLS.get(thread) }.copied()?;
    let _ = CALLS.remove(thread);
    Some(call)
}
