//! What a record did to the sessions, in addition to the updates. [`Model::apply`] returns it, for the
//! flight recorder, which keeps the records of each session apart: a new model that gets only the records
//! of one session must come to the same findings and the same verdict.

use tracer_ebpf::{COMM_LEN, Proc};

use super::{
    Audience, Model, SessionId, Slot,
    facts::{Scan, Session, Stream},
    schedule::is_on_its_way,
    tracked::Tracked,
    view::Carried,
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The sessions that the record is about. For ticks see `settled`, for scans `scans`.
    pub about: Audience,
    /// For a sample or a socket: later conclusions may depend on the time of this very record, so a recorder
    /// that thins them out must keep it.
    pub is_evidence: bool,
    /// For a session's start: the leader's name when a server forked it, if that was seen.
    pub forked_as: Option<[u8; COMM_LEN]>,
    /// For a tick: the sessions that the model examined, in that order.
    pub settled: Vec<Settled>,
    /// For a scan's end: what the scan found for each session that it was made for.
    pub scans: Vec<SessionScan>,
}

/// A session that the model examined at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The session.
    pub session: SessionId,
    /// Its connection carried no other session at that moment.
    pub is_alone: bool,
    /// It was waiting for this time, so the tick itself may lead to a conclusion. Times at which only a
    /// scan is due do not count.
    pub is_due: bool,
    /// The model has dropped it: it ended, or turned out to be no session.
    pub is_dropped: bool,
}

impl Settled {
    /// Something that turned out to be no session.
    pub(super) const fn dropped(id: u64) -> Self {
        Self {
            session: SessionId(id),
            is_alone: true,
            is_due: false,
            is_dropped: true,
        }
    }
}

/// What a complete scan found for one session, in addition to the holder records with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionScan {
    /// The session.
    pub session: SessionId,
    /// Processes that hold ends of its streams, and for a server the name it started with. All records of
    /// the scan about these processes are about this session.
    pub holders: Vec<(Proc, Option<[u8; COMM_LEN]>)>,
    /// Which of the scan's socket records may explain why its connection stays open: their positions among
    /// the socket records of the scan, from 0, ascending.
    pub sockets: Vec<usize>,
}

impl SessionScan {
    /// After a scan was repeated this many times with the same result, one more leads to no new conclusion.
    /// Not 0, as the model believes some results only when the next scan confirms them.
    pub const MAX_REPEATS: u32 = 2;
}

impl Model {
    /// What a complete scan found for each session that it was made for.
    pub(super) fn scanned_for(&self, scan: &Scan) -> Vec<SessionScan> {
        let open = scan.sessions().filter_map(|id| self.sessions.get(&id));
        let holders = |session: SessionId| {
            let held = scan.holders_of(session.0);
            held.map(|proc| (proc, self.servers.name(proc))).collect()
        };
        let concerning = |session: &Tracked| {
            let sockets = scan.sockets().iter().enumerate();
            sockets
                .filter(|(_, socket)| session.is_concerned_by(socket, scan))
                .map(|(number, _)| number)
                .collect()
        };
        open.map(|session| SessionScan {
            session: session.facts.id(),
            holders: holders(session.facts.id()),
            sockets: concerning(session),
        })
        .collect()
    }
}

/// The part of a session's state where later conclusions depend on when it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimedState {
    is_pending: bool,
    is_blocked: bool,
    is_closed: bool,
    is_on_its_way: bool,
    carried: Option<Carried>,
}

impl Session {
    /// The state before or after a record about one of its streams, or about its connection.
    pub(super) fn timed_state(&self, slot: Option<Slot>) -> TimedState {
        let stream = slot.and_then(|slot| self.stream(slot));
        TimedState {
            is_pending: stream.is_some_and(|stream| stream.pending() > 0),
            is_blocked: stream.is_some_and(Stream::is_blocked),
            is_closed: stream.is_some_and(Stream::is_closed),
            is_on_its_way: self.leader_gone().is_some() && is_on_its_way(self),
            carried: self.connection().carried(),
        }
    }

    /// See [`Applied::is_evidence`], for a sample of a stream.
    pub(super) fn is_stream_evidence(&self, before: TimedState, after: TimedState) -> bool {
        let turned = |it: TimedState| (it.is_pending, it.is_blocked, it.is_on_its_way);
        // Nothing is measured before the leader's exit or the server's close.
        before.is_closed
            || after.is_closed
            || self.leader_gone().is_some() && turned(before) != turned(after)
    }

    /// See [`Applied::is_evidence`], for a socket record of its connection.
    pub(super) fn is_connection_evidence(&self, before: TimedState, after: TimedState) -> bool {
        self.leader_gone().is_some() && before.carried != after.carried
    }
}
