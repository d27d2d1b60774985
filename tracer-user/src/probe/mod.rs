//! All contact with the kernel: its type information, loading and attaching the programs, the ring
//! buffer, snapshots of /proc.
//!
//! The module knows the record ABI and nothing of the model. Everything that it learns goes to a
//! [`RecordSink`] as a record. Commands and the daemon use [`Tracer`]; `doctor` uses [`Probes`].
//!
//! From the bottom up: `btf`, `layout`, `preemption` and `host` ask the kernel what it is; `object`,
//! `backend` and `hooks` say which programs there are; `pins`, `kernel_objects`, `kretprobe` and
//! `tables` hold what is in the kernel; `loader` loads one backend and `load` chooses it; `scan`,
//! `snapshot`, `cgroup` and `skipped` look things up; `tracer` puts all of it together.

mod backend;
mod btf;
mod cgroup;
mod hooks;
mod host;
mod kernel_objects;
mod kretprobe;
mod layout;
mod load;
mod loader;
mod lookup_and_delete;
mod object;
mod pins;
mod preemption;
mod scan;
mod sink;
mod skipped;
mod snapshot;
mod tables;
mod tracer;

use tracer_ebpf::role;

pub use backend::Backend;
pub use btf::{Btf, BtfError};
pub use host::{Host, Lockdown, NEEDED, boottime};
pub use layout::{Missing, resolve};
pub use load::{Attempt, LoadError, Options, Past, Probes};
pub use loader::BackendError;
pub use pins::remove_all;
pub use sink::{KnownSession, RecordSink, ResumeState};
pub use tracer::Tracer;

/// Names of executables that are SSH servers, unless the user adds more. They are those of Debian's
/// packages: openssh-server, dropbear-bin, tinysshd, libssh's and lsh's servers.
pub const SERVERS: &[&str] = &[
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dropbear",
    "dropbearmulti",
    "tinysshd",
    "lshd",
];

/// The [`role`] of a server with this executable. Those of [`SERVERS`] give every session a stdin;
/// of others that is not known.
fn role_of(name: &str) -> u32 {
    match SERVERS.contains(&name) {
        true => role::SERVER | role::GIVES_ALL,
        false => role::SERVER,
    }
}
