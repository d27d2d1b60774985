//! One session, as it was at any moment.

use std::sync::Arc;

use super::flow::Flow;
use crate::{
    export,
    model::{Closed, Finding, History, Kind, SessionView, State, StreamReport, Verdict},
};

/// Most spells of trouble that are kept of a session.
const MAX_SPELLS: usize = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who it is, by the latest word.
    pub view: Arc<SessionView>,
    /// When it began.
    pub opened: u64,
    /// The last word on it.
    pub closed: Option<Arc<Closed>>,
    /// Bytes it moved.
    pub flow: Flow,
    spells: Vec<Spell>,
    had: History,
    /// What a filter looks into.
    text: String,
}

/// Something was wrong from then to then.
#[derive(Clone, Copy, Debug)]
struct Spell {
    kind: Kind,
    from: u64,
    to: Option<u64>,
}

/// How a session is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Its command has exited, others keep it.
    Orphaned,
    /// Its output is not read.
    Stalled,
    /// All is done, the connection stays.
    Waiting,
    /// Its command has exited, its streams are open.
    Exited,
    /// Its command runs.
    Running,
    /// It is over.
    Closed,
}

impl Condition {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orphaned => "orphaned",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::Exited => "exited",
            Self::Running => "running",
            Self::Closed => "closed",
        }
    }
}

/// What is to be said of a session's bytes, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Some were lost.
    Truncated,
    /// Evidence is missing.
    Unknown,
    /// The client left before all had come.
    Gone,
    /// They came late, but came.
    NearMiss,
    /// They came.
    Clean,
    /// Nothing yet.
    Open,
}

impl Word {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Unknown => "unknown",
            Self::Gone => "client gone",
            Self::NearMiss => "near miss",
            Self::Clean => "clean",
            Self::Open => "open",
        }
    }

    /// Of a verdict.
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Truncated(_) if verdict.is_clients_choice() => Self::Gone,
            Verdict::Truncated(_) => Self::Truncated,
            Verdict::Unknown => Self::Unknown,
            Verdict::NearMiss { .. } => Self::NearMiss,
            Verdict::Clean => Self::Clean,
        }
    }
}

impl Row {
    /// A session that has just become known.
    pub fn new(view: Arc<SessionView>) -> Self {
        let mut row = Self {
            opened: view.opened,
            closed: None,
            flow: Flow::default(),
            spells: Vec::new(),
            had: History::default(),
            text: String::new(),
            view,
        };
        row.describe();
        row
    }

    /// Takes in the latest word on who it is.
    pub fn is(&mut self, view: &Arc<SessionView>) {
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

    /// Takes in what it went through before anything else was known of it.
    pub fn went_through(&mut self, had: &History) {
        if !had.is_empty() {
            self.had = had.clone();
        }
    }

    /// What it had gone through by then, in a few words.
    pub fn had(&self, at: u64) -> Option<String> {
        export::was(self.had.ended_by(at), at)
    }

    /// Takes in something that was found.
    pub fn found(&mut self, finding: &Finding) {
        self.had.add(finding);
        let open = self
            .spells
            .iter()
            .rposition(|spell| spell.kind == finding.kind && spell.to.is_none());
        match (open, finding.state) {
            (Some(at), State::Resolved) => self.spells[at].to = Some(finding.time),
            (None, State::Open | State::Updated) if self.spells.len() < MAX_SPELLS => {
                self.spells.push(Spell {
                    kind: finding.kind,
                    from: finding.time,
                    to: None,
                });
            }
            _ => {}
        }
    }

    /// Takes in the last word.
    pub fn close(&mut self, closed: &Closed) {
        for stream in &closed.streams {
            let time = closed.session.exited.unwrap_or(closed.time);
            self.flow.saw(time, stream.slot, moved(stream));
        }
        self.closed = Some(Arc::new(closed.clone()));
    }

    /// Whether there was such a session then.
    pub fn is_there(&self, at: u64) -> bool {
        self.opened <= at
    }

    /// Whether it was open then.
    pub fn is_open(&self, at: u64) -> bool {
        self.opened <= at && self.closed.as_ref().is_none_or(|closed| closed.time > at)
    }

    /// How it was then.
    pub fn condition(&self, at: u64) -> Condition {
        if !self.is_open(at) {
            return Condition::Closed;
        }
        let has = |kind| {
            self.spells.iter().any(|spell| {
                spell.kind == kind && spell.from <= at && spell.to.is_none_or(|to| to > at)
            })
        };
        match () {
            () if has(Kind::Orphaned) => Condition::Orphaned,
            () if has(Kind::Stalled) => Condition::Stalled,
            () if has(Kind::Waiting) => Condition::Waiting,
            () if self.view.exited.is_some_and(|exited| exited <= at) => Condition::Exited,
            () => Condition::Running,
        }
    }

    /// What was to be said of its bytes then.
    pub fn word(&self, at: u64) -> Word {
        match &self.closed {
            Some(closed) if closed.time <= at => Word::of(closed.verdict),
            _ => {
                let cut = |spell: &Spell| spell.kind == Kind::Truncated && spell.from <= at;
                match self.spells.iter().any(cut) {
                    true => Word::Truncated,
                    false => Word::Open,
                }
            }
        }
    }

    /// How long it had lasted, ns.
    pub fn age(&self, at: u64) -> u64 {
        let end = self
            .closed
            .as_ref()
            .map_or(at, |closed| closed.time.min(at));
        end.saturating_sub(self.opened)
    }

    /// Whether every word of `filter`, in lower case, is said of it.
    pub fn matches(&self, filter: &str, at: u64) -> bool {
        filter.split_whitespace().all(|word| {
            self.text.contains(word)
                || self.condition(at).name().contains(word)
                || self.word(at).name().contains(word)
                || self
                    .had
                    .ended_by(at)
                    .any(|it| it.kind.name().contains(word))
        })
    }
}

/// Bytes that a stream moved.
fn moved(stream: &StreamReport) -> u64 {
    stream.written.max(stream.read)
}
