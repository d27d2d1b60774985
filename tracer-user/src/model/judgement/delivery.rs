//! The TCP leg: whether what a server read of a session went to its client.
//!
//! What is on the connection is encrypted, packed and perhaps compressed, and several sessions may
//! share it, so its bytes cannot be laid against a stream's. But of what the server read *after* it
//! last wrote to the connection, nothing can be on it; and what it wrote after its last read, the
//! client's kernel has acknowledged or not.

use super::departure::{self, Ender};
use crate::model::facts::{Close, Session, Stream};

/// What became of the bytes that the server read last from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Fate {
    /// Nothing was read, or nothing is known of the connection.
    Unknown,
    /// Not decided yet.
    Pending,
    /// The server wrote to the connection afterwards, and the client acknowledged all of that.
    Delivered,
    /// The server never wrote to the connection again, although it had read so many bytes.
    Kept(u64),
    /// So many bytes were read, what the server wrote afterwards was not acknowledged.
    Unacknowledged(u64),
    /// What the server wrote afterwards was acknowledged in part.
    Unsure,
}

impl Fate {
    /// It will not be known whether the client got everything.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Unsure)
    }
}

/// See [`Fate`]. What the client itself gave up is its own business: then the fate is not known.
pub(in crate::model) fn fate(session: &Session, stream: &Stream) -> Fate {
    let connection = session.connection();
    if !connection.is_known() || stream.held() == 0 || !stream.is_output() {
        return Fate::Unknown;
    }
    // A command that lives may have closed its output itself.
    let unwanted =
        |close: &Close| close.writers > 0 && departure::ender(session, close) == Ender::Client;
    if departure::client_left(session) || stream.closed().is_some_and(unwanted) {
        return Fate::Unknown;
    }
    let (queued, acked) = (connection.queued(), connection.acked());
    let written = queued > stream.mark();
    if written && acked >= stream.goal().unwrap_or(queued) {
        return Fate::Delivered;
    }
    match connection.is_gone() {
        false => Fate::Pending,
        true if !written => Fate::Kept(stream.held()),
        true if acked <= stream.mark() => Fate::Unacknowledged(stream.held()),
        true => Fate::Unsure,
    }
}
