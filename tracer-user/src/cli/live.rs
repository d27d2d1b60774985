//! The one road of a live trace: every record to the recording and the model, every update to the
//! screen.

use std::{
    future::Future,
    io::{self, BufWriter, StdoutLock, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracer_ebpf::{Kind, Record};

use super::{Print, Trace};
use crate::{
    export::Lines,
    model::{Model, Update, redact::Redactor},
    probe::{Road, Tracer},
    store::recording::Writer,
};

/// A model whose updates are printed.
pub struct Screen {
    pub model: Model,
    lines: Lines,
    out: BufWriter<StdoutLock<'static>>,
    updates: Vec<Update>,
    over: Vec<u64>,
}

impl Screen {
    pub fn new(print: Print) -> Self {
        Self {
            model: Model::new(),
            lines: Lines::new(print.json, print.all),
            out: BufWriter::new(io::stdout().lock()),
            updates: Vec::new(),
            over: Vec::new(),
        }
    }

    /// Takes one record and prints what became known by it.
    pub fn apply(&mut self, record: Record<'_>) -> io::Result<()> {
        self.model.apply(record, &mut self.updates);
        if self.updates.is_empty() {
            return Ok(());
        }
        for update in self.updates.drain(..) {
            if let Update::Forget { session } = update {
                self.over.push(session.0);
            } else {
                self.lines.write(&update, &mut self.out)?;
            }
        }
        self.out.flush()
    }
}

struct Live {
    redactor: Redactor,
    screen: Screen,
    recording: Option<Writer>,
    until_idle: bool,
}

impl Road for Live {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let bytes = self.redactor.apply(bytes);
        let record = Record::decode(bytes).context(
            "a record that this version does not know: the programs and the binary differ",
        )?;
        if let Some(recording) = &mut self.recording {
            recording.append(bytes)?;
            if record.header().kind == Kind::Tick as u16 {
                recording.flush()?;
            }
        }
        Ok(self.screen.apply(record)?)
    }

    fn deadline(&self) -> Option<u64> {
        self.screen.model.deadline()
    }

    fn wants_scan(&self) -> bool {
        self.screen.model.needs_scan()
    }

    fn sampled(&mut self) -> Vec<u64> {
        self.screen.model.sampled()
    }

    fn over(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.screen.over)
    }

    fn finished(&self) -> bool {
        self.until_idle && self.screen.model.closed() > 0 && self.screen.model.open() == 0
    }
}

/// When to end.
pub struct End {
    pub after: Option<Duration>,
    pub until_idle: bool,
}

/// Traces and prints, and records if wanted, until the end or a signal.
pub fn run(
    trace: &Trace,
    print: Print,
    end: &End,
    recording: Option<&Path>,
    verbose: bool,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        // Attached first: a recording is not begun for a machine that cannot trace.
        let mut tracer = Tracer::open(&trace.options(verbose))?;
        let recording = recording
            .map(|path| Writer::create(path).with_context(|| path.display().to_string()))
            .transpose()?;
        let mut live = Live {
            redactor: trace.redactor()?,
            screen: Screen::new(print),
            recording,
            until_idle: end.until_idle,
        };
        let stop = stop(end.after)?;
        let result = tracer.run(&mut live, stop).await;
        if let Some(recording) = live.recording {
            recording.finish()?;
        }
        result
    })
}

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")
}

/// Completes when the user has had enough, or the time is over.
pub fn stop(after: Option<Duration>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    Ok(async move {
        let time = async {
            match after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            () = time => (),
        }
    })
}
