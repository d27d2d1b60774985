//! Values of the kernel side's tables, for user space to seed and sample.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Counters, STREAMS};

/// What is known of a process, by pid, from its fork or exec to the moment it is freed.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Task {
    /// Its session; 0 for a server outside any session.
    pub session: u64,
    /// Start of the process, ns of `CLOCK_BOOTTIME`: tells it from a later one of the same pid.
    pub start: u64,
    /// [`role`](crate::role).
    pub flags: u32,
    /// `self_exec_id` (include/linux/sched.h) at the last exec that was told, modulo 2^32.
    pub execs: u32,
}

/// A session, by id.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Session {
    /// Addresses of its streams' objects, 0 for none: keys of the stream table.
    pub streams: [u64; STREAMS],
    /// Pid of its leader.
    pub leader: u32,
    /// Pid of its server.
    pub server: u32,
}

/// A stream, by the address of its kernel object. It begins when a server makes the object and
/// belongs to a session once a child of that server has it as stdin, stdout or stderr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamState {
    /// Its session; 0 while it has none.
    pub session: u64,
    /// Inode number: tells the object from a later one at the same address.
    pub object: u64,
    /// Who reads from the object as it was made: address of a pipe's open file, of a socket, of
    /// a tty.
    pub reader: u64,
    /// Who writes to it, in the same way.
    pub writer: u64,
    /// Pid of the server that made it.
    pub server: u32,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// What is set of [`told`]. A byte each: two CPUs that set two bits of one word at once can lose one.
    pub told: [u8; told::ENTRIES],
    /// Writes that failed for want of a reader.
    pub epipes: u32,
    /// What the object is: a [`transport`](crate::transport).
    pub transport: u32,
    /// `write_seq` of `conn` at the last read.
    pub mark: u32,
    /// Address of the socket to the client, 0 while it is not known; of outputs only.
    pub conn: u64,
    /// Bytes read since `conn` was last written to.
    pub held: u64,
    /// Sums.
    pub counters: Counters,
}

impl StreamState {
    /// Nothing is known of it.
    pub const NEW: Self = Self {
        session: 0,
        object: 0,
        reader: 0,
        writer: 0,
        server: 0,
        slot: 0,
        told: [0; told::ENTRIES],
        epipes: 0,
        transport: 0,
        mark: 0,
        conn: 0,
        held: 0,
        counters: Counters {
            written: 0,
            read: 0,
            taken: 0,
            writes: 0,
            reads: 0,
            first_write: 0,
            last_write: 0,
            first_read: 0,
            last_read: 0,
            blocked_since: 0,
            high_water: 0,
        },
    };
}

/// Edges that are told once, and what is remembered of a stream: entries of [`StreamState::told`].
pub mod told {
    /// First write.
    pub const FIRST_WRITE: usize = 0;
    /// First read.
    pub const FIRST_READ: usize = 1;
    /// End-of-file.
    pub const EOF: usize = 2;
    /// The server's end is gone: the object may be freed at any time.
    pub const SERVER_CLOSED: usize = 3;
    /// A failed write.
    pub const EPIPE: usize = 4;
    /// The server closed its read end before any session had the stream.
    pub const READER_CLOSED: usize = 5;
    /// The same of its write end.
    pub const WRITER_CLOSED: usize = 6;
    /// Some of what was written was packets.
    pub const PACKETS: usize = 7;
    /// The last writer of the session is gone.
    pub const WRITERS_GONE: usize = 8;
    /// The last reader of the session's stdin is gone.
    pub const SESSION_CLOSED: usize = 9;
    /// The last reference to the server's end was released.
    pub const RELEASED: usize = 10;
    /// Somebody else read from it.
    pub const TAKEN: usize = 11;
    /// How many there may be.
    pub const ENTRIES: usize = 12;
}

/// What one tracer leaves to the next: entries of the map `LEGACY`.
pub mod legacy {
    /// How many times the ring has been emptied.
    pub const TAKEN: u32 = 0;
    /// Runs of programs that were skipped, as told.
    pub const SKIPPED: u32 = 1;
    /// From here on losses as told, by [`loss`](crate::loss) kind.
    pub const LOST: u32 = 2;
    /// How many entries there are.
    pub const ENTRIES: u32 = LOST + crate::loss::KINDS as u32;
}
