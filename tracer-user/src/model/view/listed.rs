//! Sessions as a list shows them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cause, Closed, GapReason, History, Kind, SessionView, Verdict};

/// A session, open or over, in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// What finds it again: its id; of another boot with the beginning of that's id.
    pub name: String,
    /// The machine.
    pub host: String,
    /// Wall clock minus `CLOCK_BOOTTIME` when it was seen, ns: sessions of several boots are in one
    /// list.
    pub wall_offset: u64,
    /// Which.
    pub session: Arc<SessionView>,
    /// What is wrong with it now; of one that is over, what was told of it.
    pub findings: Vec<Told>,
    /// What it went through, and what of that goes on.
    #[serde(default)]
    pub had: History,
    /// Bytes that were written to its stdout and stderr, as last seen.
    pub written: u64,
    /// `None` while it is open.
    pub end: Option<End>,
}

/// A finding in a word or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// About what.
    pub kind: Kind,
    /// Why.
    pub cause: Option<Cause>,
}

/// The last word on a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When its last part ended.
    pub time: u64,
    /// The worst of its streams.
    pub verdict: Verdict,
    /// Why evidence is missing; empty when none is.
    pub gaps: Vec<GapReason>,
}

/// Which sessions are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Login name, or user id.
    pub user: Option<String>,
    /// The client's address.
    pub peer: Option<String>,
    /// The word of [`Listed::state`].
    pub state: Option<String>,
    /// The word for what it is, was, or lost: one of [`Kind`].
    pub had: Option<String>,
    /// Part of the command.
    pub command: Option<String>,
    /// Begun at this time or later, wall clock in ns since 1970.
    pub since: Option<u64>,
    /// Begun before this, in the same way.
    pub until: Option<u64>,
    /// Open at this time, in the same way.
    pub at: Option<u64>,
    /// Only open ones, or only those that are over.
    pub open: Option<bool>,
    /// At most so many, the youngest.
    pub limit: Option<u64>,
}

impl Filter {
    /// Whether a session is wanted, but for the limit.
    #[must_use]
    pub fn wants(&self, it: &Listed) -> bool {
        let session = &it.session;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let uid = session.uid.map(|uid| uid.to_string());
        let peer = session.peer.map(|peer| peer.ip().to_string());
        let command = session.command.as_deref().unwrap_or_default();
        let opened = session.opened.wrapping_add(it.wall_offset);
        (is(&self.user, session.user.as_deref()) || is(&self.user, uid.as_deref()))
            && is(&self.peer, peer.as_deref())
            && is(&self.state, Some(it.state()))
            && self.had.as_ref().is_none_or(|kind| it.ever_was(kind))
            && self
                .command
                .as_ref()
                .is_none_or(|part| command.contains(part.as_str()))
            && self.since.is_none_or(|since| opened >= since)
            && self.until.is_none_or(|until| opened < until)
            && self.at.is_none_or(|at| it.is_open_at(at))
            && self.open.is_none_or(|open| open == it.end.is_none())
    }
}

impl Listed {
    /// A session that has closed, with what was found of it; the rest as in the fields of these names.
    #[must_use]
    pub fn closed(
        closed: &Closed,
        findings: Vec<Told>,
        name: String,
        host: String,
        wall_offset: u64,
    ) -> Self {
        let outputs = closed.streams.iter().filter(|it| it.slot.is_output());
        Self {
            name,
            host,
            wall_offset,
            session: Arc::clone(&closed.session),
            findings,
            had: closed.had.clone(),
            written: outputs.map(|it| it.written).sum(),
            end: Some(End {
                time: closed.time,
                verdict: closed.verdict,
                gaps: closed.gaps.clone(),
            }),
        }
    }

    /// The words for how an open session may be; one that is over has a word of [`Verdict::WORDS`].
    pub const WORDS: [&'static str; 6] = [
        "running",
        "ending",
        Kind::Truncated.name(),
        Kind::Orphaned.name(),
        Kind::Stalled.name(),
        Kind::Waiting.name(),
    ];

    /// Whether it is so or ever was, by the word for a [`Kind`].
    #[must_use]
    pub fn ever_was(&self, kind: &str) -> bool {
        let episodic = History::KINDS.iter().any(|it| it.name() == kind);
        self.had.has(kind) || !episodic && self.findings.iter().any(|told| told.kind.name() == kind)
    }

    /// Whether it was open then, wall clock in ns since 1970.
    #[must_use]
    pub fn is_open_at(&self, time: u64) -> bool {
        let wall = |time: u64| time.wrapping_add(self.wall_offset);
        wall(self.session.opened) <= time
            && self.end.as_ref().is_none_or(|end| wall(end.time) > time)
    }

    /// The word for how it is: what is wrong with it while it is open, its verdict when it is over.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let worst = || {
            // In the order in which they ask for attention.
            [
                Kind::Truncated,
                Kind::Orphaned,
                Kind::Stalled,
                Kind::Waiting,
            ]
            .into_iter()
            .find(|kind| self.findings.iter().any(|told| told.kind == *kind))
        };
        match &self.end {
            Some(end) => end.verdict.name(),
            None => worst().map_or_else(
                || match self.session.exited {
                    Some(_) => "ending",
                    None => "running",
                },
                Kind::name,
            ),
        }
    }
}
