//! The daemon's end of the pipeline, on the tracer's thread: every record goes to the flight recorder,
//! every update to the recorder, the hooks and the server's thread.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc::UnboundedSender, oneshot, watch};
use tracer_ebpf::Record;

use super::{
    config::Config, hooks::Hooks, policy, privileges, protocol::Status, restart::Restarted,
    server::TracerMessage,
};
use crate::{
    model::{
        Model, SessionId, Update,
        redact::Redactor,
        timeline::{Timeline, Timelines},
    },
    pipeline::{Pipeline, Subscriber, Taken},
    probe::{Probes, ResumeState, boottime},
    store::Recorder,
};

/// How often the server's thread gets the tracer's status.
const STATUS: Duration = Duration::from_secs(1);
/// How long the end of the daemon may wait for the disk.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long it may wait for hooks that are running.
const HOOKS_FAREWELL: Duration = Duration::from_secs(2);

/// See the module.
pub struct DaemonSubscriber {
    recorder: Recorder,
    timelines: Timelines,
    hooks: Hooks,
    resume: Option<ResumeState>,
    /// How often the ring had been drained at the last tick.
    drained: u64,
    /// Updates since the last tick.
    updates: Vec<Update>,
    server: UnboundedSender<TracerMessage>,
    /// Requests of the server's thread.
    requests: Receiver<TracerRequest>,
    config: watch::Receiver<Arc<Config>>,
    status: Status,
    /// When the server's thread got the status last.
    status_sent: Option<Instant>,
    /// How often systemd's watchdog is notified.
    watchdog: Option<Duration>,
    /// When it was notified last.
    notified: Instant,
}

/// What the server's thread asks of the tracer's, which answers several times a second.
#[derive(Debug)]
pub enum TracerRequest {
    /// Hand everything that is known to the flight recorder.
    Flush(oneshot::Sender<()>),
    /// The timeline of an open session; `None` if it is not in memory.
    Timeline(SessionId, oneshot::Sender<Option<Box<Timeline>>>),
}

