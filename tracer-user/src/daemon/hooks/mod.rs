//! Sends findings to commands and URLs. The tracer's thread never waits for them: each hook has a thread
//! and a short queue of its own, and findings that do not fit are counted.

mod action;
mod hangs;
mod health;
mod rate;

use std::{
    collections::BTreeSet,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use self::{action::Doer, hangs::Hangs, health::HookHealth, rate::Bucket};
use super::config::{Action, Hook};
use crate::{
    export::Lines,
    model::{Finding, FindingKey, Kind, Update, Visible},
};

/// Findings that may wait for a hook.
const QUEUE: usize = 64;

/// All hooks of a daemon.
#[derive(Debug)]
pub struct Hooks {
    lines: Lines,
    workers: Vec<Worker>,
    hangs: Hangs,
}

/// How many findings a hook has handled, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCounts {
    /// The hook's name.
    pub name: String,
    /// Queued, sent or not.
    pub queued: u64,
    /// Sent.
    pub told: u64,
    /// Could not be sent.
    pub failed: u64,
    /// Not queued because of the maximum rate.
    pub suppressed: u64,
    /// Not queued because the queue was full.
    pub dropped: u64,
    /// Why the last attempt failed, if it did.
    pub failing: Option<String>,
}

impl Hooks {
    /// Starts a thread for each hook.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(hooks: &[Hook]) -> io::Result<Self> {
        let workers = hooks.iter().map(Worker::start);
        Ok(Self {
            lines: Lines::new(true, true),
            workers: workers.collect::<io::Result<_>>()?,
            hangs: Hangs::default(),
        })
    }

    /// Takes in what an earlier daemon reported until `then`, ns of `CLOCK_BOOTTIME`. It sent the hangs that
    /// were old enough, and no others.
    pub fn resume(&mut self, updates: &[Update], then: u64) {
        for update in updates {
            match update {
                Update::Finding(finding) => {
                    if let Some(key) = hangs::key(finding) {
                        self.hangs.note(key, finding);
                    }
                }
                Update::SessionClosed(it) => self.hangs.forget(it.session.id),
                _ => {}
            }
        }
        for worker in &mut self.workers {
            worker.heard_of(&self.hangs, then);
        }
    }

    /// Applies a new configuration. An unchanged hook continues; a removed one sends what is in its queue.
    /// `now` is ns of `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    /// When a thread cannot be started; nothing has changed then.
    pub fn change(&mut self, hooks: &[Hook], now: u64) -> io::Result<()> {
        let is_new = |hook: &&Hook| !self.workers.iter().any(|worker| worker.hook == **hook);
        let new = hooks.iter().filter(is_new).map(Worker::start);
        let mut new = new.collect::<io::Result<Vec<_>>>()?;
        for worker in &mut new {
            worker.heard_of(&self.hangs, now);
        }
        self.workers.retain(|worker| hooks.contains(&worker.hook));
        self.workers.extend(new);
        Ok(())
    }

    /// Queues a finding for every hook that wants it, now or once it is old enough. Needs every update, in
    /// order. Never waits.
    pub fn update(&mut self, update: &Update) {
        match update {
            Update::Started(_) => {
                // It has the clock's offset and the host's name.
                self.lines.of(update, &mut Vec::new());
            }
            Update::Finding(finding) => match hangs::key(finding) {
                None => self.queue(finding, |_| true),
                Some(key) => {
                    self.hangs.note(key, finding);
                    self.queue(finding, |worker| worker.heard.contains(&key));
                    self.queue_due(finding.time);
                    self.forget_ended();
                }
            },
            Update::SessionClosed(it) => {
                self.hangs.forget(it.session.id);
                self.forget_ended();
            }
            Update::Forget { session } => {
                self.hangs.forget(*session);
                self.forget_ended();
            }
            _ => {}
        }
    }

    /// Queues the hangs that are old enough at `now`, ns of `CLOCK_BOOTTIME`. Must be called a few times a
    /// second.
    pub fn queue_due(&mut self, now: u64) {
        let mut due = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            for (key, hang) in self.hangs.iter() {
                if worker.is_old(hang.since, now) && worker.heard.insert(*key) {
                    due.extend(hang.findings().map(|finding| (index, finding.clone())));
                }
            }
        }
        for (index, finding) in due {
            if wants(&self.workers[index].hook, &finding) {
                let line = line(&mut self.lines, finding);
                self.workers[index].queue(&line, Instant::now());
            }
        }
    }

    fn queue(&mut self, finding: &Finding, whose: impl Fn(&Worker) -> bool) {
        let mut written = None;
        let workers = self.workers.iter_mut();
        for worker in workers.filter(|it| whose(it) && wants(&it.hook, finding)) {
            let line = written.get_or_insert_with(|| line(&mut self.lines, finding.clone()));
            worker.queue(line, Instant::now());
        }
    }

    fn forget_ended(&mut self) {
        for worker in &mut self.workers {
            worker.heard.retain(|key| self.hangs.contains(key));
        }
    }

    /// The counts of every hook.
    #[must_use]
    pub fn counts(&self) -> Vec<HookCounts> {
        self.workers.iter().map(Worker::counts).collect()
    }

    /// Ends the hooks. Waits at most for `time` for those that are running; what is queued is dropped.
    pub fn finish(mut self, time: Duration) {
        let until = Instant::now() + time;
        for worker in &mut self.workers {
            worker.shared.stop.store(true, Ordering::Relaxed);
            worker.sender = None;
        }
        for worker in &self.workers {
            let left = until.saturating_duration_since(Instant::now());
            if worker.done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                log::warn!("hook {}: not finished in time", worker.name());
            }
        }
    }
}

