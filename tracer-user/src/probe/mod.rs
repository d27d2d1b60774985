//! All contact with the kernel: BTF layout, loading, attaching, the ring, snapshots of /proc.
//!
//! Knows the record ABI and nothing of the model: what it learns goes down a [`RecordSink`] as records.

mod btf;
mod cgroup;
mod hooks;
mod host;
mod kernel_objects;
mod kretprobe;
mod layout;
mod load;
mod lookup_and_delete;
mod pins;
mod preemption;
mod scan;
mod skipped;
mod snapshot;
mod tables;
mod tracer;

use tracer_ebpf::role;

pub use btf::{Btf, BtfError};
pub use host::{Host, Lockdown, NEEDED, boottime};
pub use layout::{Missing, resolve};
pub use load::{Attempt, Backend, LoadError, Options, Past, Probes};
pub use pins::remove_all;
pub use tracer::{KnownSession, RecordSink, ResumeState, Tracer};

/// Executables that are recognised as SSH servers unless the user names more: what Debian packages
/// (openssh-server, dropbear-bin, tinysshd, libssh's and lsh's servers).
pub const SERVERS: &[&str] = &[
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dropbear",
    "dropbearmulti",
    "tinysshd",
    "lshd",
];

/// What an executable of this name is to the kernel side: a [`role`]. Those of [`SERVERS`] give every
/// session its stdin; of others that is not known.
fn role_of(name: &str) -> u32 {
    match SERVERS.contains(&name) {
        true => role::SERVER | role::GIVES_ALL,
        false => role::SERVER,
    }
}
