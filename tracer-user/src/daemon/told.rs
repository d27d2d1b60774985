//! What the daemon is told, on the tracer's thread: every record goes to the flight recorder, every
//! update to the recorder, the hooks and the server.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc::UnboundedSender, oneshot, watch};
use tracer_ebpf::Record;

use super::{
    config::Config, hooks::Hooks, policy, privileges, protocol::Status, restart::Restarted,
    server::News,
};
use crate::{
    model::{Model, Update, redact::Redactor},
    probe::{Probes, ResumeState, boottime},
    road::{Followed, Subscriber},
    store::Recorder,
};

/// How often the server is told how the tracer is.
const STATUS: Duration = Duration::from_secs(1);
/// How long the end may be kept waiting by the disk.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long hooks that are under way may take then.
const HOOKS_FAREWELL: Duration = Duration::from_secs(2);

/// See the module.
pub struct Told {
    recorder: Recorder,
    hooks: Hooks,
    earlier: Option<ResumeState>,
    /// How many times the ring had been emptied at the last tick.
    drained: u64,
    updates: Vec<Update>,
    server: UnboundedSender<News>,
    /// The server wants everything that is known to be handed to the flight recorder.
    asks: Receiver<Ask>,
    config: watch::Receiver<Arc<Config>>,
    status: Status,
    told: Option<Instant>,
    /// systemd wants to hear of us this often.
    watchdog: Option<Duration>,
    heard: Instant,
}

/// Is told when everything that is known has been handed to the flight recorder.
pub type Ask = oneshot::Sender<()>;

impl Told {
    /// The road that leads here, which begins or goes on.
    pub fn by_road(
        probes: &Probes,
        restarted: Restarted,
        server: UnboundedSender<News>,
        asks: Receiver<Ask>,
        config: watch::Receiver<Arc<Config>>,
    ) -> anyhow::Result<Followed<Self>> {
        let redactor = redactor(&config.borrow())?;
        let ring_bytes = u64::from(config.borrow().tracing.ring_bytes);
        let mut hooks = Hooks::start(&config.borrow().hooks).context("starting the hooks")?;
        let then = restarted.earlier.as_ref().map_or(0, |it| it.since);
        hooks.resume(&restarted.told, then);
        let mut told = Self {
            recorder: restarted.recorder,
            hooks,
            earlier: restarted.earlier,
            drained: 0,
            updates: restarted.told,
            server,
            asks,
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
            told: None,
            // Twice as often as it must be (sd_watchdog_enabled(3)).
            watchdog: sd_notify::watchdog_enabled().map(|time| time / 2),
            heard: Instant::now(),
        };
        told.updated();
        Ok(Followed::new(redactor, restarted.model, told))
    }

    /// Keeps what is known, and closes the flight recorder.
    pub fn finish(mut self) {
        if !self.recorder.flush(FAREWELL) {
            log::error!("the flight recorder: {}", self.recorder.health());
        }
        self.hooks.finish(HOOKS_FAREWELL);
    }

    fn updated(&mut self) {
        if self.updates.is_empty() {
            return;
        }
        for update in &self.updates {
            match update {
                Update::Started(started) => {
                    self.status.host = started.host.to_string();
                    self.status.kernel = started.kernel.to_string();
                    self.status.traces = true;
                    self.told = None;
                    notify(&[sd_notify::NotifyState::Ready]);
                    log::info!("tracing with backend {}", started.backend);
                }
                Update::Gap(gap) => log::warn!("{}", gap.message),
                _ => {}
            }
        }
        // A server that has failed ends the daemon by itself.
        let _ = self
            .server
            .send(News::Updates(std::mem::take(&mut self.updates)));
    }

    /// Called a few times a second whatever happens.
    fn alive(&mut self, redactor: &mut Redactor) {
        let now = Instant::now();
        if self.watchdog.is_some_and(|time| now - self.heard >= time) {
            self.heard = now;
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        if self.config.has_changed().unwrap_or(false) {
            let config = Arc::clone(&self.config.borrow_and_update());
            match self::redactor(&config) {
                Ok(new) => *redactor = new,
                Err(error) => log::error!("what is masked stays as it was: {error:#}"),
            }
            if let Err(error) = self.hooks.change(&config.hooks, boottime()) {
                log::error!("the hooks stay as they were: {error}");
            }
            self.recorder.keep(policy(&config));
        }
        self.hooks.pass(boottime());
        let mut asked = self.asks.try_iter().peekable();
        if asked.peek().is_some() {
            self.recorder.hurry();
            for ask in asked {
                // Whoever asked may have left.
                let _ = ask.send(());
            }
        }
        if self.told.is_none_or(|told| now - told >= STATUS) {
            self.told = Some(now);
            let health = self.recorder.health();
            self.status.store = health.to_string();
            self.status.store_good = health.is_good();
            self.status.hooks = self.hooks.counts();
            let _ = self
                .server
                .send(News::Tracer(Box::new(self.status.clone())));
        }
    }
}

/// What masks secrets, by the configuration.
fn redactor(config: &Config) -> anyhow::Result<Redactor> {
    let patterns = config.privacy.mask.iter().map(String::as_str);
    Ok(Redactor::new(config.privacy.capture_argv, patterns)?)
}

/// Tells systemd, if that started us.
fn notify(what: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!("systemd cannot be told: {error}");
    }
}

impl Subscriber for Told {
    fn before(&mut self, record: &Record<'_>, model: &Model) -> anyhow::Result<()> {
        self.status.records += 1;
        if let Record::Loss(loss) = record {
            let lost = loss.counts.iter().copied().fold(0, u64::saturating_add);
            self.status.lost = self.status.lost.saturating_add(lost);
        }
        self.recorder.record(record, model);
        Ok(())
    }

    fn after(
        &mut self,
        record: &Record<'_>,
        model: &Model,
        updates: &mut Vec<Update>,
    ) -> anyhow::Result<()> {
        for update in &*updates {
            self.recorder.update(update);
            self.hooks.tell(update);
        }
        self.updates.append(updates);
        match record {
            Record::Tick(_) => {
                self.recorder.tick(model, self.drained);
                self.updated();
            }
            Record::Ready(_) => self.updated(),
            _ => {}
        }
        Ok(())
    }

    fn passes(&mut self, redactor: &mut Redactor) {
        self.alive(redactor);
    }

    fn finished(&self, _: &Model) -> bool {
        self.server.is_closed()
    }

    fn drained(&mut self, number: u64) {
        self.drained = number;
    }

    fn earlier(&mut self) -> Option<ResumeState> {
        self.earlier.take()
    }
}
