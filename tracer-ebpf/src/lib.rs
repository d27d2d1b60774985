//! The record ABI: what the kernel side and user space say to each other.
//!
//! Every [record](Kind) is one fixed-layout, padding-free struct that begins with a [`Header`].
//! The kernel side writes them to the ring buffer, user space adds its own (snapshots, samples,
//! ticks) and everything travels one road; a recording is nothing but these bytes.
//! Times are nanoseconds of `CLOCK_BOOTTIME`, sizes are bytes, pids are those of the initial pid
//! namespace and name thread groups.
#![no_std]

mod config;
mod connection;
mod layout;
mod tables;
mod userspace_records;

pub use config::{Config, Sys};
pub use connection::{Conn, ConnId, Progress, X11_PORTS};
pub use layout::{Layout, Member, OPTIONAL};
pub use tables::{Session, StreamState, Task, legacy, told};
pub use userspace_records::{
    CGROUP_LEN, Cgroup, ConnectionSiblings, Holder, Loss, Resume, Scan, SessionVanished, Socket,
    Start, Tick, User, backend, loss, via,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Changes whenever a record's layout or meaning does; a recording of another version is refused.
pub const ABI_VERSION: u32 = 3;

/// Changes whenever the tables' layout or meaning does, so that no tracer goes on with another's.
pub const TABLES_VERSION: u32 = 4;

/// Length of a kernel `comm` (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;
/// Longest base name of a server executable that the kernel side compares.
pub const EXE_LEN: usize = 32;
/// Bytes of an argument vector that are kept of each exec.
pub const ARGV_LEN: usize = 512;
/// Streams of a session: stdin, stdout, stderr.
pub const STREAMS: usize = 3;
/// Size of the ring buffer in bytes unless the user chose another.
pub const RING_BYTES: u32 = 8 << 20;

macro_rules! records {
    ($($(#[$doc:meta])* $kind:ident = $n:literal => $body:ident),+ $(,)?) => {
        /// What a record tells. Numbers are part of the ABI and never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $kind = $n),+ }

        impl Kind {
            /// The kind a header's number stands for, if it is one.
            #[must_use]
            pub const fn of(raw: u16) -> Option<Self> {
                match raw { $($n => Some(Self::$kind),)+ _ => None }
            }

            /// Every kind, in order.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Size in bytes of a record of this kind, header included.
            #[must_use]
            pub const fn size(self) -> usize {
                match self { $(Self::$kind => size_of::<$body>()),+ }
            }
        }

        /// A decoded record.
        #[derive(Clone, Copy, Debug)]
        pub enum Record<'a> { $($(#[$doc])* $kind(&'a $body)),+ }

        impl<'a> Record<'a> {
            /// Decodes the record at the start of `bytes`; `None` when the kind is unknown, the
            /// size is not the kind's own, or the bytes are not aligned to 8.
            #[must_use]
            pub fn decode(bytes: &'a [u8]) -> Option<Self> {
                let (header, _) = Header::ref_from_prefix(bytes).ok()?;
                let kind = Kind::of(header.kind)?;
                if header.size as usize != kind.size() || bytes.len() != kind.size() {
                    return None;
                }
                Some(match kind { $(Kind::$kind => Self::$kind($body::ref_from_bytes(bytes).ok()?)),+ })
            }

            /// Time and kind.
            #[must_use]
            pub const fn header(&self) -> &'a Header {
                match self { $(Self::$kind(r) => &r.header),+ }
            }

            /// The bytes that were decoded.
            #[must_use]
            pub fn bytes(&self) -> &'a [u8] {
                match self { $(Self::$kind(r) => r.as_bytes()),+ }
            }
        }
    };
}

