//! What a session went through: states that it was in and that may have ended since.

use serde::{Deserialize, Serialize};

use super::{Cause, Finding, FindingKey, Kind, Slot, State};

/// Most episodes that are kept of a session. Of more the shortest is dropped.
const MAX_EPISODES: usize = 16;

/// A session was orphaned, stalled or waiting from then to then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// What it was.
    pub kind: Kind,
    /// Why.
    pub cause: Option<Cause>,
    /// Which stream stalled; `None` of other kinds, which are about the whole session.
    pub stream: Option<Slot>,
    /// When it began: of an orphan when its command exited.
    pub opened: u64,
    /// When it ended; `None` while it is so.
    pub resolved: Option<u64>,
    /// It was reported only where everything is asked for.
    #[serde(default)]
    pub quiet: bool,
}

impl Episode {
    /// How long it lasted, or has lasted `now`, ns.
    #[must_use]
    pub fn duration(&self, now: u64) -> u64 {
        self.resolved.unwrap_or(now).saturating_sub(self.opened)
    }
}

/// The episodes of one session, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Episode>);

impl History {
    /// The kinds that end while a session is open, so that it can have been in them.
    pub const KINDS: [Kind; 3] = [Kind::Orphaned, Kind::Stalled, Kind::Waiting];

    /// Takes in the next finding of the session.
    pub fn add(&mut self, finding: &Finding) {
        if !finding.kind().is_hang() {
            return;
        }
        let FindingKey { kind, stream, .. } = finding.key();
        let mut open = self.0.iter_mut();
        let open = open.find(|it| (it.kind, it.stream, it.resolved) == (kind, stream, None));
        match (open, finding.state) {
            (Some(episode), State::Resolved) => episode.resolved = Some(finding.time),
            (Some(episode), State::Open | State::Updated) => {
                episode.cause = finding.cause();
                episode.quiet &= finding.is_routine();
            }
            (None, State::Open | State::Updated) => {
                let exited = finding.session.exited.filter(|_| kind == Kind::Orphaned);
                self.push(Episode {
                    kind,
                    cause: finding.cause(),
                    stream,
                    opened: exited.unwrap_or(finding.time),
                    resolved: None,
                    quiet: finding.is_routine(),
                });
            }
            (None, State::Resolved) => {}
        }
    }

    fn push(&mut self, episode: Episode) {
        self.0.push(episode);
        if self.0.len() > MAX_EPISODES {
            let ended = self
                .0
                .iter()
                .enumerate()
                .filter(|(_, it)| it.resolved.is_some());
            let shortest = ended.min_by_key(|(_, it)| (!it.quiet, it.duration(0)));
            let at = shortest.map_or(0, |(at, _)| at);
            self.0.remove(at);
        }
    }

    /// The session closed then: nothing lasts longer.
    pub fn close(&mut self, time: u64) {
        for episode in &mut self.0 {
            episode.resolved = Some(episode.resolved.unwrap_or(time).min(time));
        }
    }

    /// The episodes that are worth telling of.
    pub fn iter(&self) -> impl Iterator<Item = &Episode> {
        self.0.iter().filter(|it| !it.quiet)
    }

    /// Those that had ended then.
    pub fn ended_by(&self, time: u64) -> impl Iterator<Item = &Episode> {
        self.iter()
            .filter(move |it| it.resolved.is_some_and(|resolved| resolved <= time))
    }

    /// Whether there was nothing worth telling of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether it was ever so.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.iter().any(|it| it.kind.name() == kind)
    }
}
