//! The TCP leg: whether what a server read of a session went to its client.
//!
//! What is on the connection is encrypted, packed and perhaps compressed, and several sessions may
//! share it, so its bytes cannot be laid against a stream's. But of what the server read *after* it
//! last wrote to the connection, nothing can be on it; and what it wrote after its last read, the
//! client's kernel has acknowledged or not.

use tracer_ebpf::{ConnId, Progress};

use super::{
    departure::{self, Ender},
    session::Session,
    stream::{Close, Stream},
    view::Carried,
};

/// How long a connection is waited for that is neither open nor gone, ns: the kernel sends what a
/// server left behind 8 times anew (`tcp_orphan_retries`, ip-sysctl.rst), for some 100 s.
pub(super) const GIVEN_UP: u64 = 150_000_000_000;

const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_LAST_ACK: u32 = 9;

/// A session's share of what is known of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// What was there before the session.
    base: Progress,
    last: Progress,
    /// The server has closed its side: the sums count one more, for the FIN.
    fin: bool,
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
            ..Self::default()
        }
    }

    /// Takes in how far the connection has come. Records of two CPUs may tell it in the wrong
    /// order; it only grows.
    pub fn saw(&mut self, progress: Progress) {
        let queued = progress.queued.saturating_sub(u64::from(self.fin));
        self.last = Progress {
            queued: self.last.queued.max(queued),
            sent: self.last.sent.max(progress.sent.min(queued)),
            acked: self.last.acked.max(progress.acked.min(queued)),
            heard: self.last.heard.max(progress.heard),
        };
    }

    /// The connection changes to this state of include/net/tcp_states.h.
    pub fn state(&mut self, new: u32) {
        match new {
            // tcp_close and tcp_shutdown change the state, then queue the FIN (net/ipv4/tcp.c).
            TCP_FIN_WAIT1 | TCP_LAST_ACK => self.fin = true,
            TCP_CLOSE => self.gone = true,
            _ => {}
        }
    }

    pub fn queued(&self) -> u64 {
        self.last.queued
    }

    /// When the client last sent something, as far as known; 0 for never.
    pub fn heard(&self) -> u64 {
        self.last.heard
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
    // A command that lives may have closed its output itself.
    let unwanted =
        |close: &Close| close.writers > 0 && departure::ender(session, close) == Ender::Client;
    if departure::client_left(session) || stream.close.as_ref().is_some_and(unwanted) {
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
