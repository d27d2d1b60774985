//! The kinds of records, their common header, and how to decode them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    Cgroup, Chld, Conn, ConnectionSiblings, Counters, Exec, Exit, Fork, Holder, Loss, Passed,
    Resume, Scan, SessionStart, SessionVanished, Signal, Socket, Start, Stream, Tick, User,
};

macro_rules! records {
    ($($(#[$doc:meta])* $kind:ident = $n:literal => $body:ident),+ $(,)?) => {
        /// The kind of a record. Numbers are part of the ABI and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $kind = $n),+ }

        impl Kind {
            /// The kind with this number; `None` when there is none.
            #[must_use]
            pub const fn of(raw: u16) -> Option<Self> {
                match raw { $($n => Some(Self::$kind),)+ _ => None }
            }

            /// All kinds, by number.
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
            /// Decodes `bytes`, which must be exactly one record. `None` when the kind is unknown,
            /// the size is not that of the kind, or the bytes are not aligned to 8.
            #[must_use]
            pub fn decode(bytes: &'a [u8]) -> Option<Self> {
                let (header, _) = Header::ref_from_prefix(bytes).ok()?;
                let kind = Kind::of(header.kind)?;
                if header.size as usize != kind.size() || bytes.len() != kind.size() {
                    return None;
                }
                Some(match kind { $(Kind::$kind => Self::$kind($body::ref_from_bytes(bytes).ok()?)),+ })
            }

            /// Its header: time and kind.
            #[must_use]
            pub const fn header(&self) -> &'a Header {
                match self { $(Self::$kind(r) => &r.header),+ }
            }

            /// The bytes that it was decoded from.
            #[must_use]
            pub fn bytes(&self) -> &'a [u8] {
                match self { $(Self::$kind(r) => r.as_bytes()),+ }
            }
        }
    };
}

records! {
    /// A tracked process forked. Threads are not reported.
    Fork = 1 => Fork,
    /// A tracked process executed a program, or a process became tracked by executing a server.
    Exec = 2 => Exec,
    /// A tracked process exits; its descriptors are still open.
    Exit = 3 => Exit,
    /// A child of a server has ends of its server's streams as stdin, stdout or stderr.
    SessionStart = 4 => SessionStart,
    /// The server learns that a leader has died.
    Chld = 5 => Chld,
    /// A signal that may end its target was sent to a tracked process.
    Signal = 6 => Signal,
    /// Something happened to a stream: an [`edge`](super::edge).
    Stream = 7 => Stream,
    /// The TCP connection of a session changed state.
    Conn = 8 => Conn,
    /// An end of a session's stream was sent over a unix socket, or received from one.
    Passed = 9 => Passed,

    /// From user space: where and how the following records were recorded. The first record of
    /// every recording.
    Start = 32 => Start,
    /// From user space: the ring buffer was empty at this time, so every earlier record has come.
    Tick = 33 => Tick,
    /// From user space: the kernel side could not deliver this many records.
    Loss = 34 => Loss,
    /// From user space: the name of a user.
    User = 35 => User,
    /// From user space: a scan for the holders of all streams begins.
    ScanBegin = 36 => Scan,
    /// From user space: the scan found an open end of a stream.
    Holder = 37 => Holder,
    /// From user space: the scan is complete.
    ScanEnd = 38 => Scan,
    /// From user space: a process that began before the tracer.
    Process = 39 => Exec,
    /// From user space: the start-up snapshot is complete. From here on the tracer sees everything.
    Ready = 40 => Tick,
    /// From user space: the scan found a TCP socket. Either a server's (the connection of its
    /// sessions, or a forward that keeps the connection open), or a session member's that is
    /// connected to an X11 display.
    Socket = 41 => Socket,
    /// From user space: the control group of a holder.
    Cgroup = 42 => Cgroup,
    /// From user space: a new tracer continues after an earlier one.
    Resume = 43 => Resume,
    /// From user space: a session that was open when the earlier tracer stopped has ended.
    SessionVanished = 44 => SessionVanished,
    /// From user space: how many other sessions share a session's connection. Written only when the
    /// records of one session are stored apart from those of the others.
    ConnectionSiblings = 45 => ConnectionSiblings,
}

/// The beginning of every record.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Time of the event, ns of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Number of a [`Kind`].
    pub kind: u16,
    /// Size of the whole record in bytes.
    pub size: u16,
    /// CPU that the event happened on; 0 for records from user space.
    pub cpu: u32,
}

impl Header {
    /// The header of a record from user space, or from an iterator that user space runs.
    #[must_use]
    pub const fn new(kind: Kind, time: u64) -> Self {
        Self {
            time,
            kind: kind as u16,
            size: kind.size() as u16,
            cpu: 0,
        }
    }
}

macro_rules! impl_body {
    ($($body:ident),+) => { $(
        const _: () = assert!(size_of::<$body>() % 8 == 0 && align_of::<$body>() == 8);
        impl Body for $body {}
    )+ };
}

/// A struct that is a record: it begins with a [`Header`], its size is a multiple of 8 bytes, and
/// it has no padding.
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
