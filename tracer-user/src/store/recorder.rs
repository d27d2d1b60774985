//! The tracer's half of the flight recorder: sorts the records of the road by session and hands them to
//! the writer, without ever waiting for it.

mod sorting;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tracer_ebpf::{Record, Start, Tick, edge};

use super::{
    Health, Left, LeftSession, Policy,
    context::Context,
    database::Database,
    log::Log,
    pending::{Change, Key, Pending, Run},
    writer::{Writer, wall},
};
use crate::model::{Audience, Finding, Kind, Model, SessionId, SessionView, Started, Update};

/// What tells nothing new waits so long until it is handed over, ns of the road.
const QUIET: u64 = 10_000_000_000;
/// Bytes of records that wait for the writer at most.
const ROOM: usize = 64 << 20;
/// Bytes of one scan that are looked at.
const MAX_SCAN: usize = 64 << 20;

/// Where and how much to keep.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub directory: PathBuf,
    /// How much.
    pub policy: Policy,
    /// The machine's boot (/proc/sys/kernel/random/boot_id).
    pub boot: String,
}

/// Keeps what is on the road.
///
/// For each record: [`record`](Self::record) before the model takes it in, [`update`](Self::update) for
/// each update that comes of it, and after a tick [`tick`](Self::tick).
#[derive(Debug)]
pub struct Recorder {
    pending: Arc<Pending>,
    room: usize,
    writer: Option<JoinHandle<()>>,
    boot: String,
    context: Context,
    wall_offset: u64,
    /// Boxed: a table is up to twice as large as what is in it.
    logs: HashMap<SessionId, Box<Log>>,
    /// Those that have not been told of: nothing of them is kept yet.
    untold: HashSet<SessionId>,
    /// Those of which there may be something to hand over.
    touched: HashSet<SessionId>,
    found: i64,
    /// Sessions of another recorder that nobody went on with so far.
    left: Vec<i64>,
    /// Records of the scan under way.
    scan: Vec<u8>,
    ticking: Option<Ticking>,
    swept: u64,
    /// How far the caller had come when that was handed over last.
    progress: Option<u64>,
}

/// A tick that is being applied.
#[derive(Debug)]
struct Ticking {
    tick: Tick,
    /// The sessions that it is about: how many others their connection carried before, and for when
    /// they had asked to be seen to.
    about: Vec<(SessionId, u32, Option<u64>)>,
    /// Sessions that it closed, and their connections.
    closed: Vec<(SessionId, u64)>,
}

impl Recorder {
    /// Opens the database and starts the writer. Whatever is wrong with the database, there is a
    /// recorder: see [`Self::health`].
    #[must_use]
    pub fn open(options: Options) -> (Self, Left) {
        let Options {
            directory,
            policy,
            boot,
        } = options;
        let opened = Database::open(&directory).and_then(|mut database| {
            let left = Left::find(&mut database, &boot)?;
            Ok((database, left))
        });
        let (database, left, health) = match opened {
            Ok((database, left)) => (Some(database), left, Health::Good),
            Err(error) => {
                let what = error.to_string();
                (None, Left::default(), Health::Unopened { what })
            }
        };
        let pending = Arc::new(Pending::new(Health::Good));
        pending.set_health(health);
        let writer = Writer::new(
            Arc::clone(&pending),
            directory,
            policy,
            boot.clone(),
            database,
        );
        let writer = writer.and_then(|writer| {
            let thread = thread::Builder::new().name("flight-recorder".to_owned());
            let thread = thread.spawn(move || writer.run());
            thread
                .map_err(|error| super::Error::Damaged(format!("no thread to write from: {error}")))
        });
        let writer = writer
            .map_err(|error| {
                let what = error.to_string();
                pending.set_health(Health::Unopened { what });
            })
            .ok();
        let recorder = Self {
            pending,
            room: ROOM,
            writer,
            boot,
            context: Context::default(),
            wall_offset: 0,
            logs: HashMap::new(),
            untold: HashSet::new(),
            touched: HashSet::new(),
            found: 0,
            left: left.sessions.iter().map(|session| session.key).collect(),
            scan: Vec::new(),
            ticking: None,
            swept: 0,
            progress: left.progress,
        };
        (recorder, left)
    }