records! {
    /// A tracked process forked. Threads are not told.
    Fork = 1 => Fork,
    /// A tracked process executed a program, or one that became tracked by doing so.
    Exec = 2 => Exec,
    /// A tracked process exits; its descriptors are still open.
    Exit = 3 => Exit,
    /// A server's child took stream ends of its server as its stdin, stdout, stderr.
    SessionStart = 4 => SessionStart,
    /// The kernel tells the server that a leader has died.
    Chld = 5 => Chld,
    /// A signal that may end its target was sent to a tracked process.
    Signal = 6 => Signal,
    /// A stream passed an edge.
    Stream = 7 => Stream,
    /// The server's TCP connection changed state.
    Conn = 8 => Conn,
    /// A session's end of a stream was sent over a unix socket, or received from one.
    Passed = 9 => Passed,

    /// User space: what follows was recorded here, so. First of every recording.
    Start = 32 => Start,
    /// User space: the ring was empty after every record before this one; time has come this far.
    Tick = 33 => Tick,
    /// User space: the kernel side could not deliver this many records.
    Loss = 34 => Loss,
    /// User space: the name of a user.
    User = 35 => User,
    /// User space: a scan for the holders of every stream begins.
    ScanBegin = 36 => Scan,
    /// User space: an open stream end that the scan found.
    Holder = 37 => Holder,
    /// User space: the scan is complete.
    ScanEnd = 38 => Scan,
    /// User space: a process that was there before the tracer.
    Process = 39 => Exec,
    /// User space: the start-up snapshot is complete; from here on everything is seen.
    Ready = 40 => Tick,
    /// User space: a TCP socket that the scan found: a server's, be it its sessions' connection or
    /// one that keeps that open; a member's that is connected to an X11 display.
    Socket = 41 => Socket,
    /// User space: the control group of a holder.
    Cgroup = 42 => Cgroup,
    /// User space: the tracer was away, and goes on now.
    Resume = 43 => Resume,
    /// User space: a session that was open when the tracer went is no more.
    SessionVanished = 44 => SessionVanished,
    /// User space: how many other sessions a session's connection carries. Only among the records of
    /// one session that are kept apart from the others'.
    ConnectionSiblings = 45 => ConnectionSiblings,
}

/// Begins every record.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// When, in ns of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// A [`Kind`].
    pub kind: u16,
    /// Size of the whole record in bytes.
    pub size: u16,
    /// CPU it was written on; 0 for records of user space.
    pub cpu: u32,
}

/// A process: a pid alone names several over time.
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

/// Who a process is to us: [`Fork::flags`], [`Exec::flags`], [`Exit::flags`].
pub mod role {
    /// Its executable is a server's.
    pub const SERVER: u32 = 1;
    /// It is the leader of its session.
    pub const LEADER: u32 = 2;
    /// It has exited, its parent may not have reaped it.
    pub const EXITED: u32 = 4;
    /// A server that gives every session its stdin, stdout and stderr, as OpenSSH does: what has less
    /// from it is a helper of its own.
    pub const GIVES_ALL: u32 = 8;
}

/// See [`Kind::Fork`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// Time and kind.
    pub header: Header,
    /// Session of the parent, inherited by the child; 0 for a server outside any session.
    pub session: u64,
    /// Who forked.
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

/// See [`Kind::Exec`] and [`Kind::Process`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// Time and kind.
    pub header: Header,
    /// Its session; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Its parent's pid.
    pub parent: u32,
    /// Real user id.
    pub uid: u32,
    /// [`role`] after the exec.
    pub flags: u32,
    /// Bytes of `argv` that are used.
    pub argv_len: u32,
    /// Bytes that the argument vector has in the process; more than `argv_len` when cut.
    pub argv_full: u32,
    /// Always 0.
    pub pad: u32,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
    /// Base name of the executable file, not of what was asked for.
    pub exe: [u8; EXE_LEN],
    /// Arguments, each ended by a NUL.
    pub argv: [u8; ARGV_LEN],
}

/// See [`Kind::Exit`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// Time and kind.
    pub header: Header,
    /// Its session; 0 for a server outside any session.
    pub session: u64,
    /// The process.
    pub proc: Proc,
    /// Status in the form of wait(2).
    pub status: u32,
    /// [`role`].
    pub flags: u32,
    /// For a leader: its streams at this moment.
    pub streams: [StreamNow; STREAMS],
    /// For a process that dies of a hangup: inode number of the pipe that is its stdin.
    pub stdin_object: u64,
    /// Bytes that it leaves unread there.
    pub stdin_unread: u64,
    /// What its stdout is then, if that is a pipe or a terminal.
    pub stdout: StreamEnds,
}

