//! The queue between the tracer's thread and the writer's. The tracer never waits for the disk: it adds
//! changes to the queue, and the writer takes all of them at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Policy, StoreHealth};
use crate::model::{Closed, Finding, SessionView, Started};

/// Most findings and ends of sessions that may wait, as while the disk is full.
const MAX_EVENTS: usize = 200_000;
/// Time from one commit to the next, unless something is urgent.
const EVERY: Duration = Duration::from_secs(1);

/// Identifies a session in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// The key of its row.
    Kept(i64),
    /// Its number among the sessions that this recorder began, from 1. Its key follows from that once the
    /// database is open.
    New(i64),
}

/// A run of the tracer.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub boot: String,
    pub start: Started,
}

/// What changed in one session.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub view: Arc<SessionView>,
    /// When it opened, wall clock, ns.
    pub opened: i64,
    /// New findings, and when each was made, wall clock, ns.
    pub findings: Vec<(i64, Finding)>,
    /// Its end, and when that was, wall clock, ns.
    pub closed: Option<(i64, Closed)>,
    /// `view` has changed, or is not written yet.
    pub changed: bool,
    pub records: Vec<u8>,
    /// How many records were dropped.
    pub lost: u64,
}

impl Change {
    fn events(&self) -> usize {
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
    /// Keys of open sessions that will not be resumed.
    pub interrupted: Vec<i64>,
    pub changes: BTreeMap<Key, Change>,
    /// The caller's progress, if it has changed.
    pub progress: Option<u64>,
    /// How much is kept from here on, if that has changed.
    pub policy: Option<Policy>,
    /// How many findings and ends of sessions had no room.
    pub dropped: u64,
    bytes: usize,
    events: usize,
    /// The number of the last addition in it.
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

    /// Whether `bytes` more bytes of records fit into `room`.
    pub fn is_within(&self, room: usize, bytes: usize) -> bool {
        self.bytes + bytes <= room
    }

    /// Adds what changed in a session.
    pub fn add(&mut self, key: Key, mut change: Change) {
        if self.events + change.events() > MAX_EVENTS {
            if self.dropped == 0 {
                log::error!(
                    "store: {MAX_EVENTS} findings and session ends wait to be written; further ones are dropped"
                );
            }
            self.dropped += change.events().max(1) as u64;
            change.findings.clear();
            change.closed = None;
            if !self.changes.contains_key(&key) {
                return;
            }
        }
        self.bytes += change.records.len();
        self.events += change.events();
        match self.changes.get_mut(&key) {
            Some(before) => before.add(change),
            None => {
                self.changes.insert(key, change);
            }
        }
    }

    /// Appends later work.
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
    /// When the oldest waiting change was added.
    since: Option<Instant>,
    urgent: bool,
    stop: bool,
    /// Number of the last addition, of the last that the writer took, and of the last that it committed.
    added: u64,
    taken: u64,
    committed: u64,
    failures: u64,
    /// Somebody waits for the next attempt to write.
    flushing: bool,
    health: StoreHealth,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
    /// The writer has something to do.
    wake: Condvar,
    /// Something was written, or could not be.
    done: Condvar,
}

impl Pending {
    pub fn new(health: StoreHealth) -> Self {
        Self {
            inner: Mutex::new(Inner {
                work: Work::default(),
                since: None,
                urgent: false,
                stop: false,
                added: 0,
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

    /// After a panic of the other thread the state is still consistent: every change is one assignment.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something to the queue; an urgent addition is written at once.
    pub fn put(&self, urgent: bool, add: impl FnOnce(&mut Work)) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        add(&mut inner.work);
        inner.added += 1;
        if inner.since.is_none() && !inner.work.is_empty() {
            inner.since = Some(Instant::now());
            self.wake.notify_one();
        }
        if urgent && !inner.urgent {
            inner.urgent = true;
            self.wake.notify_one();
        }
    }

    /// Waits for work; `None` when there will be no more. Returns empty work after `idle`, so that the
    /// writer can delete old sessions meanwhile.
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
                work.upto = inner.added;
                inner.taken = inner.added;
                return Some(work);
            }
            (inner, _) = self
                .wake
                .wait_timeout(inner, due - now)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The work was committed.
    pub fn committed(&self, work: &Work) {
        self.inner().committed = work.upto;
        self.done.notify_all();
    }

    /// The work could not be written: puts it back in front of what was added meanwhile, and waits for
    /// `pause`. Returns false if the recorder is being dropped, so that there is no next attempt.
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

    /// Waits until everything that was added is committed, and old sessions were deleted for it; false if
    /// that fails or takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        let mut inner = self.inner();
        let all = inner.added;
        let end = Instant::now() + timeout;
        let failures = inner.failures;
        // If everything is being written already, another turn would be taken for an idle one.
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

    /// No more will be added.
    pub fn stop(&self) {
        self.inner().stop = true;
        self.wake.notify_one();
        self.done.notify_all();
    }

    pub fn health(&self) -> StoreHealth {
        self.inner().health.clone()
    }

    /// Logs the state of the store when it changes.
    pub fn set_health(&self, health: StoreHealth) {
        let mut inner = self.inner();
        if inner.health == health {
            return;
        }
        match (&health, inner.health.is_good()) {
            (StoreHealth::Good, false) => log::warn!("{health}"),
            (StoreHealth::Good, true) => {}
            _ => log::error!("{health}"),
        }
        inner.health = health;
        self.done.notify_all();
    }
}
