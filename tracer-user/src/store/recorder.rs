//! The tracer's half of the flight recorder: takes every record and what the model made of it, sorts the
//! records by session, and hands them to the writer's thread. It never waits for the disk.

mod sorting;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tracer_ebpf::Record;

use self::sorting::PendingScan;
use super::{
    Policy, StoreHealth, UnfinishedSession, UnfinishedSessions,
    context::Context,
    database::Database,
    journal::SessionJournal,
    pending::{Change, Key, Pending, Run},
    writer::{Writer, wall},
};
use crate::model::{Applied, Finding, SessionId, SessionView, Started, Update};

/// Records that say nothing new are handed over after this time, ns of the records' clock.
const QUIET: u64 = 10_000_000_000;
/// Most bytes of records that may wait for the writer.
const ROOM: usize = 64 << 20;

/// Where and how much to keep.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub directory: PathBuf,
    /// How much, and for how long.
    pub policy: Policy,
    /// The machine's boot id (/proc/sys/kernel/random/boot_id).
    pub boot: String,
}

/// Keeps sessions, their findings and their records.
#[derive(Debug)]
pub struct Recorder {
    pending: Arc<Pending>,
    /// Most bytes of records that may wait for the writer.
    room: usize,
    writer: Option<JoinHandle<()>>,
    boot: String,
    context: Context,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    wall_offset: u64,
    /// Boxed: a table is up to twice as large as what is in it.
    journals: HashMap<SessionId, Box<SessionJournal>>,
    /// Sessions that the model has not reported yet: nothing of them is handed over.
    unannounced: HashSet<SessionId>,
    /// Sessions that may have something to hand over.
    touched: HashSet<SessionId>,
    /// How many sessions were begun here.
    found: i64,
    /// Keys of open sessions of an earlier recorder that were not resumed so far.
    unresumed: Vec<i64>,
    scan: Option<PendingScan>,
    /// When quiet journals were last handed over, ns of the records' clock.
    swept: u64,
    /// The progress that was handed over last.
    progress: Option<u64>,
}