    /// Goes on with a session whose records have been put on the road. Those that this is not done with
    /// before tracing starts are marked as interrupted.
    pub fn resume(&mut self, session: &LeftSession) {
        let mut log = Log::new(Key::Kept(session.key), session.id);
        log.view = Some(Arc::new(session.view.clone()));
        log.opened = session.opened;
        for record in session.records.iter() {
            log.recall(&record);
            // The model knows them as well.
            if matches!(
                record,
                Record::User(_) | Record::Loss(_) | Record::Resume(_)
            ) {
                self.context.note(&record);
            }
        }
        self.left.retain(|key| *key != session.key);
        self.logs.insert(session.id, Box::new(log));
    }

    /// Takes the next record; `model` is to take it in afterwards.
    pub fn record(&mut self, record: &Record<'_>, model: &Model) {
        self.context.note(record);
        match record {
            Record::Start(it) => self.started(it),
            Record::Tick(it) => return self.ticks(it, model),
            Record::ScanBegin(_) => self.scan.clear(),
            Record::ScanEnd(_) if !self.scan.is_empty() => return self.scanned(record, model),
            Record::SessionStart(it) => return self.starts(it, record, model),
            _ => {}
        }
        let of_scan = match record {
            Record::ScanBegin(_) => true,
            Record::Holder(_) | Record::Process(_) | Record::Cgroup(_) | Record::Socket(_) => {
                !self.scan.is_empty()
            }
            _ => false,
        };
        if of_scan {
            // What a scan tells is sorted when it is complete.
            if self.scan.len() < MAX_SCAN {
                self.scan.extend_from_slice(record.bytes());
            }
            return;
        }
        match model.audience(record) {
            Audience::Everyone => {
                self.touched.extend(self.logs.keys());
                self.logs.values_mut().for_each(|log| log.keep(record));
            }
            audience => {
                for id in audience.ids() {
                    let log = self.log(*id);
                    match record {
                        Record::Stream(it) if it.edge == edge::SAMPLE => log.sample(it),
                        _ => log.keep(record),
                    }
                }
            }
        }
    }

