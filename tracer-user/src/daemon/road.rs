//! The daemon's road: every record to the model, every update to the server.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedSender;
use tracer_ebpf::{Kind, Record};

use super::{protocol::Status, server::News};
use crate::{
    model::{Model, Update},
    probe::{Probes, Road},
};

/// How often the server is told how the tracer is.
const STATUS: Duration = Duration::from_secs(1);

/// See the module.
pub struct DaemonRoad {
    model: Model,
    updates: Vec<Update>,
    over: Vec<u64>,
    server: UnboundedSender<News>,
    status: Status,
    told: Option<Instant>,
    /// systemd wants to hear of us this often.
    watchdog: Option<Duration>,
    heard: Instant,
}

impl DaemonRoad {
    /// A road that begins.
    pub fn new(probes: &Probes, server: UnboundedSender<News>) -> Self {
        Self {
            model: Model::new(),
            updates: Vec::new(),
            over: Vec::new(),
            server,
            status: Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                backend: probes.backend.to_string(),
                attached: probes.attached.clone(),
                ..Status::default()
            },
            told: None,
            // Twice as often as it must be (sd_watchdog_enabled(3)).
            watchdog: sd_notify::watchdog_enabled().map(|time| time / 2),
            heard: Instant::now(),
        }
    }

    fn updated(&mut self) {
        if self.updates.is_empty() {
            return;
        }
        for update in &self.updates {
            match update {
                Update::Forget { session } => self.over.push(session.0),
                Update::Started(started) => {
                    self.status.host = started.host.to_string();
                    self.status.kernel = started.kernel.to_string();
                    notify(&[sd_notify::NotifyState::Ready]);
                    log::info!("tracing with backend {}", started.backend);
                }
                _ => {}
            }
        }
        // A server that has failed ends the daemon by itself.
        let _ = self
            .server
            .send(News::Updates(std::mem::take(&mut self.updates)));
    }

    /// Called a few times a second whatever happens.
    fn alive(&mut self) {
        let now = Instant::now();
        if self.watchdog.is_some_and(|time| now - self.heard >= time) {
            self.heard = now;
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        if self.told.is_none_or(|told| now - told >= STATUS) {
            self.told = Some(now);
            let _ = self
                .server
                .send(News::Tracer(Box::new(self.status.clone())));
        }
    }
}

/// Tells systemd, if that started us.
fn notify(what: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!("systemd cannot be told: {error}");
    }
}

impl Road for DaemonRoad {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let record = Record::decode(bytes).context(
            "a record that this version does not know: the programs and the binary differ",
        )?;
        self.status.records += 1;
        self.model.apply(record, &mut self.updates);
        if matches!(
            Kind::of(record.header().kind),
            Some(Kind::Tick | Kind::Ready)
        ) {
            self.updated();
        }
        Ok(())
    }

    fn deadline(&self) -> Option<u64> {
        self.model.deadline()
    }

    fn wants_scan(&self) -> bool {
        self.model.needs_scan()
    }

    fn sampled(&mut self) -> Vec<u64> {
        self.alive();
        self.model.sampled()
    }

    fn over(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.over)
    }

    fn finished(&self) -> bool {
        self.server.is_closed()
    }
}
