//! `lastbyte top`: the terminal UI, and the tracer in this process as its source.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
};

use anyhow::Context as _;
use tracer_ebpf::Kind;

use super::{Top, daemon_source::DaemonSource, live, show};
use crate::{
    daemon::protocol::Request,
    export::Zone,
    model::{Model, Update, redact::Redactor, timeline::Timelines},
    pipeline::{Pipeline, Subscriber, Taken},
    probe::{Options, Tracer, boottime},
    store::recording::Writer,
    tui::{
        self, Begin, Replay, Setup, Source,
        feed::{Feed, Phase, TracerLoad, Tracing},
        source::{Meter, Outbox, TimelineRequests, WatchedTimeline},
    },
};

/// Sessions that are kept after their end: of a machine that is watched, and of a recording.
const KEEP: usize = 500;
/// Of a daemon's past at most so many sessions, and as many findings, are shown; and so many sessions kept.
pub(super) const PAST: u64 = 1000;
const KEEP_OF_DAEMON: usize = 2500;
const KEEP_REPLAYED: usize = 20_000;

impl Top {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut setup = Setup {
            source: "local trace".to_owned(),
            live: true,
            allow_signals: self.allow_signals,
            keep: KEEP,
            begin: Begin::End,
            speed: self.speed,
            zone: Zone::local(),
        };
        let past = match &self.past {
            Some(session) => Some(Past::of(self.daemon_target.path(), session)?),
            None => None,
        };
        let played = past
            .as_ref()
            .map(|past| &past.file)
            .or(self.replay.as_ref());
        if let Some(path) = played {
            setup.source = match &past {
                Some(past) => past.name.clone(),
                None => path.file_name().map_or_else(String::new, |name| {
                    crate::model::Visible::new(name.as_encoded_bytes()).to_string()
                }),
            };
            setup.live = false;
            setup.keep = KEEP_REPLAYED;
            setup.begin = if self.paused {
                Begin::Paused
            } else {
                Begin::Playing
            };
            let source = Replay {
                path: path.clone(),
                keep: KEEP_REPLAYED,
            };
            tui::run(setup, source, self.mouse)?;
        } else if let Some(socket) = self.daemon()? {
            // What is logged would go over the screen.
            log::set_max_level(log::LevelFilter::Off);
            setup.source = "via daemon".to_owned();
            setup.keep = KEEP_OF_DAEMON;
            tui::run(setup, DaemonSource { socket }, self.mouse)?;
        } else {
            // What the programs log would go over the screen.
            log::set_max_level(log::LevelFilter::Off);
            let source = LocalSource {
                options: self.trace.options(false),
                redactor: self.trace.redactor()?,
            };
            tui::run(setup, source, self.mouse)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Top {
    /// Where the daemon listens, if it is to be followed.
    fn daemon(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.trace.is_chosen() {
            return Ok(None);
        }
        let answers = self.daemon_target.ask(&Request::Status)?.is_some();
        Ok(answers.then(|| self.daemon_target.path().to_owned()))
    }
}

/// A past session as a recording, for as long as this lives.
struct Past {
    name: String,
    file: PathBuf,
}

impl Past {
    fn of(socket: &Path, session: &str) -> anyhow::Result<Self> {
        let (name, records) = show::records(socket, session)?;
        let file = std::env::temp_dir().join(format!("lastbyte-{}.rec", std::process::id()));
        let failed = || file.display().to_string();
        let mut writer = Writer::create(&file).with_context(failed)?;
        for record in records.iter() {
            writer.append(record.bytes()).with_context(failed)?;
        }
        writer.finish().with_context(failed)?;
        Ok(Self { name, file })
    }
}

impl Drop for Past {
    fn drop(&mut self) {
        // In the directory for what is temporary, should that fail.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Traces in this process.
struct LocalSource {
    options: Options,
    redactor: Redactor,
}

impl Source for LocalSource {
    fn run(self, mut out: Outbox, mut requests: TimelineRequests) -> anyhow::Result<()> {
        out.send(Feed::Phase(Phase::Preparing("loading the probes".into())));
        live::runtime()?.block_on(async {
            let mut tracer = Tracer::open(&self.options)?;
            out.send(Feed::Tracing(tracing(&tracer, &self.options)));
            out.send(Feed::Phase(Phase::Live));
            let shared = Rc::new(RefCell::new(Shared {
                lines: Timelines::new(KEEP),
                watched: WatchedTimeline::default(),
                out,
            }));
            let live = Live {
                shared: Rc::clone(&shared),
                meter: Meter::default(),
            };
            let mut pipeline = Pipeline::new(self.redactor, Model::new(), live);
            let stop = async move {
                while let Some(id) = requests.next().await {
                    let Shared {
                        lines,
                        watched,
                        out,
                    } = &mut *shared.borrow_mut();
                    watched.select(id, lines, out);
                }
            };
            tracer.run(&mut pipeline, stop).await
        })
    }
}

fn tracing(tracer: &Tracer, options: &Options) -> Tracing {
    let probes = &tracer.probes;
    let refused = probes.attempts.iter().filter_map(|attempt| {
        let reason = attempt.refused.as_ref()?.to_string();
        Some(format!("{}: {}", attempt.backend, reason.lines().next()?))
    });
    let missing = probes.missing.iter().map(|missing| {
        let cost = missing.cost.unwrap_or("nothing works");
        format!("no {}: {cost}", missing.field)
    });
    Tracing {
        attached: probes.attached.clone(),
        missing: missing.collect(),
        refused: refused.collect(),
        ring_bytes: u64::from(options.ring_bytes),
    }
}

/// What the pipeline and the answers to the UI's questions both need.
struct Shared {
    lines: Timelines,
    watched: WatchedTimeline,
    out: Outbox,
}

struct Live {
    shared: Rc<RefCell<Shared>>,
    meter: Meter,
}

impl Subscriber for Live {
    fn record(&mut self, taken: &Taken<'_>, updates: &mut Vec<Update>) -> anyhow::Result<()> {
        let record = &taken.record;
        let Shared {
            lines,
            watched,
            out,
        } = &mut *self.shared.borrow_mut();
        lines.apply(*record, updates);
        updates.drain(..).for_each(|update| out.queue(update));
        if let Some(health) = self.meter.record(record) {
            out.send(Feed::Load(with_own(health)));
        }
        if record.header().kind == Kind::Tick as u16 {
            out.flush();
            watched.send(record.header().time, lines, out);
        }
        Ok(())
    }

    fn on_idle(&mut self, _: &mut Redactor) {
        // What was held back for being too much goes now.
        let Shared {
            lines,
            watched,
            out,
        } = &mut *self.shared.borrow_mut();
        out.flush();
        watched.send(boottime(), lines, out);
    }
}

/// What this process itself takes.
fn with_own(health: TracerLoad) -> TracerLoad {
    let stat = procfs::process::Process::myself().and_then(|own| own.stat());
    let Ok(stat) = stat else { return health };
    let tick = 1_000_000_000 / procfs::ticks_per_second();
    TracerLoad {
        resident: Some(stat.rss * procfs::page_size()),
        cpu: Some((stat.utime + stat.stime) * tick),
        ..health
    }
}