    /// Takes what the model made of the record.
    pub fn update(&mut self, update: &Update) {
        let offset = self.wall_offset;
        match update {
            Update::SessionOpened(it) => {
                if let Some(log) = self.announced(&it.session) {
                    log.changed = true;
                    log.loud = true;
                    log.tells();
                }
                self.untold.remove(&it.session.id);
            }
            Update::Finding(it) => {
                let found = (wall(it.time, offset), Finding::clone(it));
                if let Some(log) = self.announced(&it.session) {
                    log.findings.push(found);
                    log.loud = true;
                    log.tells();
                }
            }
            Update::SessionClosed(it) => {
                let closed = (wall(it.time, offset), it.clone());
                let Some(log) = self.announced(&it.session) else {
                    return;
                };
                log.closed = Some(Box::new(closed));
                log.tells();
                let sock = log.sock;
                if let Some(ticking) = &mut self.ticking {
                    ticking.closed.push((it.session.id, sock));
                }
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => {
                self.seen(&it.session);
            }
            Update::Started(it) => self.run(it),
            Update::StreamEof(_) | Update::Sample(_) | Update::Gap(_) | Update::Forget { .. } => {}
        }
    }

    /// Ends a tick: hands what there is to the writer. `progress` is kept with it.
    pub fn tick(&mut self, model: &Model, progress: u64) {
        let now = match self.ticking.take() {
            Some(ticking) => self.ticked(&ticking, model),
            None => 0,
        };
        let sweep = now.saturating_sub(self.swept) >= QUIET;
        if sweep {
            self.swept = now;
            // Scraps of what the model takes for no session.
            self.untold.retain(|id| {
                let open = model.is_open(*id);
                if !open {
                    self.logs.remove(id);
                }
                open
            });
        }
        // Of a session that is not told of yet nothing is kept.
        let come = (self.untold.is_empty() && self.progress != Some(progress)).then_some(progress);
        self.progress = come.or(self.progress);
        if sweep {
            self.touched.extend(self.logs.keys());
        }
        self.hand_over(come, |log| {
            let old = sweep && now.saturating_sub(log.waiting_since) >= QUIET;
            log.closed.is_some() || log.loud || old
        });
    }

    /// Hands over everything that is known of sessions that were told of: somebody wants to read it, or
    /// this is the end.
    pub fn hurry(&mut self) {
        self.logs.values_mut().for_each(|log| log.release());
        self.touched.extend(self.logs.keys());
        self.hand_over(None, |_| true);
    }

    /// Keeps so much from here on.
    pub fn keep(&mut self, policy: Policy) {
        self.pending.put(false, |work| work.policy = Some(policy));
    }

    /// Something to wait with, on another thread.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        Flusher {
            pending: Arc::clone(&self.pending),
            writes: self.writer.is_some(),
        }
    }

    /// Hands over everything and waits until it is kept; false when it cannot be, or not in time.
    #[must_use]
    pub fn flush(&mut self, timeout: Duration) -> bool {
        self.hurry();
        self.flusher().flush(timeout)
    }

    /// Whether everything is being kept.
    #[must_use]
    pub fn health(&self) -> Health {
        self.pending.health()
    }

    fn hand_over(&mut self, progress: Option<u64>, which: impl Fn(&Log) -> bool) {
        let logs = &self.logs;
        let ready = |id: &SessionId| {
            let log = logs.get(id);
            log.is_some_and(|log| log.view.is_some() && log.waits() && which(log))
        };
        let ready: Vec<SessionId> = self.touched.drain().filter(ready).collect();
        if ready.is_empty() && progress.is_none() {
            return;
        }
        let urgent = ready.iter().any(|id| {
            let weighs = |(_, finding): &(i64, Finding)| finding.kind != Kind::NearMiss;
            let log = logs.get(id);
            log.is_some_and(|log| log.closed.is_some() || log.findings.iter().any(weighs))
        });
        let (logs, room) = (&mut self.logs, self.room);
        self.pending.put(urgent, |work| {
            for id in ready {
                let Some(log) = logs.get_mut(&id) else {
                    continue;
                };
                if !work.is_within(room, log.bytes.len()) {
                    log.lose();
                }
                if let Some((key, change)) = change_of(log) {
                    work.add(key, change);
                }
                if log.closed.is_some() {
                    logs.remove(&id);
                }
            }
            work.progress = progress.or(work.progress);
        });
    }

    fn started(&mut self, record: &Start) {
        self.wall_offset = record.wall_offset;
    }

    /// A new run: whoever was to be gone on with has been by now.
    fn run(&mut self, start: &Started) {
        let run = Run {
            boot: self.boot.clone(),
            start: start.clone(),
        };
        let left = std::mem::take(&mut self.left);
        self.pending.put(false, |work| {
            work.run = Some(run);
            work.interrupted.extend(left);
        });
    }

    /// The log of a session that the model has announced.
    fn announced(&mut self, view: &Arc<SessionView>) -> Option<&mut Log> {
        let log = self.logs.get_mut(&view.id)?;
        if log.view.is_none() {
            log.opened = wall(view.opened, self.wall_offset);
            log.view = Some(Arc::clone(view));
        }
        self.seen(view)
    }

    /// The log of a session, if that was announced. What sshd runs before the command (xauth, the shell of
    /// ~/.ssh/rc) is reported earlier: the session is not to be kept before it is known what it is.
    fn seen(&mut self, view: &Arc<SessionView>) -> Option<&mut Log> {
        let log = self.logs.get_mut(&view.id)?;
        let known = log.view.as_mut()?;
        self.touched.insert(view.id);
        if !Arc::ptr_eq(known, view) {
            log.changed |= **known != **view;
            *known = Arc::clone(view);
        }
        Some(log)
    }
}

