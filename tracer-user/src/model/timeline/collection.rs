//! The timelines of all sessions that are open, and of the latest that were.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tracer_ebpf::{Proc, Record};

use super::{
    Timeline,
    lane::{MAX_POINTS, MIN_POINTS},
};
use crate::model::{
    facts::MAX_SESSIONS,
    view::{GapReason, SessionId, SessionView, Update},
};

/// Points of all streams together: with the streams' number that gives each one's room.
const ALL_POINTS: usize = 1 << 18;
/// Streams that a session has.
const STREAMS: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct Timelines {
    /// How many closed ones are kept.
    keep: usize,
    /// How many open ones are kept.
    max_open: usize,
    open: HashMap<u64, Timeline>,
    /// Latest last.
    closed: VecDeque<Timeline>,
    /// Open sessions by their server, and by their connection.
    served: HashMap<Proc, Vec<u64>>,
    carried: HashMap<u64, Vec<u64>>,
    ends: HashMap<u64, (Proc, u64)>,
    scanning: bool,
}

impl Timelines {
    /// Keeps, beside the open ones, the latest `keep` of those that closed.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            max_open: MAX_SESSIONS,
            open: HashMap::new(),
            closed: VecDeque::new(),
            served: HashMap::new(),
            carried: HashMap::new(),
            ends: HashMap::new(),
            scanning: false,
        }
    }

    /// Keeps only open sessions, and at most `max_open` of them: those that opened while there was room.
    #[must_use]
    pub fn open_only(max_open: usize) -> Self {
        Self {
            max_open,
            ..Self::new(0)
        }
    }

    /// Takes in a record, and what the model made of it.
    pub fn apply(&mut self, record: Record<'_>, updates: &[Update]) {
        let room = self.room();
        match record {
            Record::SessionStart(it) => self.start(it),
            Record::Fork(it) => self.on(it.session, |line| line.fork(it)),
            Record::Exec(it) => self.on(it.session, |line| line.exec(it)),
            // During a scan strangers are told so.
            Record::Process(it) if !self.scanning => self.on(it.session, |line| line.exec(it)),
            Record::ScanBegin(_) => self.scanning = true,
            Record::ScanEnd(_) => self.scanning = false,
            Record::Exit(it) => {
                self.on(it.session, |line| line.exit(it, room));
                self.on_all(self.of_server(it.proc), |line| line.server_exit(it));
            }
            Record::Chld(it) => self.on(it.session, |line| line.chld(it, room)),
            Record::Signal(it) => {
                self.on(it.session, |line| line.signal(it, false));
                self.on_all(self.of_server(it.target), |line| line.signal(it, true));
            }
            Record::Stream(it) => self.on(it.session, |line| line.stream(it, room)),
            Record::Passed(it) => self.on(it.session, |line| line.passed(it)),
            Record::Conn(it) => {
                let sessions = self.carried.get(&it.conn.sock).cloned().unwrap_or_default();
                self.on_all(sessions, |line| line.conn(it));
            }
            _ => {}
        }
        for update in updates {
            self.update(update);
        }
    }

    /// The timeline of a session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Timeline> {
        self.open.get(&id.0).or_else(|| {
            let mut closed = self.closed.iter().rev();
            closed.find(|line| line.session.id == id)
        })
    }

    /// Those of open sessions, in no order.
    pub fn open(&self) -> impl Iterator<Item = &Timeline> {
        self.open.values()
    }

    /// Those of closed ones, latest first.
    pub fn closed(&self) -> impl Iterator<Item = &Timeline> {
        self.closed.iter().rev()
    }

    /// Takes in what the model told, of a session or of the machine.
    pub fn update(&mut self, update: &Update) {
        match update {
            // A session whose start was lost is known by this only.
            Update::SessionOpened(it)
                if !self.open.contains_key(&it.session.id.0) && self.has_room() =>
            {
                let line = Timeline::new(Arc::clone(&it.session));
                self.open.insert(it.session.id.0, line);
            }
            Update::Gap(gap) if gap.reason == GapReason::LostRecords => {
                self.open.values_mut().for_each(|line| line.update(update));
                return;
            }
            Update::Forget { session } => {
                self.end(*session);
                return;
            }
            _ => {}
        }
        let Some(view) = update.session() else { return };
        let id = view.id;
        self.on(id.0, |line| line.update(update));
        if let Update::SessionClosed(_) = update
            && let Some(line) = self.end(id)
        {
            self.closed.push_back(line);
            if self.closed.len() > self.keep {
                self.closed.pop_front();
            }
        }
    }

    /// How many points a stream may have.
    fn room(&self) -> usize {
        let streams = (self.open.len() + self.closed.len()) * STREAMS;
        (ALL_POINTS / streams.max(1)).clamp(MIN_POINTS, MAX_POINTS)
    }

    fn has_room(&self) -> bool {
        self.open.len() < self.max_open
    }

    fn start(&mut self, record: &tracer_ebpf::SessionStart) {
        let id = record.session;
        let is_known = self.open.contains_key(&id) || self.get(SessionId(id)).is_some();
        if id == 0 || is_known || !self.has_room() {
            return;
        }
        let mut line = Timeline::new(Arc::new(SessionView::of(record)));
        line.start(record);
        self.open.insert(id, line);
        let (server, sock) = (record.server, record.conn.sock);
        self.served.entry(server).or_default().push(id);
        self.carried.entry(sock).or_default().push(id);
        self.ends.insert(id, (server, sock));
    }

    fn end(&mut self, id: SessionId) -> Option<Timeline> {
        if let Some((server, sock)) = self.ends.remove(&id.0) {
            forget(&mut self.served, server, id.0);
            forget(&mut self.carried, sock, id.0);
        }
        self.open.remove(&id.0)
    }

    fn of_server(&self, proc: Proc) -> Vec<u64> {
        self.served.get(&proc).cloned().unwrap_or_default()
    }

    fn on(&mut self, id: u64, action: impl FnOnce(&mut Timeline)) {
        if let Some(line) = self.open.get_mut(&id) {
            action(line);
        }
    }

    fn on_all(&mut self, ids: Vec<u64>, action: impl Fn(&mut Timeline)) {
        for id in ids {
            self.on(id, &action);
        }
    }
}

/// Takes a session from a list, and the list when it was its last.
fn forget<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, Vec<u64>>, key: K, id: u64) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|other| *other != id);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}
