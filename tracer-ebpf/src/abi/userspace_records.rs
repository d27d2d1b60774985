//! Records from user space: about the tracing itself, and what it looked up or scanned. Two of them,
//! [`Holder`] and [`Socket`], are written by the kernel side's iterators when user space runs them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, ConnId, Header, Proc, Progress};

/// See [`Kind::Start`](super::Kind::Start).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Start {
    /// Time and kind.
    pub header: Header,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub wall_offset: u64,
    /// How long a leader must be dead before its holders are reported, ns.
    pub grace: u64,
    /// How long a stream must stand still before that is a finding, ns.
    pub stall_after: u64,
    /// Pid of the tracer.
    pub pid: u32,
    /// A [`backend`].
    pub backend: u32,
    /// Host name.
    pub host: [u8; 64],
    /// Kernel release.
    pub kernel: [u8; 64],
    /// Base names of servers' executables, each ended by a NUL.
    pub servers: [u8; 512],
    /// Id of the boot (/proc/sys/kernel/random/boot_id).
    pub boot: [u8; 40],
}

/// How the programs observe stream operations: [`Start::backend`].
pub mod backend {
    /// fentry and fexit on kernel functions.
    pub const FENTRY: u32 = 1;
    /// kprobes and kretprobes on kernel functions.
    pub const KPROBE: u32 = 2;
    /// Entry and exit of system calls.
    pub const SYSCALL: u32 = 3;
}

/// See [`Kind::Tick`](super::Kind::Tick).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tick {
    /// Time and kind.
    pub header: Header,
}

/// Why evidence was lost: index of [`Loss::counts`] and of the kernel side's loss counters.
pub mod loss {
    /// The ring buffer was full.
    pub const RING: u32 = 0;
    /// The table of processes was full.
    pub const TASKS: u32 = 1;
    /// The table of streams was full.
    pub const STREAMS: u32 = 2;
    /// The table of sessions was full.
    pub const SESSIONS: u32 = 3;
    /// The beginning or end of a call was not seen: the table of pending calls was full, or the
    /// kernel could not follow so many calls.
    pub const CALLS: u32 = 4;
    /// The kernel skipped a program because it was already running on that CPU.
    pub const SKIPPED: u32 = 5;
    /// Number of kinds.
    pub const KINDS: usize = 6;
}

/// See [`Kind::Loss`](super::Kind::Loss).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Loss {
    /// Time and kind.
    pub header: Header,
    /// Number of losses by [`loss`] kind since the previous record of this kind.
    pub counts: [u64; loss::KINDS],
}

/// See [`Kind::Resume`](super::Kind::Resume).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resume {
    /// Time and kind.
    pub header: Header,
    /// Time of the last record of the earlier tracer, ns of `CLOCK_BOOTTIME`; 0 when not known.
    pub since: u64,
    /// 1 when the programs kept running in between, and none of their records is missing.
    pub complete: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::SessionVanished`](super::Kind::SessionVanished).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionVanished {
    /// Time and kind.
    pub header: Header,
    /// The session.
    pub session: u64,
}

/// See [`Kind::User`](super::Kind::User).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct User {
    /// Time and kind.
    pub header: Header,
    /// User id.
    pub uid: u32,
    /// Always 0.
    pub pad: u32,
    /// Login name, NUL-padded, cut at 63 bytes.
    pub name: [u8; 64],
}

/// See [`Kind::ScanBegin`](super::Kind::ScanBegin) and [`Kind::ScanEnd`](super::Kind::ScanEnd).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Scan {
    /// Time and kind.
    pub header: Header,
    /// 1 at the end of a scan that could not see every process.
    pub partial: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::Holder`](super::Kind::Holder). The kernel side writes it to the iterator's output.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Holder {
    /// Time and kind.
    pub header: Header,
    /// Session of the stream; 0 for an object that is not (yet) tracked.
    pub session: u64,
    /// Address of the kernel object.
    pub key: u64,
    /// Inode number of the object.
    pub object: u64,
    /// The process.
    pub proc: Proc,
    /// Pid of its parent.
    pub parent: u32,
    /// Its pid in its own namespace.
    pub ns_pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Descriptor number: of the end itself, or of the socket or ring that it is reached [`via`].
    pub fd: u32,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// `FMODE_READ` 1, `FMODE_WRITE` 2.
    pub mode: u32,
    /// Address of the open file (`struct file`).
    pub file: u64,
    /// Capacity in bytes.
    pub capacity: u32,
    /// A [`transport`](super::transport).
    pub transport: u32,
    /// Address of the descriptor table (`struct files_struct`), which processes may share.
    pub files: u64,
    /// A [`via`].
    pub via: u32,
    /// Always 0.
    pub pad: u32,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
}

/// How a process holds an end: [`Holder::via`].
pub mod via {
    /// A descriptor of its own.
    pub const DESCRIPTOR: u32 = 0;
    /// A unix socket whose receive queue contains the end.
    pub const SOCKET: u32 = 1;
    /// An io_uring that the end is registered with.
    pub const RING: u32 = 2;
}

/// Bytes of a control group's path that a record keeps.
pub const CGROUP_LEN: usize = 512;

/// See [`Kind::Cgroup`](super::Kind::Cgroup).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cgroup {
    /// Time and kind.
    pub header: Header,
    /// The process.
    pub proc: Proc,
    /// Bytes of `path` that are used.
    pub len: u32,
    /// Always 0.
    pub pad: u32,
    /// Path from the root of the hierarchy; of a longer path, its end.
    pub path: [u8; CGROUP_LEN],
}

/// See [`Kind::ConnectionSiblings`](super::Kind::ConnectionSiblings).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConnectionSiblings {
    /// Time and kind.
    pub header: Header,
    /// The session.
    pub session: u64,
    /// Number of other sessions on its connection.
    pub others: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::Socket`](super::Kind::Socket). The kernel side writes it to the iterator's output.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Socket {
    /// Time and kind.
    pub header: Header,
    /// Session of the process; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Pid of its parent.
    pub parent: u32,
    /// Its pid in its own namespace.
    pub ns_pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Descriptor number.
    pub fd: u32,
    /// State (`TCP_*` of include/net/tcp_states.h).
    pub state: u32,
    /// Always 0.
    pub pad: u32,
    /// Addresses and ports.
    pub conn: ConnId,
    /// Progress at this moment.
    pub progress: Progress,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
}