/// Waits for the writer.
#[derive(Clone, Debug)]
pub struct Flusher {
    pending: Arc<Pending>,
    writes: bool,
}

impl Flusher {
    /// Waits until everything that was handed over is kept; false when it cannot be, or not in time.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.writes && self.pending.flush(timeout)
    }
}

impl Drop for Recorder {
    /// What was handed over is written.
    fn drop(&mut self) {
        self.pending.stop();
        if let Some(writer) = self.writer.take() {
            // A panic there has been told of.
            let _ = writer.join();
        }
    }
}

/// What is to be written of a session.
fn change_of(log: &mut Log) -> Option<(Key, Change)> {
    let change = Change {
        view: Arc::clone(log.view.as_ref()?),
        opened: log.opened,
        findings: std::mem::take(&mut log.findings),
        closed: log.closed.as_deref().cloned(),
        changed: std::mem::take(&mut log.changed),
        records: std::mem::take(&mut log.bytes),
        lost: std::mem::take(&mut log.lost_news),
    };
    log.loud = false;
    Some((log.key, change))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::{
        model::Verdict,
        store::{Filter, Outcome, Reader, database::FILE, recording},
    };

    const PATIENCE: Duration = Duration::from_secs(60);

    fn keep(recorder: &mut Recorder) -> Vec<Update> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ordinary.rec");
        let mut recording = recording::Reader::open(path.as_ref()).unwrap();
        let (mut model, mut updates) = (Model::new(), Vec::new());
        while let Some(record) = recording.next().unwrap() {
            recorder.record(&record, &model);
            let before = updates.len();
            model.apply(record, &mut updates);
            updates[before..]
                .iter()
                .for_each(|update| recorder.update(update));
            if let Record::Tick(_) = record {
                recorder.tick(&model, 1);
            }
        }
        updates
    }

    /// A writer that is kept from writing.
    fn behind(room: usize) -> (tempfile::TempDir, Vec<Update>) {
        let directory = tempfile::tempdir().unwrap();
        let (mut recorder, _) = Recorder::open(Options {
            directory: directory.path().to_owned(),
            policy: Policy {
                max_age: u64::MAX,
                ..Policy::default()
            },
            boot: String::new(),
        });
        recorder.room = room;
        let blocker = Connection::open(directory.path().join(FILE)).unwrap();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        let updates = keep(&mut recorder);
        blocker.execute_batch("ROLLBACK").unwrap();
        // The attempt that was under way may have failed.
        assert!(
            recorder.flush(PATIENCE) || recorder.flush(PATIENCE),
            "{}",
            recorder.health()
        );
        (directory, updates)
    }

    #[test]
    fn when_the_writer_is_behind_records_are_lost_and_last_words_are_not() {
        for (room, whole) in [(ROOM, true), (5_000, false), (0, false)] {
            let (directory, updates) = behind(room);
            let last = |update: &Update| matches!(update, Update::SessionClosed(_));
            let reader = Reader::open(directory.path()).unwrap();
            let kept = reader.sessions(&Filter::default()).unwrap();
            assert_eq!(kept.len(), updates.into_iter().filter(last).count());
            assert_eq!(kept.iter().all(|kept| kept.lost == 0), whole);
            for kept in kept {
                let Outcome::Closed(closed) = &kept.outcome else {
                    panic!("{kept:#?}");
                };
                let (mut model, mut anew) = (Model::new(), Vec::new());
                for record in reader.records(kept.key).unwrap().iter() {
                    model.apply(record, &mut anew);
                }
                for update in anew {
                    if let Update::SessionClosed(it) = update {
                        assert!(it == *closed || kept.lost > 0);
                        assert!(kept.lost == 0 || it.verdict != Verdict::Clean);
                    }
                }
            }
        }
    }
}
