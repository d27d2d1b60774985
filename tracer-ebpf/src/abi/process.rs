//! Records about processes: fork, exec, exit, signals.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ARGV_LEN, COMM_LEN, EXE_LEN, Header, STREAMS, StreamEnds, StreamNow};

/// A process. The start time distinguishes it from other processes that had or will have the same pid.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Proc {
    /// Start of the thread group's leader, ns of `CLOCK_BOOTTIME` (`task_struct.start_boottime`).
    pub start: u64,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Always 0.
    pub pad: u32,
}

/// The role of a process, as bits: [`Fork::flags`], [`Exec::flags`], [`Exit::flags`],
/// [`Task::flags`](super::Task::flags).
pub mod role {
    /// It runs a server's executable.
    pub const SERVER: u32 = 1;
    /// It is the leader of its session.
    pub const LEADER: u32 = 2;
    /// It has exited. Its parent may not have reaped it yet.
    pub const EXITED: u32 = 4;
    /// It is a server that gives every session its stdin, stdout and stderr, as OpenSSH does. A
    /// child with fewer streams is no session but a subprocess of the server's own.
    pub const GIVES_ALL: u32 = 8;
}

/// See [`Kind::Fork`](super::Kind::Fork).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// Time and kind.
    pub header: Header,
    /// Session of the parent, which the child inherits; 0 for a server outside any session.
    pub session: u64,
    /// The process that forked.
    pub parent: Proc,
    /// The new process.
    pub child: Proc,
    /// [`role`] of the child.
    pub flags: u32,
    /// Real user id of the child.
    pub uid: u32,
    /// `comm` of the child.
    pub comm: [u8; COMM_LEN],
}

/// See [`Kind::Exec`](super::Kind::Exec) and [`Kind::Process`](super::Kind::Process).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// Time and kind.
    pub header: Header,
    /// Session of the process; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Pid of its parent.
    pub parent: u32,
    /// Real user id.
    pub uid: u32,
    /// [`role`] after the exec.
    pub flags: u32,
    /// Bytes of `argv` that are used.
    pub argv_len: u32,
    /// Bytes of the whole argument vector; more than `argv_len` when `argv` is cut.
    pub argv_full: u32,
    /// Always 0.
    pub pad: u32,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
    /// Base name of the executable file. It differs from `argv[0]` for symbolic links and scripts.
    pub exe: [u8; EXE_LEN],
    /// Arguments, each ended by a NUL.
    pub argv: [u8; ARGV_LEN],
}

/// See [`Kind::Exit`](super::Kind::Exit).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// Time and kind.
    pub header: Header,
    /// Session of the process; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Exit status, encoded as by wait(2).
    pub status: u32,
    /// [`role`] of the process.
    pub flags: u32,
    /// Of a leader: its session's streams at this moment.
    pub streams: [StreamNow; STREAMS],
    /// Of a process that dies of SIGHUP: inode number of the pipe that is its stdin, 0 for none.
    pub stdin_object: u64,
    /// Bytes that it leaves unread in that pipe.
    pub stdin_unread: u64,
    /// Of a process that dies of SIGHUP: its stdout, if that is a pipe or a terminal.
    pub stdout: StreamEnds,
}

/// See [`Kind::Signal`](super::Kind::Signal).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Signal {
    /// Time and kind.
    pub header: Header,
    /// Session of the target; 0 for a server outside any session.
    pub session: u64,
    /// The process that gets the signal.
    pub target: Proc,
    /// Signal number.
    pub signal: u32,
    /// Pid of the sender; that of the target for a fault.
    pub sender: u32,
    /// `comm` of the sender.
    pub comm: [u8; COMM_LEN],
}
