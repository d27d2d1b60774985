//! The connection of one session: how far it has come, and how it ended.

use tracer_ebpf::{Conn, ConnId, Progress};

use crate::model::view::Carried;

const TCP_ESTABLISHED: u32 = 1;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LAST_ACK: u32 = 9;
/// Errors of a connection that its peer did not cause: ENETUNREACH, ETIMEDOUT, EHOSTUNREACH.
const UNREACHED: [u32; 3] = [101, 110, 113];

/// A session's share of what is known of its connection.
#[derive(Debug, Default)]
pub(in crate::model) struct Connection {
    id: ConnId,
    /// Sessions on it that are followed elsewhere.
    siblings: u32,
    /// What it had carried before the session.
    base: Progress,
    last: Progress,
    /// When it began to end.
    ended: Option<u64>,
    peer_left: Option<PeerLeft>,
    /// The server closed its side while the client's was open.
    server_hung_up: bool,
    /// The server has closed its side: the sums count one more, for the FIN.
    fin: bool,
    /// It is gone: `last` is final.
    gone: bool,
}

/// The connection ended before the server ended it.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct PeerLeft {
    /// When, ns.
    pub time: u64,
    /// The peer did not leave but stopped answering.
    pub unreached: bool,
}

impl Connection {
    pub fn new(id: ConnId, base: Progress) -> Self {
        Self {
            id,
            base,
            last: base,
            ..Self::default()
        }
    }

    /// So many sessions on it are followed elsewhere.
    pub(super) const fn shared_with(&mut self, siblings: u32) {
        self.siblings = siblings;
    }

    /// Takes in how far it has come. Records of two CPUs may arrive in the wrong order; the sums only
    /// grow.
    pub(super) fn progressed(&mut self, progress: Progress) {
        let queued = progress.queued.saturating_sub(u64::from(self.fin));
        self.last = Progress {
            queued: self.last.queued.max(queued),
            sent: self.last.sent.max(progress.sent.min(queued)),
            acked: self.last.acked.max(progress.acked.min(queued)),
            heard: self.last.heard.max(progress.heard),
        };
    }

    /// It changes its state, one of include/net/tcp_states.h.
    pub(super) fn changed(&mut self, record: &Conn) {
        let time = record.header.time;
        if record.new != TCP_ESTABLISHED {
            self.ended.get_or_insert(time);
        }
        match record.new {
            // tcp_close and tcp_shutdown change the state, then queue the FIN (net/ipv4/tcp.c).
            TCP_FIN_WAIT1 | TCP_LAST_ACK => self.fin = true,
            TCP_CLOSE => self.gone = true,
            _ => {}
        }
        let unreached = UNREACHED.contains(&record.error);
        let left = match record.new {
            TCP_FIN_WAIT1 => {
                self.server_hung_up = true;
                false
            }
            TCP_CLOSE_WAIT => true,
            TCP_CLOSE => record.error != 0,
            _ => false,
        };
        if left && self.peer_left.is_none() && (unreached || !self.server_hung_up) {
            self.peer_left = Some(PeerLeft { time, unreached });
        }
    }

    pub const fn id(&self) -> &ConnId {
        &self.id
    }

    /// Address of the kernel's socket; 0 when not known.
    pub const fn sock(&self) -> u64 {
        self.id.sock
    }

    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        self.id != ConnId::default()
    }

    /// Sessions on it that are followed elsewhere.
    pub const fn siblings(&self) -> u32 {
        self.siblings
    }

    /// When it began to end, ns.
    pub const fn ended(&self) -> Option<u64> {
        self.ended
    }

    /// Whether it is gone, so that nothing more will be acknowledged.
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// How the peer ended it, if the peer did.
    pub const fn peer_left(&self) -> Option<PeerLeft> {
        self.peer_left
    }

    /// The same, if that was at `time` or earlier.
    pub fn left_before(&self, time: u64) -> Option<PeerLeft> {
        self.peer_left.filter(|left| left.time <= time)
    }

    /// Bytes that the server has queued on it.
    pub const fn queued(&self) -> u64 {
        self.last.queued
    }

    /// Bytes that the client's kernel has acknowledged.
    pub const fn acked(&self) -> u64 {
        self.last.acked
    }

    /// When the client last sent something, as far as known; 0 for never.
    pub const fn heard(&self) -> u64 {
        self.last.heard
    }

    /// What it has carried since the session began; `None` when it is not known.
    pub fn carried(&self) -> Option<Carried> {
        let (base, last) = (&self.base, &self.last);
        (self.id.sock != 0).then(|| Carried {
            queued: last.queued.saturating_sub(base.queued),
            sent: last.sent.saturating_sub(base.sent),
            acked: last.acked.saturating_sub(base.acked),
        })
    }
}