/// A stream at one moment.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamNow {
    /// Bytes in the kernel object.
    pub unread: u64,
    /// Bytes written so far.
    pub written: u64,
    /// Bytes read so far.
    pub read: u64,
}

/// What a stream is made of: [`StreamEnds::transport`].
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

/// One stream of a starting session.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamEnds {
    /// Inode number of the kernel object; 0 when there is none.
    pub object: u64,
    /// A [`transport`].
    pub transport: u32,
    /// Capacity in bytes.
    pub capacity: u32,
}

/// See [`Kind::SessionStart`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionStart {
    /// Time and kind.
    pub header: Header,
    /// The session's id: see [`session_id`].
    pub session: u64,
    /// First process of the session; pid 0 when it had exited before the tracer began.
    pub leader: Proc,
    /// The process that made the streams and keeps their server ends.
    pub server: Proc,
    /// Real user id of the leader.
    pub uid: u32,
    /// 1 when the session began before the tracer.
    pub preexisting: u32,
    /// User id of whom the server's executable file belongs to.
    pub owner: u32,
    /// Always 0.
    pub pad: u32,
    /// stdin, stdout, stderr.
    pub streams: [StreamEnds; STREAMS],
    /// The connection, all zero when it is not known.
    pub conn: ConnId,
    /// What had been sent on it before the session.
    pub progress: Progress,
    /// Base name of the server's executable.
    pub exe: [u8; EXE_LEN],
}

/// How far the news of a death has come: [`Chld::stage`].
pub mod chld {
    /// SIGCHLD was generated (`signal_generate`), the server may not have noticed.
    pub const GENERATED: u32 = 1;
    /// SIGCHLD was delivered to the server (`signal_deliver`).
    pub const DELIVERED: u32 = 2;
    /// The server reaped the leader (wait(2) gave its pid).
    pub const REAPED: u32 = 3;
}

/// See [`Kind::Chld`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Chld {
    /// Time and kind.
    pub header: Header,
    /// The session whose leader died.
    pub session: u64,
    /// The server's pid.
    pub server: u32,
    /// A stage of [`chld`].
    pub stage: u32,
    /// The session's streams at this moment.
    pub streams: [StreamNow; STREAMS],
}

/// See [`Kind::Signal`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Signal {
    /// Time and kind.
    pub header: Header,
    /// Session of the target; 0 for a server outside any session.
    pub session: u64,
    /// Who gets it.
    pub target: Proc,
    /// Signal number.
    pub signal: u32,
    /// Pid of the sender; the target itself for a fault.
    pub sender: u32,
    /// `comm` of the sender.
    pub comm: [u8; COMM_LEN],
}

/// What happened to a stream: [`Stream::edge`].
pub mod edge {
    /// First bytes were written.
    pub const FIRST_WRITE: u32 = 1;
    /// First bytes were read.
    pub const FIRST_READ: u32 = 2;
    /// The reader was told end-of-file (a read of 0 bytes).
    pub const EOF: u32 = 3;
    /// The last write end was released.
    pub const WRITERS_GONE: u32 = 4;
    /// The server's own end was released (closed, or its process ended).
    pub const SERVER_CLOSE: u32 = 5;
    /// The last session end was released: for stdin what `unread` tells was not wanted.
    pub const SESSION_CLOSE: u32 = 6;
    /// A write failed because no reader is left; `bytes` is what it tried to write.
    pub const EPIPE: u32 = 7;
    /// User space read the counters.
    pub const SAMPLE: u32 = 8;
    /// A process that is no server read from an output; `bytes` is what it got that first time, `pid`
    /// and `comm` are its own.
    pub const TAKEN: u32 = 9;
}

