//! What waits to be written, between the tracer's thread and the writer's. The tracer never waits for
//! the disk: it puts down what there is, and the writer takes all of it at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Health, Policy};
use crate::model::{Closed, Finding, SessionView, Started};

/// Findings and ends of sessions that wait at most: for as long as the disk is full.
const MAX_NEWS: usize = 200_000;
/// From one commit to the next, unless something is urgent.
const EVERY: Duration = Duration::from_secs(1);

/// Names a session in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// It is there.
    Kept(i64),
    /// The so-manieth that this recorder found; what its key is, is known when the database is open.
    New(i64),
}

/// A start of the tracer.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub boot: String,
    pub start: Started,
}

/// What became of one session.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub view: Arc<SessionView>,
    /// Wall clock, ns. So are the next two.
    pub opened: i64,
    pub findings: Vec<(i64, Finding)>,
    pub closed: Option<(i64, Closed)>,
    /// `view` is news.
    pub changed: bool,
    pub records: Vec<u8>,
    /// Records that are missing.
    pub lost: u64,
}

impl Change {
    fn news(&self) -> usize {
        self.findings.len() + usize::from(self.closed.is_some())
    }

    fn add(&mut self, later: Self) {
        self.view = later.view;
        self.findings.extend(later.findings);
        self.closed = later.closed.or(self.closed.take());
        self.changed |= later.changed;
        self.records.extend(later.records);
        self.lost += later.lost;
    }
}

/// What one commit writes.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub run: Option<Run>,
    /// Open sessions that nobody goes on with.
    pub interrupted: Vec<i64>,
    pub changes: BTreeMap<Key, Change>,
    /// How far the caller had come, if that is news.
    pub progress: Option<u64>,
    /// How much is to be kept from here on, if that is news.
    pub policy: Option<Policy>,
    /// Findings and ends that had no room.
    pub dropped: u64,
    bytes: usize,
    news: usize,
    /// How often something was put down until it was taken.
    upto: u64,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.run.is_none()
            && self.changes.is_empty()
            && self.interrupted.is_empty()
            && self.progress.is_none()
            && self.policy.is_none()
    }

    /// Whether so many bytes of records more are within `room`.
    pub fn is_within(&self, room: usize, bytes: usize) -> bool {
        self.bytes + bytes <= room
    }

    /// Adds what became of a session.
    pub fn add(&mut self, key: Key, mut change: Change) {
        if self.news + change.news() > MAX_NEWS {
            if self.dropped == 0 {
                log::error!(
                    "the flight recorder holds {MAX_NEWS} findings and ends of sessions: there is room for no more"
                );
            }
            self.dropped += change.news().max(1) as u64;
            change.findings.clear();
            change.closed = None;
            if !self.changes.contains_key(&key) {
                return;
            }
        }
        self.bytes += change.records.len();
        self.news += change.news();
        match self.changes.get_mut(&key) {
            Some(before) => before.add(change),
            None => {
                self.changes.insert(key, change);
            }
        }
    }

    /// Puts what came later behind it.
    fn append(&mut self, later: Self) {
        self.run = later.run.or(self.run.take());
        self.interrupted.extend(later.interrupted);
        self.progress = later.progress.or(self.progress);
        self.dropped += later.dropped;
        for (key, change) in later.changes {
            self.add(key, change);
        }
    }
}

#[derive(Debug)]
struct Inner {
    work: Work,
    /// Since when something waits.
    since: Option<Instant>,
    urgent: bool,
    stop: bool,
    put: u64,
    /// So much of it is being written, or has been.
    taken: u64,
    committed: u64,
    failures: u64,
    /// Somebody waits for the next attempt.
    flushing: bool,
    health: Health,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
    /// There is something to do.
    wake: Condvar,
    /// Something was done, or failed.
    done: Condvar,
}

impl Pending {
    pub fn new(health: Health) -> Self {
        Self {
            inner: Mutex::new(Inner {
                work: Work::default(),
                since: None,
                urgent: false,
                stop: false,
                put: 0,
                taken: 0,
                committed: 0,
                failures: 0,
                flushing: false,
                health,
            }),
            wake: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// A panic while it was held leaves nothing half done: every change to it is one assignment.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something down.
    pub fn put(&self, urgent: bool, what: impl FnOnce(&mut Work)) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        what(&mut inner.work);
        inner.put += 1;
        if inner.since.is_none() && !inner.work.is_empty() {
            inner.since = Some(Instant::now());
            self.wake.notify_one();
        }
        if urgent && !inner.urgent {
            inner.urgent = true;
            self.wake.notify_one();
        }
    }

    /// Waits for what is to be written; `None` when there will be nothing more. Comes back with nothing
    /// after `idle`, so that other things can be seen to.
    pub fn take(&self, idle: Duration) -> Option<Work> {
        let mut inner = self.inner();
        let begun = Instant::now();
        loop {
            let due = match inner.since {
                Some(since) if !inner.urgent && !inner.stop => since + EVERY,
                Some(since) => since,
                None if inner.stop => return None,
                None => begun + idle,
            };
            let now = Instant::now();
            if due <= now {
                inner.since = None;
                inner.urgent = false;
                inner.flushing = false;
                let mut work = std::mem::take(&mut inner.work);
                work.upto = inner.put;
                inner.taken = inner.put;
                return Some(work);
            }
            (inner, _) = self
                .wake
                .wait_timeout(inner, due - now)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The work is done, and there is room again for more.
    pub fn committed(&self, work: &Work) {
        self.inner().committed = work.upto;
        self.done.notify_all();
    }

    /// The work could not be done: it waits on, before what came meanwhile. Gives false when there is no
    /// use in waiting, as the recorder is going.
    pub fn failed(&self, mut work: Work, pause: Duration) -> bool {
        let mut inner = self.inner();
        let later = std::mem::take(&mut inner.work);
        work.append(later);
        inner.work = work;
        inner.taken = inner.committed;
        inner.since.get_or_insert_with(Instant::now);
        inner.failures += 1;
        self.done.notify_all();
        let end = Instant::now() + pause;
        while !inner.stop && !inner.flushing {
            let now = Instant::now();
            if now >= end {
                return true;
            }
            (inner, _) = self
                .wake
                .wait_timeout(inner, end - now)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !inner.stop
    }

    /// Waits until everything that was put down is committed and has been made room for; false when it cannot be, or not in time.
    pub fn flush(&self, timeout: Duration) -> bool {
        let mut inner = self.inner();
        let all = inner.put;
        let end = Instant::now() + timeout;
        let failures = inner.failures;
        // What is being written already needs no turn of its own: with nothing to do it would be taken
        // for an idle one.
        if inner.taken < all {
            (inner.urgent, inner.flushing) = (true, true);
            inner.since.get_or_insert_with(Instant::now);
            self.wake.notify_one();
        }
        loop {
            if inner.committed >= all {
                return true;
            }
            let now = Instant::now();
            if now >= end || inner.failures > failures {
                return false;
            }
            (inner, _) = self
                .done
                .wait_timeout(inner, end - now)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn stop(&self) {
        self.inner().stop = true;
        self.wake.notify_one();
        self.done.notify_all();
    }

    pub fn health(&self) -> Health {
        self.inner().health.clone()
    }

    /// Says so when it changes.
    pub fn set_health(&self, health: Health) {
        let mut inner = self.inner();
        if inner.health == health {
            return;
        }
        match (&health, inner.health.is_good()) {
            (Health::Good, false) => log::warn!("{health}"),
            (Health::Good, true) => {}
            _ => log::error!("{health}"),
        }
        inner.health = health;
        self.done.notify_all();
    }
}