impl Recorder {
    /// Opens the database and starts the writer. There is a recorder even if the database cannot be used:
    /// see [`Self::health`].
    #[must_use]
    pub fn open(options: Options) -> (Self, UnfinishedSessions) {
        let Options {
            directory,
            policy,
            boot,
        } = options;
        let opened = Database::open(&directory).and_then(|mut database| {
            let unfinished = UnfinishedSessions::find(&mut database, &boot)?;
            Ok((database, unfinished))
        });
        let (database, unfinished, health) = match opened {
            Ok((database, unfinished)) => (Some(database), unfinished, StoreHealth::Good),
            Err(error) => {
                let what = error.to_string();
                (
                    None,
                    UnfinishedSessions::default(),
                    StoreHealth::Unopened { what },
                )
            }
        };
        let pending = Arc::new(Pending::new(StoreHealth::Good));
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
            thread.map_err(|error| {
                super::Error::Damaged(format!("cannot start the writer's thread: {error}"))
            })
        });
        let writer = writer
            .map_err(|error| {
                let what = error.to_string();
                pending.set_health(StoreHealth::Unopened { what });
            })
            .ok();
        let recorder = Self {
            pending,
            room: ROOM,
            writer,
            boot,
            context: Context::default(),
            wall_offset: 0,
            journals: HashMap::new(),
            unannounced: HashSet::new(),
            touched: HashSet::new(),
            found: 0,
            unresumed: unfinished
                .sessions
                .iter()
                .map(|session| session.key)
                .collect(),
            scan: None,
            swept: 0,
            progress: unfinished.progress,
        };
        (recorder, unfinished)
    }

    /// Continues a session whose records the model has taken in again. Sessions that are not resumed before
    /// tracing starts are marked as interrupted.
    pub fn resume(&mut self, session: &UnfinishedSession) {
        let mut journal = SessionJournal::new(Key::Kept(session.key), session.id);
        journal.view = Some(Arc::new(session.view.clone()));
        journal.opened = session.opened;
        for record in session.records.iter() {
            journal.recall(&record);
            // These hold for later sessions as well.
            if matches!(
                record,
                Record::User(_) | Record::Loss(_) | Record::Resume(_)
            ) {
                self.context.note(&record);
            }
        }
        self.unresumed.retain(|key| *key != session.key);
        self.journals.insert(session.id, Box::new(journal));
    }

    /// Takes the next record, with what the model made of it: its result and its updates. `progress` is how
    /// far the caller has come; it is kept with a tick, and given to the next recorder
    /// ([`UnfinishedSessions::progress`]).
    pub fn record(
        &mut self,
        record: &Record<'_>,
        applied: &Applied,
        updates: &[Update],
        progress: u64,
    ) {
        self.context.note(record);
        if let Record::Start(start) = record {
            self.wall_offset = start.wall_offset;
        }
        self.sort(record, applied);
        for update in updates {
            self.update(update);
        }
        match record {
            Record::Tick(tick) => {
                self.settle(Some(tick), applied);
                self.end_tick(tick.header.time, progress);
            }
            _ => self.settle(None, applied),
        }
    }

    fn update(&mut self, update: &Update) {
        let offset = self.wall_offset;
        match update {
            Update::SessionOpened(it) => {
                if let Some(journal) = self.announced(&it.session) {
                    journal.changed = true;
                    journal.urgent = true;
                    journal.mark_reported();
                }
                self.unannounced.remove(&it.session.id);
            }
            Update::Finding(it) => {
                let found = (wall(it.time, offset), Finding::clone(it));
                if let Some(journal) = self.announced(&it.session) {
                    journal.findings.push(found);
                    journal.urgent = true;
                    journal.mark_reported();
                }
            }
            Update::SessionClosed(it) => {
                let closed = (wall(it.time, offset), it.clone());
                if let Some(journal) = self.announced(&it.session) {
                    journal.closed = Some(Box::new(closed));
                    journal.mark_reported();
                }
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => {
                self.renew(&it.session);
            }
            Update::Started(it) => self.run(it),
            Update::StreamEof(_) | Update::Sample(_) | Update::Gap(_) | Update::Forget { .. } => {}
        }
    }

    /// Hands over what is urgent, and from time to time everything.
    fn end_tick(&mut self, now: u64, progress: u64) {
        let sweep = now.saturating_sub(self.swept) >= QUIET;
        if sweep {
            self.swept = now;
            self.touched.extend(self.journals.keys());
        }
        // While nothing is kept of an unannounced session, the progress made with it is not either.
        let made = self.unannounced.is_empty() && self.progress != Some(progress);
        let progress = made.then_some(progress);
        self.progress = progress.or(self.progress);
        self.hand_over(progress, |journal| {
            let old = sweep && now.saturating_sub(journal.waiting_since) >= QUIET;
            journal.closed.is_some() || journal.urgent || old
        });
    }

    /// Hands over everything that is known of all reported sessions, because somebody wants to read it or
    /// the daemon ends.
    pub fn flush_all(&mut self) {
        let journals = self.journals.values_mut();
        journals.for_each(|journal| journal.release());
        self.touched.extend(self.journals.keys());
        self.hand_over(None, |_| true);
    }

    /// Changes how much is kept, and for how long.
    pub fn set_policy(&mut self, policy: Policy) {
        self.pending.put(false, |work| work.policy = Some(policy));
    }

    /// A handle to wait for the writer with, on another thread.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        Flusher {
            pending: Arc::clone(&self.pending),
            writes: self.writer.is_some(),
        }
    }

    /// Hands over everything and waits until it is written; false if that fails or takes longer than
    /// `timeout`.
    #[must_use]
    pub fn flush(&mut self, timeout: Duration) -> bool {
        self.flush_all();
        self.flusher().flush(timeout)
    }

    /// Whether everything is being kept.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.pending.health()
    }

    fn hand_over(&mut self, progress: Option<u64>, which: impl Fn(&SessionJournal) -> bool) {
        let journals = &self.journals;
        let ready = |id: &SessionId| {
            journals.get(id).is_some_and(|journal| {
                journal.view.is_some() && journal.has_changes() && which(journal)
            })
        };
        let ready: Vec<SessionId> = self.touched.drain().filter(ready).collect();
        if ready.is_empty() && progress.is_none() {
            return;
        }
        let urgent = ready.iter().any(|id| {
            journals.get(id).is_some_and(|journal| {
                let mut findings = journal.findings.iter();
                journal.closed.is_some() || findings.any(|(_, finding)| !finding.is_routine())
            })
        });
        let (journals, room) = (&mut self.journals, self.room);
        self.pending.put(urgent, |work| {
            for id in ready {
                let Some(journal) = journals.get_mut(&id) else {
                    continue;
                };
                if !work.is_within(room, journal.bytes.len()) {
                    journal.lose();
                }
                if let Some((key, change)) = change_of(journal) {
                    work.add(key, change);
                }
                if journal.closed.is_some() {
                    journals.remove(&id);
                }
            }
            work.progress = progress.or(work.progress);
        });
    }

    /// A run of the tracer begins. Sessions of an earlier one that were not resumed by now never will be.
    fn run(&mut self, start: &Started) {
        let run = Run {
            boot: self.boot.clone(),
            start: start.clone(),
        };
        let unresumed = std::mem::take(&mut self.unresumed);
        self.pending.put(false, |work| {
            work.run = Some(run);
            work.interrupted.extend(unresumed);
        });
    }

    /// The journal of a session that the model reports.
    fn announced(&mut self, view: &Arc<SessionView>) -> Option<&mut SessionJournal> {
        let journal = self.journals.get_mut(&view.id)?;
        if journal.view.is_none() {
            journal.opened = wall(view.opened, self.wall_offset);
            journal.view = Some(Arc::clone(view));
        }
        self.renew(view)
    }

    /// Notes how a session is described now, if it was announced. What sshd runs before the command (xauth,
    /// the shell of ~/.ssh/rc) is reported earlier; the session is not kept before it is known what it is.
    fn renew(&mut self, view: &Arc<SessionView>) -> Option<&mut SessionJournal> {
        let journal = self.journals.get_mut(&view.id)?;
        let known = journal.view.as_mut()?;
        self.touched.insert(view.id);
        if !Arc::ptr_eq(known, view) {
            journal.changed |= **known != **view;
            *known = Arc::clone(view);
        }
        Some(journal)
    }
}

/// Waits for the writer's thread.
#[derive(Clone, Debug)]
pub struct Flusher {
    pending: Arc<Pending>,
    writes: bool,
}

impl Flusher {
    /// Waits until everything that was handed over is written; false if that fails or takes longer than
    /// `timeout`.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.writes && self.pending.flush(timeout)
    }
}

impl Drop for Recorder {
    /// Waits until what was handed over is written.
    fn drop(&mut self) {
        self.pending.stop();
        if let Some(writer) = self.writer.take() {
            // The panic's message was printed already.
            let _ = writer.join();
        }
    }
}

/// What is to be written of a session.
fn change_of(journal: &mut SessionJournal) -> Option<(Key, Change)> {
    let change = Change {
        view: Arc::clone(journal.view.as_ref()?),
        opened: journal.opened,
        findings: std::mem::take(&mut journal.findings),
        closed: journal.closed.as_deref().cloned(),
        changed: std::mem::take(&mut journal.changed),
        records: std::mem::take(&mut journal.bytes),
        lost: std::mem::take(&mut journal.unreported_lost),
    };
    journal.urgent = false;
    Some((journal.key, change))
}
