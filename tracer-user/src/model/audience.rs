//! Which sessions a record is about: the one place where that is decided, for the model itself and for
//! whoever keeps the records of each session apart.

use tracer_ebpf::{Exec, Exit, Record, edge, role};

use super::{Model, SessionId};

/// The sessions that a record is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// None.
    #[default]
    Nobody,
    /// This.
    One(SessionId),
    /// These, ascending.
    Several(Vec<SessionId>),
    /// Every one, and those to come: it is about the tracing itself.
    Everyone,
}

impl Audience {
    /// The sessions that are known by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.ids().iter().map(|id| id.0)
    }

    /// The sessions that are known by id: none when it is about every one.
    #[must_use]
    pub fn ids(&self) -> &[SessionId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
            Self::Nobody | Self::Everyone => &[],
        }
    }

    /// Leaves out sessions that are not known, of those that are known by id.
    pub(super) fn retain(&mut self, is_known: impl Fn(u64) -> bool) {
        if !self.iter().all(&is_known) {
            *self = self.iter().filter(|id| is_known(*id)).collect();
        }
    }
}

impl FromIterator<u64> for Audience {
    fn from_iter<T: IntoIterator<Item = u64>>(ids: T) -> Self {
        let mut ids: Vec<SessionId> = ids.into_iter().map(SessionId).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids[..] {
            [] => Self::Nobody,
            [id] => Self::One(id),
            _ => Self::Several(ids),
        }
    }
}

impl Model {
    /// The sessions that a record is about, the next to be applied. Ticks and scans are about those that
    /// turn out to be settled and shown something: see [`super::Applied`].
    pub(super) fn audience(&self, record: &Record<'_>) -> Audience {
        match record {
            Record::Start(_) | Record::Ready(_) | Record::Resume(_) | Record::Loss(_) => {
                Audience::Everyone
            }
            Record::Tick(_) | Record::ScanBegin(_) | Record::Cgroup(_) | Record::ScanEnd(_) => {
                Audience::Nobody
            }
            Record::User(it) => {
                let nameless = |id: &u64| self.sessions[id].facts.is_nameless(it.uid);
                self.sessions.keys().copied().filter(nameless).collect()
            }
            Record::Fork(it) => self.tagged(it.session),
            Record::Exec(it) => self.tagged(it.session),
            Record::Process(it) => match &self.scan {
                Some(_) => Audience::Nobody,
                None => self.early(it),
            },
            Record::Exit(it) => self.exiting(it),
            Record::SessionStart(it) => self.beginning(it.session),
            Record::Chld(it) => self.tagged(it.session),
            Record::Signal(it) => self.servers.sessions(it.target).iter().copied().collect(),
            Record::Stream(it) if it.edge == edge::SAMPLE => self.tagged(it.session),
            Record::Stream(it) => self.beginning(it.session),
            Record::Conn(it) => {
                let sessions = self.conns.sessions(it.conn.sock);
                sessions.iter().copied().collect()
            }
            Record::Passed(it) => self.tagged(it.session),
            Record::ConnectionSiblings(it) => self.tagged(it.session),
            Record::SessionVanished(it) => self.tagged(it.session),
            Record::Holder(it) => match &self.scan {
                Some(scan) if scan.is_for(it.session) => Audience::One(SessionId(it.session)),
                _ => Audience::Nobody,
            },
            Record::Socket(it) => {
                let sessions = self.conns.sessions(it.conn.sock);
                sessions.iter().copied().collect()
            }
        }
    }

    /// Sessions to be seen to at a tick.
    pub(super) fn due(&self, now: u64) -> Vec<u64> {
        if !self.ready {
            return Vec::new();
        }
        let timers = self.timers.range(..=(now, u64::MAX)).map(|(_, id)| *id);
        let mut due: Vec<u64> = self.touched.iter().copied().chain(timers).collect();
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Sessions that a scan that begins now serves.
    pub(super) fn joining(&self, now: u64) -> impl Iterator<Item = u64> {
        let joining = self.sessions.iter();
        let joining = joining.filter(move |(_, session)| session.watch.joins(now));
        joining.map(|(id, _)| *id)
    }

    /// Whether the next record of a session would be its first.
    pub(super) fn is_new(&self, id: u64) -> bool {
        id != 0 && !self.sessions.contains_key(&id) && !self.over.contains(&id)
    }

    fn tagged(&self, id: u64) -> Audience {
        match self.sessions.contains_key(&id) {
            true => Audience::One(SessionId(id)),
            false => Audience::Nobody,
        }
    }

    fn beginning(&self, id: u64) -> Audience {
        match self.is_new(id) {
            true => Audience::One(SessionId(id)),
            false => self.tagged(id),
        }
    }

    /// A process of the start-up snapshot may be told of before its session.
    fn early(&self, record: &Exec) -> Audience {
        match self.ready {
            true => self.tagged(record.session),
            false => self.beginning(record.session),
        }
    }

    fn exiting(&self, record: &Exit) -> Audience {
        let own = match record.flags & role::LEADER {
            0 => self.tagged(record.session),
            _ => self.beginning(record.session),
        };
        match self.servers.sessions(record.proc) {
            [] => own,
            served => served.iter().copied().chain(own.iter()).collect(),
        }
    }
}
