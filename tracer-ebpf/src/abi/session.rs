//! Records about sessions: how one starts, and how its server learns that the leader died.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ConnId, EXE_LEN, Header, Proc, Progress, STREAMS, StreamNow};

/// The kind of kernel object that a stream is: [`StreamEnds::transport`].
pub mod transport {
    /// Not observed: closed, a file, a device.
    pub const NONE: u32 = 0;
    /// A pipe.
    pub const PIPE: u32 = 1;
    /// A unix socketpair.
    pub const UNIX: u32 = 2;
    /// A pty.
    pub const PTY: u32 = 3;
}

/// One stream of a session that starts.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamEnds {
    /// Inode number of the kernel object; 0 when there is none.
    pub object: u64,
    /// A [`transport`].
    pub transport: u32,
    /// Capacity in bytes; 0 when not known.
    pub capacity: u32,
}

/// See [`Kind::SessionStart`](super::Kind::SessionStart).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionStart {
    /// Time and kind.
    pub header: Header,
    /// Id of the session: see [`session_id`].
    pub session: u64,
    /// First process of the session; pid 0 when it had exited before the tracer began.
    pub leader: Proc,
    /// The process that made the streams and holds their server ends.
    pub server: Proc,
    /// Real user id of the leader.
    pub uid: u32,
    /// 1 when the session began before the tracer.
    pub preexisting: u32,
    /// User id that owns the server's executable file.
    pub owner: u32,
    /// Always 0.
    pub pad: u32,
    /// stdin, stdout, stderr.
    pub streams: [StreamEnds; STREAMS],
    /// The connection; all zero when it is not known.
    pub conn: ConnId,
    /// Progress of the connection before the session.
    pub progress: Progress,
    /// Base name of the server's executable.
    pub exe: [u8; EXE_LEN],
}

/// How far the server has learned of a leader's death: [`Chld::stage`].
pub mod chld {
    /// SIGCHLD was generated (`signal_generate`); the server may not have noticed yet.
    pub const GENERATED: u32 = 1;
    /// SIGCHLD was delivered to the server (`signal_deliver`).
    pub const DELIVERED: u32 = 2;
    /// The server reaped the leader (wait(2) returned its pid).
    pub const REAPED: u32 = 3;
}

/// See [`Kind::Chld`](super::Kind::Chld).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Chld {
    /// Time and kind.
    pub header: Header,
    /// The session whose leader died.
    pub session: u64,
    /// Pid of the server.
    pub server: u32,
    /// A stage of [`chld`].
    pub stage: u32,
    /// The session's streams at this moment.
    pub streams: [StreamNow; STREAMS],
}

/// A session's id: the leader's start in ms since boot and its pid. The two together are not reused
/// before the next boot (pids are below 2^22, `PID_MAX_LIMIT` of include/linux/threads.h).
#[must_use]
pub const fn session_id(leader: Proc) -> u64 {
    (leader.start / 1_000_000) << 22 | leader.pid as u64
}

/// The leader's pid in a [`session_id`].
#[must_use]
pub const fn session_pid(session: u64) -> u32 {
    (session & 0x3f_ffff) as u32
}
