//! The TCP leg: whether what a server read of a session went to its client.
//!
//! What is on the connection is encrypted, packed and perhaps compressed, and several sessions may
//! share it, so its bytes cannot be laid against a stream's. But of what the server read *after* it
//! last wrote to the connection, nothing can be on it; and what it wrote after its last read, the
//! client's kernel has acknowledged or not.

use tracer_ebpf::{ConnId, Progress};

use super::{session::Session, stream::Stream, verdict, view::Carried};

/// How long a connection is waited for that is neither open nor gone, ns: the kernel sends what a
/// server left behind 8 times anew (`tcp_orphan_retries`, ip-sysctl.rst), for some 100 s.
pub(super) const GIVEN_UP: u64 = 150_000_000_000;

/// A session's share of what is known of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// What was there before the session.
    base: Progress,
    last: Progress,
    /// The connection is no more: `last` is final.
    gone: bool,
}

/// What became of the bytes that the server read last from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing was read, or nothing is known of the connection.
    Untold,
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

impl Delivery {
    pub fn new(base: Progress) -> Self {
        Self {
            base,
            last: base,
            gone: false,
        }
    }

    /// Takes in how far the connection has come. Records of two CPUs may tell it in the wrong
    /// order; it only grows.
    pub fn saw(&mut self, progress: Progress) {
        self.last = Progress {
            queued: self.last.queued.max(progress.queued),
            sent: self.last.sent.max(progress.sent),
            acked: self.last.acked.max(progress.acked),
        };
    }

    pub fn queued(&self) -> u64 {
        self.last.queued
    }

    pub fn ended(&mut self) {
        self.gone = true;
    }

    /// What the connection has carried since the session began.
    pub fn carried(&self) -> Carried {
        let (base, last) = (&self.base, &self.last);
        Carried {
            queued: last.queued.saturating_sub(base.queued),
            sent: last.sent.saturating_sub(base.sent),
            acked: last.acked.saturating_sub(base.acked),
        }
    }
}

/// See [`Fate`]. What the client itself gave up is its own business: then nothing is told.
pub(super) fn fate(session: &Session, stream: &Stream) -> Fate {
    if session.conn == ConnId::default() || stream.held == 0 || !stream.slot.is_output() {
        return Fate::Untold;
    }
    if session.peer_left.is_some_and(|left| !left.unreached)
        || stream.close.as_ref().is_some_and(verdict::client_asked)
    {
        return Fate::Untold;
    }
    let Delivery { last, gone, .. } = session.delivery;
    let written = last.queued > stream.mark;
    if written && last.acked >= stream.goal.unwrap_or(last.queued) {
        return Fate::Delivered;
    }
    match gone {
        false => Fate::Pending,
        true if !written => Fate::Kept(stream.held),
        true if last.acked <= stream.mark => Fate::Unacknowledged(stream.held),
        true => Fate::Unsure,
    }
}
