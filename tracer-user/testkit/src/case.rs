//! A case, and running one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, fs};

use clap::ValueEnum;

use crate::check;
use crate::expect::Expect;
use crate::stage::{Setting, Skipped, Stage};

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing may be flagged.
    Clean,
    /// Bytes are lost.
    Truncated,
    /// A session is kept open by a left-over process.
    Orphaned,
    /// A session stays open for another reason, or stands still.
    Waiting,
    /// Somebody makes it hard on purpose.
    Adversarial,
    /// Recording and replay.
    Recording,
    /// The daemon and its clients.
    Daemon,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clean => "clean",
            Self::Truncated => "truncated",
            Self::Orphaned => "orphaned",
            Self::Waiting => "waiting",
            Self::Adversarial => "adversarial",
            Self::Recording => "recording",
            Self::Daemon => "daemon",
        })
    }
}

/// Where a case runs: each tier includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Tier {
    /// On every kernel with every backend, each time: the few that carry most.
    Core,
    /// On every kernel with every backend: a third that touches every class and transport.
    Chosen,
    /// On every kernel with its best backend, and on this machine's.
    Full,
}

/// One entry of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// As in the catalogue.
    pub id: &'static str,
    /// What is run.
    pub title: &'static str,
    /// What it is about.
    pub class: Class,
    /// Where it runs.
    pub tier: Tier,
    /// Runs the sessions and says what must be reported about them. An error means that the
    /// scenario itself did not work out, or [`Skipped`].
    pub scenario: fn(&mut Stage<'_>) -> anyhow::Result<Vec<Expect>>,
}

/// How a case came out.
#[derive(Debug)]
pub enum Outcome {
    /// Everything as it should be; measurements.
    Passed(Vec<String>),
    /// What is wrong.
    Failed(Vec<String>),
    /// Could not run, and why.
    Skipped(String),
}

/// An outcome and how long it took.
#[derive(Debug)]
pub struct Report {
    /// How it came out.
    pub outcome: Outcome,
    /// Wall time.
    pub took: Duration,
}

impl Case {
    /// Runs the case; on failure the events since its begin are kept in `dumps`.
    pub fn run(&self, setting: Setting<'_>, dumps: &mut Dumps) -> Report {
        let begin = Instant::now();
        let mut stage = Stage::new(setting);
        let outcome = match self.judge(&mut stage) {
            Ok(problems) if problems.is_empty() => {
                Outcome::Passed(std::mem::take(&mut stage.notes))
            }
            Ok(problems) => Outcome::Failed(problems),
            Err(error) => match error.downcast::<Skipped>() {
                Ok(why) => Outcome::Skipped(why.0),
                Err(error) => Outcome::Failed(vec![format!("{error:#}")]),
            },
        };
        if let Outcome::Failed(problems) = &outcome {
            dumps.keep(self.id, problems, &stage);
        }
        Report {
            outcome,
            took: begin.elapsed(),
        }
    }

    fn judge(&self, stage: &mut Stage<'_>) -> anyhow::Result<Vec<String>> {
        let expects = (self.scenario)(stage)?;
        let mut problems = Vec::new();
        if let Err(error) = stage.settle(expects.len()) {
            problems.push(format!("{error:#}"));
        }
        problems.extend(check::window(&stage.events(), &expects));
        problems.extend(stage.setting.tracer.garbage());
        stage.setting.tracer.check_alive()?;
        Ok(problems)
    }
}

/// Events and problems of failed cases, one file a failure.
#[derive(Debug)]
pub struct Dumps {
    dir: PathBuf,
    kept: usize,
}

impl Dumps {
    /// Failures will go to `dir`, which is made when the first one occurs.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, kept: 0 }
    }

    /// The directory, if anything is in it.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        (self.kept > 0).then_some(self.dir.as_path())
    }

    /// Keeps the problems and the events of a failed case.
    pub fn keep(&mut self, id: &str, problems: &[String], stage: &Stage<'_>) {
        self.kept += 1;
        let mut text = String::new();
        for problem in problems {
            text.push_str(&format!("# {problem}\n"));
        }
        for event in stage.setting.tracer.since(stage.mark) {
            text.push_str(&event.raw);
            text.push('\n');
        }
        for line in stage.setting.tracer.stderr().lines() {
            text.push_str(&format!("# tracer: {line}\n"));
        }
        let file = self.dir.join(format!("{:03}-{id}.jsonl", self.kept));
        let written = fs::create_dir_all(&self.dir).and_then(|()| fs::write(&file, text));
        if let Err(error) = written {
            eprintln!("cannot keep {}: {error}", file.display());
        }
    }
}
