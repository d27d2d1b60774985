//! The tracer that sends the records.

use tracer_ebpf::{Start, backend};

/// How the running tracer was started, and what it can see.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::model) struct Env {
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub wall_offset: u64,
    /// How long a leader must be dead before its holders are reported, ns.
    pub grace: u64,
    /// How long a stream must stand still before that is a finding, ns.
    pub stall_after: u64,
    /// When the tracer started.
    pub started: u64,
    /// A close is seen when the kernel releases the object, so that nothing can follow it.
    pub exact_releases: bool,
    /// Every process that passes a file on over a unix socket is seen, not only members of sessions.
    pub all_handovers: bool,
}

impl Env {
    /// As the first record of a tracer says.
    pub const fn of(record: &Start) -> Self {
        let sees_objects = record.backend != backend::SYSCALL;
        Self {
            wall_offset: record.wall_offset,
            grace: record.grace,
            stall_after: record.stall_after,
            started: record.header.time,
            exact_releases: sees_objects,
            all_handovers: sees_objects,
        }
    }
}
