//! What happened in a session, in order: its processes, its streams' bytes and edges, who was told
//! of what, and what was found. Made of the same records as the model's updates, and of those.
//!
//! Everything is bounded: points are thinned out, and of the rest it is counted what was left out.

mod collection;
mod lane;
mod life;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tracer_ebpf::{Chld, Conn, Exec, Exit, Fork, Passed, SessionStart, role, way};

pub use self::{
    collection::Timelines,
    lane::{Edge, Lane, Mark, Point},
    life::{Life, Program},
};
pub use super::view::Stage;
use super::view::{
    Closed, ExitStatus, Finding, Gap, HolderView, Kind, SessionView, Slot, State, Update, Visible,
};

/// Most signals, handovers and changes of the connection that are kept of a session, each.
const MAX_EVENTS: usize = 32;
/// Most spells of holding that are kept of a session.
const MAX_HOLDS: usize = 64;
/// Most holders that are kept of a finding.
const MAX_HOLDERS: usize = 64;
/// Most gaps that are kept of a session.
const MAX_GAPS: usize = 8;

/// The course of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Who it is, by the latest word.
    pub session: Arc<SessionView>,
    /// When the last thing in here happened.
    pub last: u64,
    /// Its processes, in the order of their beginnings; the leader is the first, if it is known.
    pub processes: Vec<Life>,
    /// Its observed streams.
    pub streams: Vec<Lane>,
    /// How far the news of the leader's death has come.
    pub news: Vec<News>,
    /// Signals that may end their targets: its members, and its server.
    pub signals: Vec<SignalSent>,
    /// Ends of its streams that went over unix sockets.
    pub handovers: Vec<Handover>,
    /// What became of the connection.
    pub connection: Vec<ConnChange>,
    /// When the server exited, and how.
    pub server_exit: Option<Ended>,
    /// Who kept its streams open after the leader, from when to when.
    pub holds: Vec<Hold>,
    /// The latest word of each finding, and since when there is one.
    pub findings: Vec<Told>,
    /// Evidence that went missing while it was open.
    pub gaps: Vec<Gap>,
    /// The last word.
    pub closed: Option<Closed>,
    /// What is not in here for want of room.
    pub left_out: LeftOut,
}

/// How many of each were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Processes, the shortest-lived of those that have ended.
    pub processes: u64,
    /// Signals, handovers, changes of the connection: the latest.
    pub events: u64,
    /// Spells of holding.
    pub holds: u64,
}

/// The kernel told the server that the leader had died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// When.
    pub time: u64,
    /// How far it had come.
    pub stage: Stage,
    /// Unread bytes of stdin, stdout, stderr then.
    pub unread: [u64; 3],
}

/// Someone sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSent {
    /// When.
    pub time: u64,
    /// Its number.
    pub signal: u32,
    /// Pid of who got it.
    pub target: u32,
    /// That was the server.
    pub to_server: bool,
    /// Pid of the sender; the target's own for a fault.
    pub sender: u32,
    /// The sender's name.
    pub comm: Visible,
}

/// One half of an end's way over a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// When.
    pub time: u64,
    /// Pid of who sent or received it.
    pub pid: u32,
    /// Its name.
    pub comm: Visible,
    /// It was received, not sent.
    pub received: bool,
}

/// The connection changed its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnChange {
    /// When.
    pub time: u64,
    /// The state's name, as ss(8) has it.
    pub state: Cow<'static, str>,
    /// Error of the socket, an errno; 0 for none.
    pub error: u32,
}

/// An end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub time: u64,
    /// How.
    pub exit: ExitStatus,
}

/// A process had ends of the session's streams after the leader's exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// As it was last seen.
    pub holder: HolderView,
    /// Every stream that it has held, ascending.
    pub streams: Vec<Slot>,
    /// From when on that is told.
    pub began: u64,
    /// Since when it is so no more.
    pub ended: Option<u64>,
}

/// A finding's latest word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When it was first told.
    pub began: u64,
    /// How often it changed.
    pub changes: u32,
    /// The latest word; of many holders the first.
    pub finding: Finding,
}

impl Timeline {
    /// Of a session that nothing is known of but who it is.
    #[must_use]
    pub fn new(session: Arc<SessionView>) -> Self {
        Self {
            last: session.opened,
            session,
            processes: Vec::new(),
            streams: Vec::new(),
            news: Vec::new(),
            signals: Vec::new(),
            handovers: Vec::new(),
            connection: Vec::new(),
            server_exit: None,
            holds: Vec::new(),
            findings: Vec::new(),
            gaps: Vec::new(),
            closed: None,
            left_out: LeftOut::default(),
        }
    }

