//! The model: records in, updates out.
//!
//! Pure: no I/O, no clock. Time is what records say, so the same records give the same updates.
//! What happened is noted as it arrives; conclusions are drawn at a [`Record::Tick`], when
//! everything that happened before is known.

mod escape;
mod lineage;
pub(crate) mod message;
mod orphan;
mod peers;
mod session;
mod settle;
mod stream;
mod verdict;
mod view;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry};

use tracer_ebpf::{
    Exec, Exit, Fork, Holder, Loss, Record, SessionStart, Start, backend, edge, loss, role,
};

pub use self::{escape::Visible, view::*};
use self::{
    lineage::{Argv, Tree},
    orphan::{Look, Scan},
    peers::{Conns, Servers},
    session::Session,
    settle::Next,
};

/// Most sessions kept at once: as many as the kernel side keeps.
const MAX_SESSIONS: usize = 32_768;
/// Most sessions remembered as over, so that what their last processes do opens none anew.
const MAX_OVER: usize = 8192;
/// Most users whose names are kept.
const MAX_USERS: usize = 65_536;
/// Most processes kept from the start-up snapshot until their sessions follow.
const MAX_EARLY: usize = 65_536;
/// After records were lost, when to see what is still there, ns.
const LOSS_SETTLES: u64 = 1_000_000_000;

/// What all decisions share.
#[derive(Debug, Default)]
struct Env {
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    wall_offset: u64,
    /// How long a leader must be dead before its holders are told, ns.
    grace: u64,
    /// When the tracer started.
    started: u64,
    /// A close is told by the kernel releasing the object, so that nothing can follow.
    exact_releases: bool,
}

/// A stream that is worth sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenStream {
    /// Its session.
    pub session: SessionId,
    /// Which of the session's.
    pub slot: Slot,
    /// Inode number of its object.
    pub object: u64,
}

/// Everything that is known of the sessions on this machine.
#[derive(Debug, Default)]
pub struct Model {
    env: Env,
    start: Option<Started>,
    ready: bool,
    sessions: HashMap<u64, Session>,
    servers: Servers,
    conns: Conns,
    users: HashMap<u32, Visible>,
    /// Members found by the start-up snapshot, before their sessions.
    early: HashMap<u64, Vec<Exec>>,
    early_len: usize,
    /// Sessions that something happened to since the last tick.
    touched: BTreeSet<u64>,
    /// When to see to which session.
    timers: BTreeSet<(u64, u64)>,
    /// Sessions for which a scan is wanted.
    wanted: BTreeSet<u64>,
    scan: Option<Scan>,
    over: HashSet<u64>,
    over_order: VecDeque<u64>,
    closed: u64,
    lost_at: Option<u64>,
}

impl Model {
    /// A model that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next record and appends what became known by it.
    pub fn apply(&mut self, record: Record<'_>, out: &mut Vec<Update>) {
        match record {
            Record::Start(it) => self.started(it),
            Record::Ready(it) => self.is_ready(it.header.time, out),
            Record::Tick(it) => self.tick(it.header.time, out),
            Record::Loss(it) => self.loss(it, out),
            Record::User(it) => self.user(it.uid, Visible::field(&it.name)),
            Record::Process(it) => self.process(it),
            Record::Fork(it) => self.fork(it),
            Record::Exec(it) => self.exec(it, out),
            Record::Exit(it) => self.exit(it, out),
            Record::SessionStart(it) => self.session_start(it, out),
            Record::Chld(it) => self.on(it.session, |session| session.chld(it)),
            Record::Signal(it) => {
                for id in self.servers.sessions(it.target).to_vec() {
                    self.on(id, |session| session.server_signal(it));
                }
            }
            Record::Stream(it) => self.stream(it, out),
            Record::Conn(it) => {
                for id in self.conns.sessions(it.conn.sock).to_vec() {
                    self.on(id, |session| session.conn(it));
                }
            }
            Record::ScanBegin(it) => self.scan_begin(it.header.time),
            Record::Holder(it) => self.holder(it),
            Record::ScanEnd(it) => self.scan_end(it.header.time, it.partial != 0, out),
        }
    }

    /// When a tick is wanted though nothing may happen by then, ns of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Whether a scan for holders is wanted now: `ScanBegin`, every `Holder`, `ScanEnd`.
    #[must_use]
    pub fn needs_scan(&self) -> bool {
        self.ready && self.scan.is_none() && !self.wanted.is_empty()
    }

    /// Streams whose server's end is open.
    pub fn open_streams(&self) -> impl Iterator<Item = OpenStream> {
        self.sessions.values().flat_map(|session| {
            let open = session
                .observed()
                .filter(|stream| stream.settled_at().is_none_or(|at| at > session.last));
            open.map(|stream| OpenStream {
                session: session.view.id,
                slot: stream.slot,
                object: stream.object,
            })
        })
    }

