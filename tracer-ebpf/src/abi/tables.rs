//! Values of the tables (BPF maps) that the programs fill and user space seeds, samples and cleans.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Counters, STREAMS};

/// A tracked process, by pid, from its fork or exec until the kernel frees it. Map `TASKS`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Task {
    /// Its session; 0 for a server outside any session.
    pub session: u64,
    /// Start of the process, ns of `CLOCK_BOOTTIME`: distinguishes it from a later one with the same pid.
    pub start: u64,
    /// Its [`role`](super::role).
    pub flags: u32,
    /// `self_exec_id` (include/linux/sched.h) at the last exec that was reported, modulo 2^32.
    pub execs: u32,
}

/// A session, by id. Map `SESSIONS`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Session {
    /// Addresses of its streams' objects, which are keys of the stream table; 0 for none.
    pub streams: [u64; STREAMS],
    /// Pid of its leader.
    pub leader: u32,
    /// Pid of its server.
    pub server: u32,
}

/// A stream, by the address of its kernel object. Map `STREAM_TABLE`. The entry is made when a
/// server makes the object. It belongs to a session once a child of that server has the object as
/// stdin, stdout or stderr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StreamState {
    /// Its session; 0 while it has none.
    pub session: u64,
    /// Inode number: distinguishes the object from a later one at the same address.
    pub object: u64,
    /// The read end as it was made: address of a pipe's open file, of a socket, or of a tty.
    pub reader: u64,
    /// The write end as it was made, likewise.
    pub writer: u64,
    /// Pid of the server that made it.
    pub server: u32,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// What has been [`seen`] of it: 1 or 0. A byte each, because two CPUs that set two bits of one
    /// word at the same time can lose one.
    pub seen: [u8; seen::ENTRIES],
    /// Number of writes that failed because there was no reader.
    pub epipes: u32,
    /// Kind of the object: a [`transport`](super::transport).
    pub transport: u32,
    /// `write_seq` of `conn` at the last read.
    pub mark: u32,
    /// Address of the socket to the client; 0 while it is not known. Only of outputs.
    pub conn: u64,
    /// Bytes read since the server last wrote to `conn`.
    pub held: u64,
    /// Counters.
    pub counters: Counters,
}

impl StreamState {
    /// The entry of a new object.
    pub const NEW: Self = Self {
        session: 0,
        object: 0,
        reader: 0,
        writer: 0,
        server: 0,
        slot: 0,
        seen: [0; seen::ENTRIES],
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

/// Entries of [`StreamState::seen`]: edges that are reported only once, and facts that later edges
/// depend on.
pub mod seen {
    /// The first write.
    pub const FIRST_WRITE: usize = 0;
    /// The first read.
    pub const FIRST_READ: usize = 1;
    /// End-of-file.
    pub const EOF: usize = 2;
    /// The server's end was closed. The object may be freed at any time.
    pub const SERVER_CLOSED: usize = 3;
    /// A write that failed.
    pub const EPIPE: usize = 4;
    /// The read end that the server made was closed before any session had the stream.
    pub const READER_CLOSED: usize = 5;
    /// The write end that the server made was closed before any session had the stream.
    pub const WRITER_CLOSED: usize = 6;
    /// A write of packets.
    pub const PACKETS: usize = 7;
    /// The session's last write end was released.
    pub const WRITERS_GONE: usize = 8;
    /// The last read end of the session's stdin was released.
    pub const SESSION_CLOSED: usize = 9;
    /// The last reference to the server's end was released.
    pub const RELEASED: usize = 10;
    /// A process that is no server read from an output.
    pub const TAKEN: usize = 11;
    /// Number of entries; more than these need another [`TABLES_VERSION`](crate::TABLES_VERSION).
    pub const ENTRIES: usize = 12;
}

/// Entries of the map `CARRY_OVER`: what user space hands to the next tracer.
pub mod carry_over {
    /// How many times the ring buffer has been drained.
    pub const DRAINS: u32 = 0;
    /// Number of skipped program runs that have been reported.
    pub const SKIPPED: u32 = 1;
    /// First entry of the losses that have been reported, one for each [`loss`](crate::loss) kind.
    pub const LOST: u32 = 2;
    /// Number of entries.
    pub const ENTRIES: u32 = LOST + crate::loss::KINDS as u32;
}
