//! Records about open files that are passed over unix sockets (`SCM_RIGHTS`, unix(7)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, Header, Proc};

/// The direction of a pass: [`Passed::way`].
pub mod way {
    /// A message with the file was made. Any process that has the other socket can receive it.
    pub const SENT: u32 = 1;
    /// The receiver of the message is about to get a descriptor for the file.
    pub const RECEIVED: u32 = 2;
}

/// See [`Kind::Passed`](super::Kind::Passed). Only the first pass of a file by a process in one
/// direction is reported.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Passed {
    /// Time and kind.
    pub header: Header,
    /// The session that the end belongs to.
    pub session: u64,
    /// The sender or receiver.
    pub proc: Proc,
    /// Address of the open file (`struct file`).
    pub file: u64,
    /// A [`way`].
    pub way: u32,
    /// Of a sent message: pid of the process that made the other socket, or listens for it; 0 when
    /// not known.
    pub peer: u32,
    /// `comm` of the sender or receiver.
    pub comm: [u8; COMM_LEN],
}