    /// Sessions that are not over.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionView> {
        self.sessions.values().map(|session| &*session.view)
    }

    /// How many sessions are not over.
    #[must_use]
    pub fn open(&self) -> usize {
        self.sessions.len()
    }

    /// How many sessions were seen to end.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed
    }

    fn started(&mut self, record: &Start) {
        self.env = Env {
            wall_offset: record.wall_offset,
            grace: record.grace,
            started: record.header.time,
            exact_releases: record.backend != backend::SYSCALL,
        };
        self.start = Some(Started {
            time: record.header.time,
            wall_offset: record.wall_offset,
            grace: record.grace,
            tracer_pid: record.pid,
            backend: match record.backend {
                backend::FENTRY => "fentry",
                backend::KPROBE => "kprobe",
                backend::SYSCALL => "syscall",
                _ => "unknown",
            },
            host: Visible::field(&record.host),
            kernel: Visible::field(&record.kernel),
            servers: record
                .servers
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
                .map(Visible::new)
                .collect(),
        });
    }

    fn is_ready(&mut self, time: u64, out: &mut Vec<Update>) {
        if self.ready {
            return;
        }
        self.ready = true;
        self.early = HashMap::new();
        if let Some(start) = self.start.clone() {
            out.push(Update::Started(Started { time, ..start }));
        }
        match self
            .sessions
            .values()
            .filter(|session| session.view.preexisting)
            .count()
        {
            0 => {}
            n => out.push(Update::Gap(Gap {
                time,
                reason: GapReason::Preexisting,
                lost: 0,
                message: format!(
                    "{} began before the tracer: what they wrote and lost until now is not known",
                    if n == 1 {
                        "one session".to_owned()
                    } else {
                        format!("{n} sessions")
                    }
                ),
            })),
        }
        self.touched.extend(self.sessions.keys());
        // Whoever waits for a hang to be explained need not wait for the first tick.
        self.tick(time, out);
    }

    fn tick(&mut self, now: u64, out: &mut Vec<Update>) {
        if !self.ready {
            return;
        }
        let mut due = std::mem::take(&mut self.touched);
        due.extend(self.timers.range(..=(now, u64::MAX)).map(|(_, id)| *id));
        for id in due {
            self.settle(id, now, out);
        }
    }

    fn settle(&mut self, id: u64, now: u64, out: &mut Vec<Update>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(timer) = session.timer.take() {
            self.timers.remove(&(timer, id));
        }
        let start = session.view.id.start_ms().saturating_mul(1_000_000);
        if session.stub && self.lost_at.is_none_or(|lost| lost < start) {
            // Nothing was lost that could have been its start: whatever it is, it is no session.
            self.sessions.remove(&id);
            self.wanted.remove(&id);
            return;
        }
        let mut next = Next::default();
        let over = session.settle(now, &self.env, &mut next, out);
        if over {
            self.end(id, now, out);
            return;
        }
        if session.watch.is_due(now) {
            self.wanted.insert(id);
        }
        if let Some(time) = next.0 {
            self.set_timer(id, time);
        }
    }

    fn set_timer(&mut self, id: u64, time: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(old) = session.timer.replace(time) {
            self.timers.remove(&(old, id));
        }
        self.timers.insert((time, id));
    }

    fn end(&mut self, id: u64, now: u64, out: &mut Vec<Update>) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.wanted.remove(&id);
        self.servers.done(session.server.pid, id);
        self.conns.done(session.conn, id);
        self.closed += 1;
        if self.over.insert(id) {
            self.over_order.push_back(id);
        }
        if self.over_order.len() > MAX_OVER
            && let Some(old) = self.over_order.pop_front()
        {
            self.over.remove(&old);
        }
        session.conclude(now, &self.env, out);
    }

    fn loss(&mut self, record: &Loss, out: &mut Vec<Update>) {
        let lost: u64 = record
            .counts
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n));
        if lost == 0 {
            return;
        }
        let time = record.header.time;
        self.lost_at = Some(time);
        for (id, session) in &mut self.sessions {
            session.gap(GapReason::LostRecords);
            session.watch.ask(time.saturating_add(LOSS_SETTLES));
            self.touched.insert(*id);
        }
        let what = [
            "records for want of room in the ring buffer",
            "processes",
            "streams",
            "sessions",
            "system calls",
        ];
        debug_assert_eq!(what.len(), loss::KINDS);
        let parts: Vec<String> = record
            .counts
            .iter()
            .zip(what)
            .filter(|(count, _)| **count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        out.push(Update::Gap(Gap {
            time,
            reason: GapReason::LostRecords,
            lost,
            message: format!(
                "evidence was lost: {}; no session open now can be called clean",
                parts.join(", ")
            ),
        }));
    }

    fn user(&mut self, uid: u32, name: Visible) {
        if self.users.len() >= MAX_USERS && !self.users.contains_key(&uid) {
            return;
        }
        for session in self.sessions.values_mut() {
            session.user(uid, &name);
        }
        self.users.insert(uid, name);
    }

    fn process(&mut self, record: &Exec) {
        if let Some(scan) = &mut self.scan {
            let argv = Argv::of(record);
            scan.stranger(record.proc, argv.words(), argv.cut);
        } else if record.session == 0 {
            if record.flags & role::SERVER != 0 {
                self.servers.exec(record.proc, record.parent, record.comm);
            }
        } else if let Some(session) = self.sessions.get_mut(&record.session) {
            session.exec(record);
            self.touched.insert(record.session);
        } else if !self.ready && self.early_len < MAX_EARLY {
            self.early_len += 1;
            self.early.entry(record.session).or_default().push(*record);
        }
    }

    fn fork(&mut self, record: &Fork) {
        // A server that runs inside a session is a member like any other.
        if record.session != 0 {
            self.on(record.session, |session| session.fork(record));
        } else if record.flags & role::SERVER != 0 {
            self.servers.fork(record.parent, record.child, record.comm);
        }
    }

    fn exec(&mut self, record: &Exec, out: &mut Vec<Update>) {
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
            let argv = session.exec(record);
            news = Some((session.view.clone(), argv));
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

    fn exit(&mut self, record: &Exit, out: &mut Vec<Update>) {
        for id in self.servers.exit(record.proc) {
            self.on(id, |session| session.server_exited(record));
        }
        if record.session == 0 {
            return;
        }
        if record.flags & role::LEADER != 0 {
            self.stub(record.session, record.header.time, out);
        }
        let mut news = None;
        self.on(record.session, |session| {
            let comm = Visible::new(session.tree.comm(record.proc));
            session.exit(record);
            news = Some((session.view.clone(), comm));
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

    fn session_start(&mut self, record: &SessionStart, out: &mut Vec<Update>) {
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
        // Parents first.
        members.sort_by_key(|member| (member.proc.start, member.proc.pid));
        for member in members {
            session.exec(&member);
        }
        match self.sessions.entry(id) {
            Entry::Occupied(mut entry) if entry.get().stub && !entry.get().told_opened => {
                session.timer = entry.get().timer;
                session.gap(GapReason::LostRecords);
                entry.insert(session);
            }
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => {
                entry.insert(session);
            }
        }
        self.servers.serves(record.server, id);
        self.conns.carries(record.conn, id);
        self.touched.insert(id);
    }

    fn stream(&mut self, record: &tracer_ebpf::Stream, out: &mut Vec<Update>) {
        let time = record.header.time;
        if record.edge != edge::SAMPLE {
            self.stub(record.session, time, out);
        }
        let mut news = None;
        self.on(record.session, |session| {
            session.stream(record);
            news = Some(session.view.clone());
        });
        let (Some(session), Some(slot)) = (news.filter(|_| self.ready), Slot::of(record.slot))
        else {
            return;
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
    }

    /// Keeps scraps of a session whose start is missing, until it is clear whether it was lost.
    fn stub(&mut self, id: u64, time: u64, out: &mut Vec<Update>) {
        if id == 0
            || self.sessions.contains_key(&id)
            || self.over.contains(&id)
            || !self.has_room(id, time, out)
        {
            return;
        }
        self.sessions
            .insert(id, Session::unknown(SessionId(id), time));
        self.touched.insert(id);
    }

    fn has_room(&self, id: u64, time: u64, out: &mut Vec<Update>) -> bool {
        if self.sessions.len() < MAX_SESSIONS || self.sessions.contains_key(&id) {
            return true;
        }
        out.push(Update::Gap(Gap {
            time,
            reason: GapReason::TooMany,
            lost: 1,
            message: format!(
                "session {} is not followed: there are {MAX_SESSIONS} already",
                SessionId(id).pid()
            ),
        }));
        false
    }

    /// Does something to a session and remembers to see to it.
    fn on(&mut self, id: u64, action: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            action(session);
            self.touched.insert(id);
        }
    }

    fn scan_begin(&mut self, now: u64) {
        self.wanted.clear();
        let joining = self
            .sessions
            .iter()
            .filter(|(_, session)| session.watch.joins(now));
        self.scan = Some(Scan::of(joining.map(|(id, _)| *id)));
    }

    fn holder(&mut self, record: &Holder) {
        if let Some(scan) = &mut self.scan {
            scan.add(record);
        }
    }

    fn scan_end(&mut self, now: u64, partial: bool, out: &mut Vec<Update>) {
        let Some(scan) = self.scan.take() else { return };
        for (id, copies) in scan.copies() {
            if let Some(session) = self.sessions.get_mut(&id) {
                let look = Look {
                    copies,
                    scan: &scan,
                    partial,
                    now,
                    servers: &self.servers,
                    env: &self.env,
                };
                orphan::looked(session, &look, out);
                // A look ends between two ticks; the next one draws the rest of the conclusions.
                self.set_timer(id, now);
            }
        }
    }
}