impl DaemonSubscriber {
    /// The daemon's pipeline, from the masking of secrets to this subscriber.
    pub fn pipeline(
        probes: &Probes,
        restarted: Restarted,
        server: UnboundedSender<TracerMessage>,
        requests: Receiver<TracerRequest>,
        config: watch::Receiver<Arc<Config>>,
    ) -> anyhow::Result<Pipeline<Self>> {
        let redactor = redactor(&config.borrow())?;
        let ring_bytes = u64::from(config.borrow().tracing.ring_bytes);
        let mut hooks = Hooks::start(&config.borrow().hooks).context("cannot start the hooks")?;
        let since = restarted.resume.as_ref().map_or(0, |it| it.since);
        hooks.resume(&restarted.updates, since);
        let mut subscriber = Self {
            recorder: restarted.recorder,
            timelines: restarted.timelines,
            hooks,
            resume: restarted.resume,
            drained: 0,
            updates: restarted.updates,
            server,
            requests,
            config,
            status: Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                user: uzers::get_effective_username()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                backend: probes.backend.to_string(),
                attached: probes.attached.clone(),
                ring_bytes,
                capabilities: privileges::held(std::process::id())
                    .map_or_else(Vec::new, |held| held.capabilities),
                ..Status::default()
            },
            status_sent: None,
            // Twice as often as necessary, as sd_watchdog_enabled(3) recommends.
            watchdog: sd_notify::watchdog_enabled().map(|time| time / 2),
            notified: Instant::now(),
        };
        subscriber.publish();
        Ok(Pipeline::new(redactor, restarted.model, subscriber))
    }

    /// Waits until everything is written and the hooks have run, at most for some seconds.
    pub fn finish(mut self) {
        if !self.recorder.flush(FAREWELL) {
            log::error!("not everything was written; {}", self.recorder.health());
        }
        self.hooks.finish(HOOKS_FAREWELL);
    }

    /// Sends the updates since the last tick to the server's thread.
    fn publish(&mut self) {
        if self.updates.is_empty() {
            return;
        }
        for update in &self.updates {
            match update {
                Update::Started(started) => {
                    self.status.host = started.host.to_string();
                    self.status.kernel = started.kernel.to_string();
                    self.status.traces = true;
                    self.status_sent = None;
                    notify(&[sd_notify::NotifyState::Ready]);
                    log::info!("tracing ({} backend)", started.backend);
                }
                Update::Gap(gap) => log::warn!("{}", gap.message),
                _ => {}
            }
        }
        // If the server's thread has failed, the daemon ends anyway.
        let _ = self
            .server
            .send(TracerMessage::Updates(std::mem::take(&mut self.updates)));
    }

    /// Answers the server's thread. Whoever asked may have disconnected since, so a failure does not matter.
    fn answer(&mut self) {
        let mut flushed = Vec::new();
        for request in self.requests.try_iter() {
            match request {
                TracerRequest::Flush(done) => flushed.push(done),
                TracerRequest::Timeline(session, reply) => {
                    let timeline = self.timelines.get(session);
                    let _ = reply.send(timeline.cloned().map(Box::new));
                }
            }
        }
        if !flushed.is_empty() {
            self.recorder.flush_all();
        }
        for done in flushed {
            let _ = done.send(());
        }
    }

    /// Does what is due, a few times a second.
    fn housekeeping(&mut self, redactor: &mut Redactor) {
        let now = Instant::now();
        if self
            .watchdog
            .is_some_and(|time| now - self.notified >= time)
        {
            self.notified = now;
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        if self.config.has_changed().unwrap_or(false) {
            let config = Arc::clone(&self.config.borrow_and_update());
            match self::redactor(&config) {
                Ok(new) => *redactor = new,
                Err(error) => log::error!("privacy settings are unchanged: {error:#}"),
            }
            if let Err(error) = self.hooks.change(&config.hooks, boottime()) {
                log::error!("hooks are unchanged: {error}");
            }
            self.recorder.set_policy(policy(&config));
        }
        self.hooks.queue_due(boottime());
        self.answer();
        if self.status_sent.is_none_or(|at| now - at >= STATUS) {
            self.status_sent = Some(now);
            let health = self.recorder.health();
            self.status.store = health.to_string();
            self.status.store_good = health.is_good();
            self.status.hooks = self.hooks.counts();
            let _ = self
                .server
                .send(TracerMessage::Status(Box::new(self.status.clone())));
        }
    }
}

/// Masks secrets as configured.
fn redactor(config: &Config) -> anyhow::Result<Redactor> {
    let patterns = config.privacy.mask.iter().map(String::as_str);
    Ok(Redactor::new(config.privacy.capture_argv, patterns)?)
}

/// Notifies systemd, if it started the daemon.
fn notify(what: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!("cannot notify systemd: {error}");
    }
}

impl Subscriber for DaemonSubscriber {
    fn record(&mut self, taken: &Taken<'_>, updates: &mut Vec<Update>) -> anyhow::Result<()> {
        self.status.records += 1;
        if let Record::Loss(loss) = taken.record {
            let lost = loss.counts.iter().copied().fold(0, u64::saturating_add);
            self.status.lost = self.status.lost.saturating_add(lost);
        }
        self.recorder
            .record(&taken.record, &taken.applied, updates, self.drained);
        self.timelines.apply(taken.record, updates);
        for update in &*updates {
            self.hooks.update(update);
        }
        self.updates.append(updates);
        if matches!(taken.record, Record::Tick(_) | Record::Ready(_)) {
            self.publish();
        }
        Ok(())
    }

    fn on_idle(&mut self, redactor: &mut Redactor) {
        self.housekeeping(redactor);
    }

    fn finished(&self, _: &Model) -> bool {
        self.server.is_closed()
    }

    fn drained(&mut self, number: u64) {
        self.drained = number;
    }

    fn resume_state(&mut self) -> Option<ResumeState> {
        self.resume.take()
    }
}