/// A finding as JSON.
fn line(lines: &mut Lines, finding: Finding) -> Arc<str> {
    let mut out = Vec::new();
    lines.of(&Update::Finding(finding), &mut out);
    Arc::from(out.pop().unwrap_or_default())
}

/// Whether a hook wants a finding.
fn wants(hook: &Hook, finding: &Finding) -> bool {
    let is_small = finding.kind() == Kind::Truncated && finding.bytes() < hook.min_bytes;
    hook.kinds.contains(&finding.kind())
        && hook.states.contains(&finding.state)
        && !is_small
        && (!finding.is_routine() || hook.kinds.contains(&Kind::NearMiss))
}

/// A finding as JSON, and how many were suppressed before it.
#[derive(Debug)]
struct Job {
    line: Arc<str>,
    suppressed: u64,
}

impl Job {
    /// The line with that number in its object.
    fn json(&self) -> String {
        let object = self.line.strip_suffix('}').unwrap_or(&self.line);
        format!("{object},\"suppressed\":{}}}\n", self.suppressed)
    }
}

/// A hook as the tracer's thread sees it.
#[derive(Debug)]
struct Worker {
    hook: Hook,
    sender: Option<SyncSender<Job>>,
    bucket: Bucket,
    /// Open hangs that are old enough for it.
    heard: BTreeSet<FindingKey>,
    queued: u64,
    /// Left out since the last that was queued.
    left_out: u64,
    suppressed: u64,
    dropped: u64,
    shared: Arc<Shared>,
    /// Disconnected once the thread has ended.
    done: Receiver<()>,
}

/// What the tracer's thread and the hook's thread share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    told: AtomicU64,
    failed: AtomicU64,
    /// Why the last attempt failed, if it did.
    failing: Mutex<Option<String>>,
}

impl Worker {
    fn start(hook: &Hook) -> io::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(QUEUE);
        let (running, done) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (name, mut doer) = (Name(&hook.action).to_string(), Doer::new(hook));
        thread::Builder::new()
            .name("lastbyte-hook".to_owned())
            .spawn(move || {
                let _running = running;
                let mut health = HookHealth::default();
                for job in jobs {
                    if theirs.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let result = doer.act(job.json().as_bytes());
                    let count = match result {
                        Ok(()) => &theirs.told,
                        Err(_) => &theirs.failed,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    let reason = result.as_ref().err().map(|error| format!("{error:#}"));
                    *theirs
                        .failing
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = reason;
                    health.log(&name, result, Instant::now());
                }
            })?;
        Ok(Self {
            hook: hook.clone(),
            sender: Some(sender),
            bucket: Bucket::full(hook.rate, Instant::now()),
            heard: BTreeSet::new(),
            queued: 0,
            left_out: 0,
            suppressed: 0,
            dropped: 0,
            shared,
            done,
        })
    }

    fn name(&self) -> Name<'_> {
        Name(&self.hook.action)
    }

    /// Whether a hang that began at `since` is old enough for it at `now`.
    fn is_old(&self, since: u64, now: u64) -> bool {
        u128::from(now.saturating_sub(since)) >= self.hook.min_age.as_nanos()
    }

    /// Notes that the hangs that were old enough at `then` were sent already.
    fn heard_of(&mut self, hangs: &Hangs, then: u64) {
        let old = hangs
            .iter()
            .filter(|(_, hang)| self.is_old(hang.since, then));
        let old: Vec<FindingKey> = old.map(|(key, _)| *key).collect();
        self.heard.extend(old);
    }

    fn queue(&mut self, line: &Arc<str>, now: Instant) {
        let Some(sender) = &self.sender else { return };
        if !self.bucket.take(now) {
            self.suppressed += 1;
            self.left_out += 1;
            return;
        }
        let job = Job {
            line: Arc::clone(line),
            suppressed: self.left_out,
        };
        match sender.try_send(job) {
            Ok(()) => {
                self.queued += 1;
                self.left_out = 0;
            }
            // Its thread ends only with its sender, or by a panic.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped += 1;
                self.left_out += 1;
            }
        }
    }

    fn counts(&self) -> HookCounts {
        HookCounts {
            name: self.name().to_string(),
            queued: self.queued,
            told: self.shared.told.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            suppressed: self.suppressed,
            dropped: self.dropped,
            failing: self
                .shared
                .failing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
                // A server may have said anything.
                .map(|reason| Visible::new(reason.as_bytes()).to_string()),
        }
    }
}

/// A hook's name: its program, or the server that it posts to. The rest of a URL may be a secret.
struct Name<'a>(&'a Action);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Action::Command(words) => f.write_str(words.first().map_or("", |word| word)),
            Action::Post(url) => {
                let url: Option<ureq::http::Uri> = url.parse().ok();
                let host = url
                    .as_ref()
                    .and_then(|url| Some((url.scheme_str()?, url.host()?)));
                let (scheme, host) = host.unwrap_or(("http", ""));
                write!(f, "{scheme}://{host}/…")
            }
        }
    }
}

#[cfg(test)]
mod tests;
