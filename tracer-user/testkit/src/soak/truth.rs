//! What is true of each session, and what was told of it: compared as soon as both are known, and then
//! forgotten.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::Event;
use crate::random::Rng;

/// What a session does.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Writes so many bytes, on a server that reads to the end.
    Output { bytes: u64 },
    /// The same on one that does not.
    Raced { bytes: u64 },
    /// Writes so many bytes and leaves a job that holds its streams for so long.
    Held { bytes: u64, ms: u64 },
}

impl Shape {
    /// Most are ordinary.
    pub fn draw(rng: &mut Rng) -> Self {
        let bytes = match rng.below(4) {
            0 => 0,
            1 => rng.below(64),
            2 => rng.below(8 << 10),
            _ => rng.below(512 << 10),
        };
        match rng.below(100) {
            0..6 => Self::Held {
                bytes,
                // Long past the grace time.
                ms: 2000 + rng.below(1000),
            },
            6..26 => Self::Raced { bytes },
            _ => Self::Output { bytes },
        }
    }

    /// Whether the server is one that loses bytes.
    #[must_use]
    pub const fn on_eager(&self) -> bool {
        matches!(self, Self::Raced { .. })
    }

    /// The command, with a marker that finds it again.
    #[must_use]
    pub fn command(&self, marker: &str) -> String {
        let output = |bytes: u64| match bytes {
            0 => String::new(),
            _ => format!("; head -c {bytes} /dev/zero"),
        };
        match *self {
            Self::Output { bytes } | Self::Raced { bytes } => {
                format!(": {marker}-{}", output(bytes))
            }
            Self::Held { bytes, ms } => format!(
                ": {marker}-{}; sleep {}.{:03} &",
                output(bytes),
                ms / 1000,
                ms % 1000
            ),
        }
    }

    const fn bytes(self) -> u64 {
        match self {
            Self::Output { bytes } | Self::Raced { bytes } | Self::Held { bytes, .. } => bytes,
        }
    }
}

/// What is true of a session.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// What it was to do.
    pub shape: Shape,
    /// Bytes that arrived.
    pub received: u64,
}

/// What was told of a session so far.
#[derive(Debug, Default)]
struct Told {
    truncated: Option<(u64, bool)>,
    orphaned: bool,
    verdict: Option<String>,
}

#[derive(Debug, Default)]
struct Both {
    truth: Option<Truth>,
    told: Told,
}

#[derive(Debug, Default)]
struct Inner {
    pending: HashMap<String, Both>,
    problems: Vec<String>,
    truncated: u64,
    orphaned: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truths {
    inner: Mutex<Inner>,
    settled: Condvar,
}

impl Truths {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is over, as its client saw it.
    pub fn know(&self, marker: String, truth: Truth) {
        let mut inner = self.inner();
        inner.pending.entry(marker.clone()).or_default().truth = Some(truth);
        inner.judge(&marker);
        self.settled.notify_all();
    }

    /// Something was told.
    pub fn told(&self, event: &Event) {
        let Some(marker) = marker(event.command()) else {
            if event.is("gap") {
                self.problem(format!("a gap: {}", event.raw));
            }
            return;
        };
        let mut inner = self.inner();
        let told = &mut inner.pending.entry(marker.to_owned()).or_default().told;
        if event.finds("truncated") {
            let exact = event.value["exact"] == true;
            told.truncated = Some((event.bytes().unwrap_or(0), exact));
        } else if event.finds("orphaned") {
            told.orphaned = true;
        } else if event.is("session_closed") {
            told.verdict = Some(event.verdict().to_owned());
            inner.judge(marker);
            self.settled.notify_all();
        }
    }

    /// Something went wrong beside.
    pub fn problem(&self, problem: String) {
        self.inner().problems.push(problem);
    }

    /// Waits until everything that is true has been told.
    pub fn settle(&self, patience: Duration) {
        let inner = self.inner();
        let wait = self
            .settled
            .wait_timeout_while(inner, patience, |inner| !inner.pending.is_empty());
        let (mut inner, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let left: Vec<_> = inner.pending.drain().collect();
        for (marker, both) in left {
            inner
                .problems
                .push(format!("{marker}: the last word is missing: {both:?}"));
        }
    }

    /// Everything that was wrong.
    pub fn problems(&self) -> Vec<String> {
        self.inner().problems.clone()
    }

    /// Sessions that lost bytes.
    pub fn truncated(&self) -> u64 {
        self.inner().truncated
    }

    /// Sessions that hung.
    pub fn orphaned(&self) -> u64 {
        self.inner().orphaned
    }
}

/// The word after `: ` that marks a session.
fn marker(command: &str) -> Option<&str> {
    let from = command.find(": soak")? + 2;
    let length = command[from..].find('-')?;
    Some(&command[from..from + length])
}

impl Inner {
    fn judge(&mut self, marker: &str) {
        let is_known = |both: &Both| both.truth.is_some() && both.told.verdict.is_some();
        if !self.pending.get(marker).is_some_and(is_known) {
            return;
        }
        let Some(Both {
            truth: Some(truth),
            told,
        }) = self.pending.remove(marker)
        else {
            return;
        };
        let lost = truth.shape.bytes().saturating_sub(truth.received);
        let verdict = told.verdict.as_deref().unwrap_or_default();
        let held = matches!(truth.shape, Shape::Held { .. });
        self.truncated += u64::from(lost > 0);
        self.orphaned += u64::from(held);
        let wrong = match (lost, told.truncated) {
            (0, None) if !matches!(verdict, "clean" | "near_miss") => Some("it lost nothing"),
            (0, None) => None,
            (0, Some(_)) => Some("it is accused of losing something"),
            (_, None) => Some("it lost bytes untold"),
            (lost, Some((bytes, true))) if bytes != lost => Some("the exact count is wrong"),
            (lost, Some((bytes, false))) if bytes > lost => Some("it lost less than that"),
            (_, Some(_)) if verdict != "truncated" => Some("the verdict does not say so"),
            (_, Some(_)) => None,
        };
        let hang = match (held, told.orphaned) {
            (true, false) => Some("who held it was not told"),
            (false, true) => Some("nobody held it"),
            _ => None,
        };
        for wrong in [wrong, hang].into_iter().flatten() {
            self.problems
                .push(format!("{marker}: {wrong}: {truth:?}, told {told:?}"));
        }
    }
}
