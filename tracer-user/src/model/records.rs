//! What each record changes: to which session it belongs, and what is kept beside sessions.

use std::collections::hash_map::Entry;

use tracer_ebpf::{Exec, Exit, Fork, Loss, Resume, SessionStart, edge, role};

use super::{
    Audience, ExitStatus, Gap, GapReason, Model, Process, SessionId, Slot, StreamNews, Update,
    Visible,
    facts::{Argv, MAX_SESSIONS, Session, Tree},
    text,
    tracked::Tracked,
};

/// Most processes kept of all sessions together, leaders beside: twice as many as the kernel side
/// keeps living ones.
pub(super) const MAX_PROCESSES: usize = 131_072;
/// Most users whose names are kept.
pub(super) const MAX_USERS: usize = 65_536;
/// Most processes kept from the start-up snapshot until their sessions follow.
pub(super) const MAX_EARLY: usize = 65_536;
/// After records were lost, when to see what is still there, ns.
const LOSS_SETTLES: u64 = 1_000_000_000;

impl Model {
    pub(super) fn loss(&mut self, record: &Loss, out: &mut Vec<Update>) {
        let lost: u64 = record
            .counts
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n));
        if lost == 0 {
            return;
        }
        let time = record.header.time;
        self.lost_at = self.lost_at.max(Some(time));
        for (id, session) in &mut self.sessions {
            session.facts.gap(GapReason::LostRecords);
            session.watch.ask(time.saturating_add(LOSS_SETTLES));
            self.touched.insert(*id);
        }
        out.push(Update::Gap(Gap {
            time,
            reason: GapReason::LostRecords,
            lost,
            message: text::lost_records(&record.counts),
        }));
    }

    /// The tracer was away. What its programs have told meanwhile follows, or nothing did.
    pub(super) fn resume(&mut self, record: &Resume, out: &mut Vec<Update>) {
        if record.complete != 0 {
            return;
        }
        let time = record.header.time;
        self.lost_at = self.lost_at.max(Some(time));
        for (id, session) in &mut self.sessions {
            session.facts.gap(GapReason::Interrupted);
            session.watch.ask(time);
            self.touched.insert(*id);
        }
        out.push(Update::Gap(Gap {
            time,
            reason: GapReason::Interrupted,
            lost: 0,
            message: text::interrupted(record.since, time),
        }));
    }

    pub(super) fn user(&mut self, uid: u32, name: Visible) {
        if self.users.len() >= MAX_USERS && !self.users.contains_key(&uid) {
            return;
        }
        for session in self.sessions.values_mut() {
            if session.facts.is_nameless(uid) {
                session.facts.named(&name);
            }
        }
        self.users.insert(uid, name);
    }

    pub(super) fn process(&mut self, record: &Exec) {
        if let Some(scan) = &mut self.scan {
            scan.stranger(record.proc, Argv::of(record));
        } else if record.session == 0 {
            if record.flags & role::SERVER != 0 {
                self.servers.exec(record.proc, record.parent, record.comm);
            }
        } else if let Some(session) = self.sessions.get(&record.session) {
            // One that has been followed since its birth is known better.
            if !session.reported.is_opened() || !session.facts.tree().is_member(record.proc) {
                self.on(record.session, |session| {
                    session.facts.exec(record);
                });
            }
        } else if !self.ready && self.early_len < MAX_EARLY {
            self.early_len += 1;
            self.early.entry(record.session).or_default().push(*record);
        }
    }

    pub(super) fn fork(&mut self, record: &Fork) {
        // A server that runs inside a session is a member like any other.
        if record.session != 0 {
            self.on(record.session, |session| session.facts.fork(record));
        } else if record.flags & role::SERVER != 0 {
            self.servers.fork(record.parent, record.child, record.comm);
        }
    }

    pub(super) fn exec(&mut self, record: &Exec, out: &mut Vec<Update>) {
        if record.session == 0 {
            if record.flags & role::SERVER == 0 {
                self.servers.leave(record.proc.pid);
            } else {
                self.servers.exec(record.proc, record.parent, record.comm);
            }
            return;
        }
        let mut news = None;
        self.on(record.session, |session| {
            let argv = session.facts.exec(record);
            news = Some((session.facts.view().clone(), argv));
        });
        if let Some((session, argv)) = news.filter(|_| self.ready) {
            out.push(Update::ProcessExec(Process {
                time: record.header.time,
                session,
                pid: record.proc.pid,
                start: record.proc.start,
                comm: Visible::field(&record.comm),
                argv: argv.words(),
                exit: None,
            }));
        }
    }

    pub(super) fn exit(&mut self, record: &Exit, out: &mut Vec<Update>) {
        for id in self.servers.exit(record.proc) {
            self.on(id, |session| session.facts.server_exited(record));
        }
        if record.session == 0 {
            return;
        }
        if record.flags & role::LEADER != 0 {
            self.stub(record.session, record.header.time, out);
        }
        let mut news = None;
        self.on(record.session, |session| {
            let comm = Visible::new(session.facts.tree().comm(record.proc));
            session.exit(record);
            news = Some((session.facts.view().clone(), comm));
        });
        if let Some((session, comm)) = news.filter(|_| self.ready) {
            out.push(Update::ProcessExit(Process {
                time: record.header.time,
                session,
                pid: record.proc.pid,
                start: record.proc.start,
                comm,
                argv: Vec::new(),
                exit: Some(ExitStatus::of_wait(record.status)),
            }));
        }
    }

    pub(super) fn session_start(&mut self, record: &SessionStart, out: &mut Vec<Update>) {
        let id = record.session;
        let comm = self.servers.leave(record.leader.pid).unwrap_or_default();
        if id == 0 || self.over.contains(&id) || !self.has_room(id, record.header.time, out) {
            return;
        }
        let mut session = Session::new(
            record,
            Tree::new(record.leader, comm),
            self.users.get(&record.uid),
            &self.env,
        );
        let mut members = self.early.remove(&id).unwrap_or_default();
        session.make_room(MAX_PROCESSES.saturating_sub(self.processes));
        // Parents first.
        members.sort_by_key(|member| (member.proc.start, member.proc.pid));
        for member in members {
            session.exec(&member);
        }
        match self.sessions.entry(id) {
            Entry::Occupied(mut entry) if entry.get().is_unreported_stub() => {
                let stub = entry.get_mut();
                let seen = stub.facts.view().opened;
                if self.lost_at.is_some_and(|at| at >= seen) {
                    session.gap(GapReason::LostRecords);
                }
                for edge in stub.facts.take_early_edges() {
                    session.edge(&edge);
                }
                self.processes += session.tree().len();
                self.processes -= stub.facts.tree().len();
                stub.begin(session);
            }
            Entry::Occupied(mut entry) => {
                if record.preexisting != 0 && record.leader.pid == 0 {
                    // Its leader ended while no tracer ran.
                    entry.get_mut().facts.leader_died(record.header.time);
                    self.touched.insert(id);
                }
                return;
            }
            Entry::Vacant(entry) => {
                self.processes += session.tree().len();
                entry.insert(Box::new(Tracked::new(session)));
            }
        }
        self.servers.serves(record.server, id);
        self.conns.carries(record.conn, id);
        self.touched.insert(id);
    }

    /// Takes in an edge or a sample of a stream. True for a sample that is evidence.
    pub(super) fn stream(&mut self, record: &tracer_ebpf::Stream, out: &mut Vec<Update>) -> bool {
        let time = record.header.time;
        if record.edge != edge::SAMPLE {
            self.stub(record.session, time, out);
        }
        let slot = Slot::of(record.slot);
        let (mut news, mut is_evidence) = (None, false);
        self.on(record.session, |session| {
            let before = session.facts.timed_state(slot);
            session.edge(record);
            is_evidence = session
                .facts
                .is_stream_evidence(before, session.facts.timed_state(slot));
            news = Some(session.facts.view().clone());
        });
        let (Some(session), Some(slot)) = (news.filter(|_| self.ready), slot) else {
            return is_evidence;
        };
        let news = StreamNews {
            time,
            session,
            slot,
            written: record.counters.written,
            read: record.counters.read,
            unread: record.unread,
        };
        match record.edge {
            edge::EOF => out.push(Update::StreamEof(news)),
            edge::SAMPLE => out.push(Update::Sample(news)),
            _ => {}
        }
        is_evidence
    }

    /// Keeps scraps of a session whose start is missing, until it is clear whether it was lost.
    pub(super) fn stub(&mut self, id: u64, time: u64, out: &mut Vec<Update>) {
        if !self.is_new(id) || !self.has_room(id, time, out) {
            return;
        }
        self.sessions.insert(
            id,
            Box::new(Tracked::new(Session::unknown(SessionId(id), time))),
        );
        self.touched.insert(id);
    }

    pub(super) fn has_room(&self, id: u64, time: u64, out: &mut Vec<Update>) -> bool {
        if self.sessions.len() < MAX_SESSIONS || self.sessions.contains_key(&id) {
            return true;
        }
        out.push(Update::Gap(Gap {
            time,
            reason: GapReason::TooMany,
            lost: 1,
            message: text::too_many(SessionId(id), MAX_SESSIONS),
        }));
        false
    }

    /// Does something to each session that a record is about.
    pub(super) fn each(&mut self, about: &Audience, action: impl Fn(&mut Tracked)) {
        for id in about.iter() {
            self.on(id, &action);
        }
    }

    /// Does something to a session and remembers to see to it.
    pub(super) fn on(&mut self, id: u64, action: impl FnOnce(&mut Tracked)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let before = session.facts.tree().len();
            session
                .facts
                .make_room(MAX_PROCESSES.saturating_sub(self.processes));
            action(session);
            self.processes -= before;
            self.processes += session.facts.tree().len();
            self.touched.insert(id);
        }
    }
}
