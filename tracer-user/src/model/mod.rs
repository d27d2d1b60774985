//! The model: records in, updates out.
//!
//! Pure: no I/O, no clock. Time is what records say, so the same records give the same updates.
//! What happened is noted as it arrives; conclusions are drawn at a [`Record::Tick`], when
//! everything that happened before is known.

mod applied;
mod audience;
mod facts;
mod findings;
mod judgement;
mod records;
pub mod redact;
mod schedule;
mod size;
pub(crate) mod text;
mod ticks;
pub mod timeline;
mod tracked;
mod view;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use tracer_ebpf::{Exec, Record, Start, backend};

pub(crate) use self::text as message;
pub use self::{
    applied::{Applied, SessionScan, Settled},
    audience::Audience,
    size::Size,
    view::*,
};
use self::{
    facts::{Conns, Env, Scan, Servers},
    tracked::Tracked,
};

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
    /// Boxed: a table is up to twice as large as what is in it.
    sessions: HashMap<u64, Box<Tracked>>,
    /// Processes in the trees of all sessions.
    processes: usize,
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
    /// Of sessions that went through something.
    histories: HashMap<u64, History>,
}

impl Model {
    /// A model that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next record and appends what became known by it. Who keeps records apart by their
    /// sessions wants the result as well; everybody else drops it.
    pub fn apply(&mut self, record: Record<'_>, out: &mut Vec<Update>) -> Applied {
        let before = out.len();
        let mut applied = Applied {
            about: self.audience(&record),
            ..Applied::default()
        };
        self.take_in(record, &mut applied, out);
        self.remember(&mut out[before..]);
        let is_known = |id| self.sessions.contains_key(&id) || self.early.contains_key(&id);
        applied.about.retain(is_known);
        applied
    }

    /// Keeps what sessions go through until their last word, which says it.
    fn remember(&mut self, updates: &mut [Update]) {
        for update in updates {
            match update {
                Update::Finding(finding) if finding.kind().is_hang() => {
                    let id = finding.session.id.0;
                    self.histories.entry(id).or_default().add(finding);
                }
                Update::SessionClosed(closed) => {
                    let had = self.histories.remove(&closed.session.id.0);
                    closed.had = had.unwrap_or_default();
                    closed.had.close(closed.time);
                }
                Update::Forget { session } => {
                    self.histories.remove(&session.0);
                }
                _ => {}
            }
        }
    }

    fn take_in(&mut self, record: Record<'_>, applied: &mut Applied, out: &mut Vec<Update>) {
        match record {
            Record::Start(it) => self.started(it),
            Record::Ready(it) => self.is_ready(it.header.time, applied, out),
            Record::Tick(it) => applied.settled = self.tick(it.header.time, out),
            Record::Loss(it) => self.loss(it, out),
            Record::User(it) => self.user(it.uid, Visible::field(&it.name)),
            Record::Process(it) => self.process(it),
            Record::Fork(it) => self.fork(it),
            Record::Exec(it) => self.exec(it, out),
            Record::Exit(it) => self.exit(it, out),
            Record::SessionStart(it) => {
                applied.forked_as = self.servers.name(it.leader);
                self.session_start(it, out);
            }
            Record::Chld(it) => self.each(&applied.about, |session| session.facts.chld(it)),
            Record::Signal(it) => {
                self.each(&applied.about, |session| session.facts.server_signal(it));
            }
            Record::Stream(it) => applied.is_evidence = self.stream(it, out),
            Record::Conn(it) => self.each(&applied.about, |session| session.facts.conn(it)),
            Record::Passed(it) => self.each(&applied.about, |session| session.facts.passed(it)),
            Record::ConnectionSiblings(it) => {
                self.each(&applied.about, |session| session.facts.siblings(it));
            }
            Record::ScanBegin(it) => self.scan_begin(it.header.time),
            Record::Holder(it) => self.holder(it),
            Record::Socket(it) => applied.is_evidence = self.socket(it, &applied.about),
            Record::Cgroup(it) => self.cgroup(it),
            Record::Resume(it) => self.resume(it, out),
            Record::SessionVanished(it) => self.on(it.session, |session| session.facts.vanish()),
            Record::ScanEnd(it) => {
                applied.scans = self.scan_end(it.header.time, it.partial != 0, out);
            }
        }
    }

    /// When a tick is wanted though nothing may happen by then, ns of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let first = self.timers.first().filter(|_| self.ready);
        first.map(|(time, _)| *time)
    }

    /// Whether a scan for holders is wanted now: `ScanBegin`, every `Holder`
    /// with its `Cgroup`, every `Socket`, `ScanEnd`.
    #[must_use]
    pub fn needs_scan(&self) -> bool {
        self.ready && self.scan.is_none() && !self.wanted.is_empty()
    }

    /// Streams whose server's end is open.
    pub fn open_streams(&self) -> impl Iterator<Item = OpenStream> {
        let live = self.sessions.values().filter(|it| !it.is_lingering());
        live.map(|session| &session.facts).flat_map(|session| {
            let open = session
                .observed()
                .filter(|stream| stream.settled_at().is_none_or(|at| at > session.last()));
            open.map(|stream| OpenStream {
                session: session.id(),
                slot: stream.slot(),
                object: stream.object(),
            })
        })
    }

    /// Sessions that have such streams, ascending.
    #[must_use]
    pub fn sampled(&self) -> Vec<u64> {
        let mut sessions: Vec<_> = self.open_streams().map(|stream| stream.session.0).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// Sessions that are not over.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionView> {
        self.sessions
            .values()
            .map(|session| &**session.facts.view())
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

    /// How much is kept.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            sessions: self.sessions.len(),
            processes: self.processes,
            servers: self.servers.len(),
            connections: self.conns.len(),
            users: self.users.len(),
            early: self.early.values().map(Vec::len).sum(),
            over: self.over.len(),
            histories: self.histories.len(),
        }
    }

    /// A tracer begins; what is known from an earlier one stays, and waits for [`Record::Ready`].
    fn started(&mut self, record: &Start) {
        self.ready = false;
        self.env = Env::of(record);
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
            }
            .into(),
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

    fn is_ready(&mut self, time: u64, applied: &mut Applied, out: &mut Vec<Update>) {
        if self.ready {
            return;
        }
        self.ready = true;
        let early = std::mem::take(&mut self.early).into_keys();
        if let Some(start) = self.start.clone() {
            out.push(Update::Started(Started { time, ..start }));
        }
        match self
            .sessions
            .values()
            .filter(|it| it.facts.view().preexisting && !it.reported.is_opened())
            .count()
        {
            0 => {}
            n => out.push(Update::Gap(Gap {
                time,
                reason: GapReason::Preexisting,
                lost: 0,
                message: text::preexisting(n),
            })),
        }
        self.touched.extend(self.sessions.keys());
        // Whoever waits for a hang to be explained need not wait for the first tick.
        applied.settled = self.tick(time, out);
        // They turned out to belong to no session.
        applied.settled.extend(early.map(Settled::dropped));
    }
}
