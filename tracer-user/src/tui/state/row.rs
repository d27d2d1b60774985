//! One session, at any moment since it began.

use std::sync::Arc;

use super::throughput::Throughput;
use crate::{
    export,
    model::{Closed, Finding, History, Kind, SessionView, State, StreamReport, Verdict},
};

/// Maximum number of troubles kept of a session.
const MAX_TROUBLES: usize = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Row {
    /// The latest version of its description.
    pub view: Arc<SessionView>,
    /// When it began, ns of `CLOCK_BOOTTIME`.
    pub opened: u64,
    /// Its end.
    pub closed: Option<Arc<Closed>>,
    pub throughput: Throughput,
    troubles: Vec<Trouble>,
    history: History,
    /// What the filter searches, in lower case.
    text: String,
}

/// A finding that was open for a time.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    kind: Kind,
    from: u64,
    to: Option<u64>,
}

/// The condition of a session, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The command has exited; other processes keep the session open.
    Orphaned,
    /// The server does not read the output.
    Stalled,
    /// The streams have ended; the connection stays open.
    Waiting,
    /// The command has exited; the server reads the rest.
    Ending,
    /// The command is running.
    Running,
    Closed,
}

impl Condition {
    /// The word on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orphaned => "orphaned",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::Ending => "ending",
            Self::Running => "running",
            Self::Closed => "closed",
        }
    }
}

/// What became of a session's output, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Bytes were lost.
    Truncated,
    /// Evidence is missing.
    Unknown,
    /// The client left before it had everything.
    ClientGone,
    /// The server read the last bytes only after SIGCHLD.
    NearMiss,
    /// Everything was read.
    Clean,
    /// The session is still open.
    Open,
}

impl Outcome {
    /// The word on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Unknown => "unknown",
            Self::ClientGone => "client gone",
            Self::NearMiss => "near miss",
            Self::Clean => "clean",
            Self::Open => "open",
        }
    }

    /// The outcome for a verdict.
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Truncated(_) if verdict.is_clients_choice() => Self::ClientGone,
            Verdict::Truncated(_) => Self::Truncated,
            Verdict::Unknown => Self::Unknown,
            Verdict::NearMiss { .. } => Self::NearMiss,
            Verdict::Clean => Self::Clean,
        }
    }
}

impl Row {
    /// A session that has just appeared.
    pub fn new(view: Arc<SessionView>) -> Self {
        let mut row = Self {
            opened: view.opened,
            closed: None,
            throughput: Throughput::default(),
            troubles: Vec::new(),
            history: History::default(),
            text: String::new(),
            view,
        };
        row.describe();
        row
    }

    /// Takes a newer version of the description.
    pub fn update_view(&mut self, view: &Arc<SessionView>) {
        if !Arc::ptr_eq(&self.view, view) {
            let named = self.view.user != view.user || self.view.command != view.command;
            self.view = Arc::clone(view);
            if named {
                self.describe();
            }
        }
    }

    fn describe(&mut self) {
        let view = &self.view;
        let part = |text: Option<String>| text.unwrap_or_default();
        self.text = format!(
            "{} {} {} {} {} {}",
            view.id,
            part(view.user.as_ref().map(ToString::to_string)),
            part(view.uid.map(|uid| uid.to_string())),
            part(view.peer.map(|peer| peer.ip().to_string())),
            part(view.command.as_ref().map(ToString::to_string)),
            view.server_exe,
        )
        .to_lowercase();
    }

    /// Takes the history from before the UI started.
    pub fn set_history(&mut self, history: &History) {
        if !history.is_empty() {
            self.history = history.clone();
        }
    }

    /// Its past troubles in a few words, such as `was orphaned 25.0 s`.
    pub fn past_troubles(&self, at: u64) -> Option<String> {
        export::was(self.history.ended_by(at), at, &self.view)
    }

    /// Takes a finding.
    pub fn add_finding(&mut self, finding: &Finding) {
        self.history.add(finding);
        let open = self
            .troubles
            .iter()
            .rposition(|trouble| trouble.kind == finding.kind() && trouble.to.is_none());
        match (open, finding.state) {
            (Some(at), State::Resolved) => self.troubles[at].to = Some(finding.time),
            (None, State::Open | State::Updated) if self.troubles.len() < MAX_TROUBLES => {
                self.troubles.push(Trouble {
                    kind: finding.kind(),
                    from: finding.time,
                    to: None,
                });
            }
            _ => {}
        }
    }

    /// Takes the end of the session.
    pub fn close(&mut self, closed: &Closed) {
        for stream in &closed.streams {
            let time = closed.session.exited.unwrap_or(closed.time);
            self.throughput.record(time, stream.slot, moved(stream));
        }
        self.closed = Some(Arc::new(closed.clone()));
    }

    /// Whether the session had begun.
    pub fn exists_at(&self, at: u64) -> bool {
        self.opened <= at
    }

    /// Whether the session was open.
    pub fn is_open(&self, at: u64) -> bool {
        self.opened <= at && self.closed.as_ref().is_none_or(|closed| closed.time > at)
    }

    /// The condition at a time.
    pub fn condition(&self, at: u64) -> Condition {
        if !self.is_open(at) {
            return Condition::Closed;
        }
        let has = |kind| {
            self.troubles.iter().any(|trouble| {
                trouble.kind == kind && trouble.from <= at && trouble.to.is_none_or(|to| to > at)
            })
        };
        match () {
            () if has(Kind::Orphaned) => Condition::Orphaned,
            () if has(Kind::Stalled) => Condition::Stalled,
            () if has(Kind::Waiting) => Condition::Waiting,
            () if self.view.exited.is_some_and(|exited| exited <= at) => Condition::Ending,
            () => Condition::Running,
        }
    }

    /// The outcome as known at a time.
    pub fn outcome(&self, at: u64) -> Outcome {
        match &self.closed {
            Some(closed) if closed.time <= at => Outcome::of(closed.verdict),
            _ => {
                let cut = |trouble: &Trouble| trouble.kind == Kind::Truncated && trouble.from <= at;
                match self.troubles.iter().any(cut) {
                    true => Outcome::Truncated,
                    false => Outcome::Open,
                }
            }
        }
    }

    /// How long it has been open, or was, ns.
    pub fn age(&self, at: u64) -> u64 {
        let end = self
            .closed
            .as_ref()
            .map_or(at, |closed| closed.time.min(at));
        end.saturating_sub(self.opened)
    }

    /// Whether it matches every word of `filter`, which is in lower case.
    pub fn matches(&self, filter: &str, at: u64) -> bool {
        filter.split_whitespace().all(|word| {
            self.text.contains(word)
                || self.condition(at).name().contains(word)
                || self.outcome(at).name().contains(word)
                || self
                    .history
                    .ended_by(at)
                    .any(|it| it.kind.name().contains(word))
        })
    }
}

/// Bytes that went through a stream.
fn moved(stream: &StreamReport) -> u64 {
    stream.written.max(stream.read)
}