    /// When it began: its session, or its first process.
    #[must_use]
    pub fn began(&self) -> u64 {
        let first = self.processes.iter().map(|life| life.began).min();
        first.map_or(self.session.opened, |first| first.min(self.session.opened))
    }

    /// The lane of a stream.
    #[must_use]
    pub fn lane(&self, slot: Slot) -> Option<&Lane> {
        self.streams.iter().find(|lane| lane.slot == slot)
    }

    /// When the server knew of the leader's death: delivery counts; a server that waits in wait(2) is
    /// never delivered a signal.
    #[must_use]
    pub fn told_server(&self) -> Option<News> {
        Stage::BY_WEIGHT
            .iter()
            .find_map(|stage| self.news.iter().find(|news| news.stage == *stage))
            .copied()
    }

    /// As it was at a moment, as far as that is still known.
    #[must_use]
    pub fn until(&self, time: u64) -> Self {
        let mut line = self.clone();
        line.last = line.last.min(time);
        if line.session.exited.is_some_and(|exited| exited > time) {
            let view = Arc::make_mut(&mut line.session);
            (view.exit, view.exited) = (None, None);
        }
        line.processes.retain(|life| life.began <= time);
        line.processes.iter_mut().for_each(|life| life.cut(time));
        line.streams.iter_mut().for_each(|lane| lane.cut(time));
        line.news.retain(|it| it.time <= time);
        line.signals.retain(|it| it.time <= time);
        line.handovers.retain(|it| it.time <= time);
        line.connection.retain(|it| it.time <= time);
        line.server_exit = line.server_exit.filter(|it| it.time <= time);
        line.holds.retain(|it| it.began <= time);
        for hold in &mut line.holds {
            hold.ended = hold.ended.filter(|ended| *ended <= time);
        }
        // What was the word on it then is known no more.
        line.findings.retain(|it| it.finding.time <= time);
        line.gaps.retain(|it| it.time <= time);
        line.closed = line.closed.filter(|it| it.time <= time);
        line
    }

