//! Records about streams: what happened to one, and its counters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, Header, Progress};

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

/// What happened to a stream: [`Stream::edge`].
pub mod edge {
    /// First bytes were written.
    pub const FIRST_WRITE: u32 = 1;
    /// First bytes were read.
    pub const FIRST_READ: u32 = 2;
    /// The reader got end-of-file (a read of 0 bytes).
    pub const EOF: u32 = 3;
    /// The last write end was released.
    pub const WRITERS_GONE: u32 = 4;
    /// The server's own end was released: closed, or its process ended.
    pub const SERVER_CLOSE: u32 = 5;
    /// The last session end of stdin was released; the session did not want what is `unread`.
    pub const SESSION_CLOSE: u32 = 6;
    /// A write failed because no reader is left; `bytes` is the length of that write.
    pub const EPIPE: u32 = 7;
    /// User space read the counters.
    pub const SAMPLE: u32 = 8;
    /// A process that is no server read from an output for the first time; `bytes` is what it got,
    /// `pid` and `comm` are that process's.
    pub const TAKEN: u32 = 9;
}

/// See [`Kind::Stream`](super::Kind::Stream).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stream {
    /// Time and kind.
    pub header: Header,
    /// The session.
    pub session: u64,
    /// Inode number of the kernel object.
    pub object: u64,
    /// 0, 1, 2: stdin, stdout, stderr.
    pub slot: u32,
    /// What happened: an [`edge`].
    pub edge: u32,
    /// Pid of the process that caused it.
    pub pid: u32,
    /// 1 when that process caused it by exiting.
    pub exiting: u32,
    /// Bytes in the object, read from the object itself; in samples, written minus read.
    pub unread: u64,
    /// Bytes of the operation; 0 for an edge without any.
    pub bytes: u64,
    /// Open files that can read, including the one of this edge.
    pub readers: u32,
    /// Open files that can write, including the one of this edge.
    pub writers: u32,
    /// References to the open file that is being closed, where the backend sees them. Descriptors
    /// that other processes inherited keep the file open.
    pub refs: u32,
    /// 1 when some writes were packets (`O_DIRECT`, pipe(2)). What a read has no room for is then
    /// discarded, and no counter shows it.
    pub packets: u32,
    /// Counters so far.
    pub counters: Counters,
    /// Progress of the connection; all zero when the connection is not known or closed.
    pub progress: Progress,
    /// [`Progress::queued`] at the server's last read from the stream.
    pub mark: u64,
    /// Bytes that the server has read from the stream since it last wrote to the connection before
    /// `mark`.
    pub held: u64,
    /// `comm` of the process that caused it.
    pub comm: [u8; COMM_LEN],
}

/// Counters of a stream's reads and writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Bytes written.
    pub written: u64,
    /// Bytes read; of an output, only those that its server read.
    pub read: u64,
    /// Bytes of an output that a process other than its server read.
    pub taken: u64,
    /// Successful writes.
    pub writes: u64,
    /// Reads that returned bytes.
    pub reads: u64,
    /// Time of the first write, ns of `CLOCK_BOOTTIME`; 0 for never.
    pub first_write: u64,
    /// Time of the last write; 0 for never.
    pub last_write: u64,
    /// Time of the first read; 0 for never.
    pub first_read: u64,
    /// Time of the last read that returned bytes; 0 for never.
    pub last_read: u64,
    /// Since when a writer has been waiting for room, ns of `CLOCK_BOOTTIME`; 0 when none has
    /// waited since the last read.
    pub blocked_since: u64,
    /// Most bytes seen in the object after a write.
    pub high_water: u64,
}
