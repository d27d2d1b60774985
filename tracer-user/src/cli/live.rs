//! A live trace for the screen: every record to the recording, every update to the screen.

use std::{future::Future, io, path::Path, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracer_ebpf::Kind;

use super::{Print, Trace, printer::Printer};
use crate::{
    export::{Lines, Zone},
    model::{Model, Update, message::counted},
    pipeline::{Pipeline, Subscriber, Taken},
    probe::Tracer,
    store::recording::Writer,
};

/// Prints what becomes known.
pub struct Screen {
    lines: Lines,
    out: Printer,
}

impl Screen {
    pub fn new(print: Print) -> Self {
        Self {
            lines: Lines::new(print.json, print.all).in_zone(Zone::local()),
            out: Printer::new(print.json, print.bytes),
        }
    }

    /// Prints the updates.
    pub fn print(&mut self, updates: &[Update]) -> io::Result<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for update in updates {
            self.lines.of(update, &mut lines);
        }
        lines.iter().try_for_each(|line| self.out.line(line))?;
        self.out.flush()
    }
}

struct Live {
    screen: Screen,
    recording: Option<Writer>,
    /// Records that were written to it.
    records: u64,
    until_idle: bool,
}

impl Subscriber for Live {
    fn record(&mut self, taken: &Taken<'_>, updates: &mut Vec<Update>) -> anyhow::Result<()> {
        if let Some(recording) = &mut self.recording {
            recording.append(taken.record.bytes())?;
            self.records += 1;
            if taken.record.header().kind == Kind::Tick as u16 {
                recording.flush()?;
            }
        }
        Ok(self.screen.print(updates)?)
    }

    fn finished(&self, model: &Model) -> bool {
        self.until_idle && model.closed() > 0 && model.open() == 0
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
        let path = recording;
        let recording = path
            .map(|path| Writer::create(path).with_context(|| path.display().to_string()))
            .transpose()?;
        let live = Live {
            screen: Screen::new(print),
            recording,
            records: 0,
            until_idle: end.until_idle,
        };
        let mut pipeline = Pipeline::new(trace.redactor()?, Model::new(), live);
        let stop = stop(end.after)?;
        let result = tracer.run(&mut pipeline, stop).await;
        if let (Some(path), Some(recording)) = (path, pipeline.subscriber.recording) {
            let bytes = recording.bytes();
            recording.finish()?;
            eprintln!(
                "{}",
                written(path, pipeline.subscriber.records, bytes, &pipeline.model)
            );
        }
        result
    })
}

/// What a recording holds, in a line.
fn written(path: &Path, records: u64, bytes: u64, model: &Model) -> String {
    let open = match model.open() {
        0 => String::new(),
        n => format!(", {n} still open"),
    };
    let closed = counted(model.closed(), "session");
    format!(
        "wrote {}: {closed} closed{open}; {}, {}",
        path.display(),
        counted(records, "record"),
        bytesize::ByteSize(bytes).display().iec()
    )
}

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")
}

/// Completes at SIGINT, SIGTERM or after the time given.
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