    fn saw(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    fn start(&mut self, record: &SessionStart) {
        self.saw(record.header.time);
        self.streams = lane::of_start(&record.streams);
        if record.leader.pid != 0 {
            life::started(self, record.leader, record.server.pid, record.uid);
        }
    }

    fn fork(&mut self, record: &Fork) {
        self.saw(record.header.time);
        life::fork(self, record);
    }

    fn exec(&mut self, record: &Exec) {
        self.saw(record.header.time);
        life::exec(self, record);
    }

    fn exit(&mut self, record: &Exit, room: usize) {
        self.saw(record.header.time);
        life::exit(self, record);
        if record.flags & role::LEADER != 0 {
            self.now(record.header.time, &record.streams, room);
        }
    }

    fn server_exit(&mut self, record: &Exit) {
        self.saw(record.header.time);
        self.server_exit.get_or_insert(Ended {
            time: record.header.time,
            exit: ExitStatus::of_wait(record.status),
        });
    }

    fn chld(&mut self, record: &Chld, room: usize) {
        let Some(stage) = Stage::of(record.stage) else {
            return;
        };
        let time = record.header.time;
        self.saw(time);
        if self.news.iter().all(|news| news.stage != stage) {
            self.news.push(News {
                time,
                stage,
                unread: record.streams.map(|stream| stream.unread),
            });
        }
        self.now(time, &record.streams, room);
    }

    /// All its streams were so at this time.
    fn now(&mut self, time: u64, streams: &[tracer_ebpf::StreamNow], room: usize) {
        for lane in &mut self.streams {
            lane.now(time, &streams[lane.slot as usize], room);
        }
    }

    fn signal(&mut self, record: &tracer_ebpf::Signal, to_server: bool) {
        self.saw(record.header.time);
        if self.signals.len() == MAX_EVENTS {
            self.left_out.events += 1;
            return;
        }
        self.signals.push(SignalSent {
            time: record.header.time,
            signal: record.signal,
            target: record.target.pid,
            to_server,
            sender: record.sender,
            comm: Visible::field(&record.comm),
        });
    }

    fn passed(&mut self, record: &Passed) {
        self.saw(record.header.time);
        if self.handovers.len() == MAX_EVENTS {
            self.left_out.events += 1;
            return;
        }
        self.handovers.push(Handover {
            time: record.header.time,
            pid: record.proc.pid,
            comm: Visible::field(&record.comm),
            received: record.way == way::RECEIVED,
        });
    }

    fn conn(&mut self, record: &Conn) {
        self.saw(record.header.time);
        if self.connection.len() == MAX_EVENTS {
            self.left_out.events += 1;
            return;
        }
        self.connection.push(ConnChange {
            time: record.header.time,
            state: state_name(record.new).into(),
            error: record.error,
        });
    }

    fn stream(&mut self, record: &tracer_ebpf::Stream, room: usize) {
        self.saw(record.header.time);
        let Some(slot) = Slot::of(record.slot) else {
            return;
        };
        let at = match self.streams.iter().position(|lane| lane.slot == slot) {
            Some(at) => at,
            // Its session's start was not seen.
            None if self.streams.iter().all(|lane| lane.object != record.object) => {
                self.streams.push(Lane::new(slot, record.object));
                self.streams.len() - 1
            }
            None => return,
        };
        self.streams[at].apply(record, room);
    }

    /// Takes in what the model told of this session.
    pub fn update(&mut self, update: &Update) {
        if let Some(view) = update.session() {
            self.session = Arc::clone(view);
        }
        self.saw(update.time().unwrap_or(0));
        match update {
            Update::Finding(finding) => self.found(finding),
            Update::SessionClosed(closed) => self.close(closed),
            Update::Gap(gap) if self.gaps.len() < MAX_GAPS => self.gaps.push(gap.clone()),
            _ => {}
        }
    }

    fn found(&mut self, finding: &Finding) {
        if finding.kind() == Kind::Orphaned {
            self.held(finding);
        }
        let mut finding = finding.clone();
        finding.keep_holders(MAX_HOLDERS);
        let key = finding.key();
        let same = |told: &&mut Told| told.finding.key() == key;
        match self.findings.iter_mut().find(same) {
            Some(told) => {
                told.changes += 1;
                told.finding = finding;
            }
            None => self.findings.push(Told {
                began: finding.time,
                changes: 0,
                finding,
            }),
        }
    }

    fn held(&mut self, finding: &Finding) {
        // Of a finding that is resolved they are those that held it last.
        let holders = match finding.state {
            State::Resolved => &[],
            State::Open | State::Updated => finding.holders(),
        };
        let now: BTreeSet<_> = holders.iter().map(HolderView::identity).collect();
        for hold in self.holds.iter_mut().filter(|hold| hold.ended.is_none()) {
            if !now.contains(&hold.holder.identity()) {
                hold.ended = Some(finding.time);
            }
        }
        for holder in holders {
            let known = self.holds.iter().position(|hold| {
                hold.ended.is_none() && hold.holder.identity() == holder.identity()
            });
            match known {
                Some(at) => {
                    let hold = &mut self.holds[at];
                    hold.holder = holder.clone();
                    hold.streams.extend(&holder.streams);
                    hold.streams.sort_unstable();
                    hold.streams.dedup();
                }
                None if self.holds.len() == MAX_HOLDS => self.left_out.holds += 1,
                None => self.holds.push(Hold {
                    holder: holder.clone(),
                    streams: holder.streams.clone(),
                    began: finding.time,
                    ended: None,
                }),
            }
        }
    }

    fn close(&mut self, closed: &Closed) {
        for hold in self.holds.iter_mut().filter(|hold| hold.ended.is_none()) {
            hold.ended = Some(closed.time);
        }
        for lane in &mut self.streams {
            if let Some(report) = closed.streams.iter().find(|it| it.slot == lane.slot) {
                lane.close(report);
            }
        }
        self.closed = Some(closed.clone());
    }
}

/// Names of include/net/tcp_states.h, as ss(8) writes them.
fn state_name(state: u32) -> &'static str {
    match state {
        1 => "ESTAB",
        2 => "SYN-SENT",
        3 => "SYN-RECV",
        4 => "FIN-WAIT-1",
        5 => "FIN-WAIT-2",
        6 => "TIME-WAIT",
        7 => "UNCONN",
        8 => "CLOSE-WAIT",
        9 => "LAST-ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "unknown",
    }
}
