//! Records that user space adds to those of the kernel side: what it looked up, scanned, or knows of the
//! tracing itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{COMM_LEN, ConnId, Header, Proc, Progress};

/// See [`Kind::Start`](crate::Kind::Start).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Start {
    /// Time and kind.
    pub header: Header,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub wall_offset: u64,
    /// How long a leader must be dead before its holders are told, ns.
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
    /// Base names of server executables, each ended by a NUL.
    pub servers: [u8; 512],
    /// The boot's id (/proc/sys/kernel/random/boot_id).
    pub boot: [u8; 40],
}

/// How stream operations are observed: [`Start::backend`].
pub mod backend {
    /// fentry and fexit on the pipe functions.
    pub const FENTRY: u32 = 1;
    /// kprobes and kretprobes on the pipe functions.
    pub const KPROBE: u32 = 2;
    /// Entry and exit of system calls.
    pub const SYSCALL: u32 = 3;
}

/// See [`Kind::Tick`](crate::Kind::Tick).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tick {
    /// Time and kind.
    pub header: Header,
}

/// Where evidence was lost: index of [`Loss::counts`] and of the kernel side's loss counters.
pub mod loss {
    /// The ring buffer was full.
    pub const RING: u32 = 0;
    /// The table of processes was full.
    pub const TASKS: u32 = 1;
    /// The table of streams was full.
    pub const STREAMS: u32 = 2;
    /// The table of sessions was full.
    pub const SESSIONS: u32 = 3;
    /// A call's beginning or end was not seen: the table of calls under way was full, or the
    /// kernel could not follow as many.
    pub const CALLS: u32 = 4;
    /// The kernel skipped a program, since it was running on that CPU already.
    pub const SKIPPED: u32 = 5;
    /// How many there are.
    pub const KINDS: usize = 6;
}

/// See [`Kind::Loss`](crate::Kind::Loss).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Loss {
    /// Time and kind.
    pub header: Header,
    /// New losses by [`loss`] kind since the last such record.
    pub counts: [u64; loss::KINDS],
}

/// See [`Kind::Resume`](crate::Kind::Resume).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resume {
    /// Time and kind.
    pub header: Header,
    /// When the last record before was; 0 when that is not known.
    pub since: u64,
    /// 1 when the programs went on meanwhile, and all that they told is here.
    pub complete: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::SessionVanished`](crate::Kind::SessionVanished).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionVanished {
    /// Time and kind.
    pub header: Header,
    /// Which.
    pub session: u64,
}

/// See [`Kind::User`](crate::Kind::User).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct User {
    /// Time and kind.
    pub header: Header,
    /// User id.
    pub uid: u32,
    /// Always 0.
    pub pad: u32,
    /// Login name, cut at 64 bytes.
    pub name: [u8; 64],
}

/// See [`Kind::ScanBegin`](crate::Kind::ScanBegin) and [`Kind::ScanEnd`](crate::Kind::ScanEnd).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Scan {
    /// Time and kind.
    pub header: Header,
    /// 1 at the end of a scan that could not see everything.
    pub partial: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::Holder`](crate::Kind::Holder). The kernel side writes it to the iterator's output.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Holder {
    /// Time and kind.
    pub header: Header,
    /// The session that the stream belongs to; 0 for an object that is not (yet) tracked.
    pub session: u64,
    /// Address of the kernel object.
    pub key: u64,
    /// Inode number of the object.
    pub object: u64,
    /// The process.
    pub proc: Proc,
    /// Its parent's pid.
    pub parent: u32,
    /// Its pid in its own namespace.
    pub ns_pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Descriptor number: of the end itself, or of what it is to be had [`via`].
    pub fd: u32,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// `FMODE_READ` 1, `FMODE_WRITE` 2.
    pub mode: u32,
    /// Address of the open file (`struct file`).
    pub file: u64,
    /// Capacity in bytes.
    pub capacity: u32,
    /// A [`transport`](crate::transport).
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

/// What a holder has an end through: [`Holder::via`].
pub mod via {
    /// A descriptor of its own.
    pub const DESCRIPTOR: u32 = 0;
    /// A unix socket, in whose queue the end waits to be received.
    pub const SOCKET: u32 = 1;
    /// An io_uring, which the end is registered with.
    pub const RING: u32 = 2;
}

/// Bytes of a control group's path that are kept.
pub const CGROUP_LEN: usize = 512;

/// See [`Kind::Cgroup`](crate::Kind::Cgroup).
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
    /// Its path from the root of the hierarchy, or the end of a longer one.
    pub path: [u8; CGROUP_LEN],
}

/// See [`Kind::ConnectionSiblings`](crate::Kind::ConnectionSiblings).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConnectionSiblings {
    /// Time and kind.
    pub header: Header,
    /// The session.
    pub session: u64,
    /// How many others.
    pub others: u32,
    /// Always 0.
    pub pad: u32,
}

/// See [`Kind::Socket`](crate::Kind::Socket). The kernel side writes it to the iterator's output.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Socket {
    /// Time and kind.
    pub header: Header,
    /// Session of the process; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Its parent's pid.
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
    /// Its two ends.
    pub conn: ConnId,
    /// How far it has come.
    pub progress: Progress,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
}