/// See [`Kind::Stream`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stream {
    /// Time and kind.
    pub header: Header,
    /// The session.
    pub session: u64,
    /// Inode number of the object.
    pub object: u64,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// What happened: an [`edge`].
    pub edge: u32,
    /// Pid of who did it.
    pub pid: u32,
    /// 1 when it did so by ending.
    pub exiting: u32,
    /// Bytes in the object, read from the object itself; for samples written minus read.
    pub unread: u64,
    /// Bytes of the operation, where it has any.
    pub bytes: u64,
    /// Open files that may read, this one included.
    pub readers: u32,
    /// Open files that may write, this one included.
    pub writers: u32,
    /// References to the open file that is being closed, where that is seen: descriptors that
    /// other processes inherited keep it open.
    pub refs: u32,
    /// 1 when some of what was written was packets (`O_DIRECT`, pipe(2)): what a read had no room for
    /// is in no count.
    pub packets: u32,
    /// Everything counted so far.
    pub counters: Counters,
    /// How far the connection has come; all zero when it is not known or gone.
    pub progress: Progress,
    /// What the server had queued on the connection when it last read from the stream.
    pub mark: u64,
    /// Bytes that it has read since the connection was last written to before that.
    pub held: u64,
    /// `comm` of who did it.
    pub comm: [u8; COMM_LEN],
}

/// Sums of a stream's reads and writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Bytes written.
    pub written: u64,
    /// Bytes read; of an output by its server.
    pub read: u64,
    /// Bytes of an output that somebody else read.
    pub taken: u64,
    /// Successful writes.
    pub writes: u64,
    /// Reads that gave bytes.
    pub reads: u64,
    /// First write, ns of `CLOCK_BOOTTIME`; 0 for never. So the next three.
    pub first_write: u64,
    /// Last write.
    pub last_write: u64,
    /// First read.
    pub first_read: u64,
    /// Last read that gave bytes.
    pub last_read: u64,
    /// Since when a writer has been waiting for room; 0 when none has since the last read.
    pub blocked_since: u64,
    /// Most bytes seen in the object after a write.
    pub high_water: u64,
}

/// Which half of a handover it is: [`Passed::way`].
pub mod way {
    /// A message with it was made; it may be received by whoever has the other socket.
    pub const SENT: u32 = 1;
    /// Its receiver is about to get a descriptor for it.
    pub const RECEIVED: u32 = 2;
}

/// See [`Kind::Passed`]. Of one process, one file and one way only the first is told.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Passed {
    /// Time and kind.
    pub header: Header,
    /// The session whose end it is.
    pub session: u64,
    /// Who sent or received it.
    pub proc: Proc,
    /// Address of the open file (`struct file`).
    pub file: u64,
    /// A [`way`].
    pub way: u32,
    /// Of a message: pid of the process that made the other socket, or listens for it; 0 when not
    /// known.
    pub peer: u32,
    /// `comm`.
    pub comm: [u8; COMM_LEN],
}

/// A session's id: the leader's start in ms since boot and its pid, which together are not reused
/// before the next boot (pids are below 2^22, `PID_MAX_LIMIT` of include/linux/threads.h).
#[must_use]
pub const fn session_id(leader: Proc) -> u64 {
    (leader.start / 1_000_000) << 22 | leader.pid as u64
}

/// The pid in a [`session_id`].
#[must_use]
pub const fn session_pid(session: u64) -> u32 {
    (session & 0x3f_ffff) as u32
}

macro_rules! impl_body {
    ($($body:ident),+) => { $(
        const _: () = assert!(size_of::<$body>() % 8 == 0 && align_of::<$body>() == 8);
        impl Body for $body {}
    )+ };
}

/// A struct that is a record: begins with a [`Header`], a multiple of 8 bytes, no padding.
pub trait Body: IntoBytes + FromBytes + Immutable + KnownLayout {}
impl_body!(
    Fork,
    Exec,
    Exit,
    SessionStart,
    Chld,
    Signal,
    Stream,
    Conn,
    Passed,
    Start,
    Tick,
    Loss,
    User,
    Scan,
    Holder,
    Socket,
    Cgroup,
    Resume,
    SessionVanished,
    ConnectionSiblings
);

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(core::mem::offset_of!(Exec, argv) == 112);
    assert!(size_of::<Stream>() == 232);
    assert!(size_of::<Counters>() == 88);
};
