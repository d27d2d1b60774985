//! Findings as a list shows them: each once, from when it began to when it was resolved.

use serde::{Deserialize, Serialize};

use super::{Finding, Kind, State};

/// A finding, whatever became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What finds its session again, as [`super::Listed::name`].
    pub name: String,
    /// The machine.
    pub host: String,
    /// Wall clock minus `CLOCK_BOOTTIME` when it was seen, ns.
    pub wall_offset: u64,
    /// The last word on it before it was resolved; its state is whether it was.
    pub finding: Finding,
    /// When it began: of an orphan when the command exited.
    pub opened: u64,
    /// When it was resolved.
    pub resolved: Option<u64>,
    /// When its session closed, if it has: nothing lasts longer.
    pub closed: Option<u64>,
}

/// Which findings are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingFilter {
    /// The word for its kind.
    pub kind: Option<String>,
    /// Login name, or user id.
    pub user: Option<String>,
    /// The client's address.
    pub peer: Option<String>,
    /// Part of the command.
    pub command: Option<String>,
    /// Begun at this time or later, wall clock in ns since 1970.
    pub since: Option<u64>,
    /// Begun before this, in the same way.
    pub until: Option<u64>,
    /// Not yet resolved at this time, in the same way.
    pub at: Option<u64>,
    /// Also what clients and commands do all day.
    pub all: bool,
    /// At most so many, the youngest.
    pub limit: Option<u64>,
}

impl Found {
    /// The findings of one session, from what was told of it, in that order.
    #[must_use]
    pub fn of_session<'a>(
        told: impl IntoIterator<Item = &'a Finding>,
        name: &str,
        host: &str,
        wall_offset: u64,
        closed: Option<u64>,
    ) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for finding in told {
            let key = finding.key();
            let same = |it: &&mut Self| it.finding.key() == key && it.resolved.is_none();
            match (all.iter_mut().rev().find(same), finding.state) {
                (Some(found), State::Resolved) => {
                    found.finding.state = State::Resolved;
                    found.resolved = Some(finding.time);
                }
                (Some(found), State::Open | State::Updated) => {
                    // A change that is no news does not make the finding ordinary.
                    let quiet = found.finding.quiet && finding.quiet;
                    found.finding = Finding {
                        quiet,
                        ..finding.clone()
                    };
                }
                (None, State::Open | State::Updated) => {
                    let exited = finding.session.exited;
                    all.push(Self {
                        name: name.to_owned(),
                        host: host.to_owned(),
                        wall_offset,
                        opened: exited
                            .filter(|_| finding.kind() == Kind::Orphaned)
                            .unwrap_or(finding.time),
                        finding: finding.clone(),
                        resolved: None,
                        closed,
                    });
                }
                (None, State::Resolved) => {}
            }
        }
        if let Some(closed) = closed {
            for resolved in all.iter_mut().filter_map(|it| it.resolved.as_mut()) {
                *resolved = closed.min(*resolved);
            }
        }
        all
    }

    /// When it was no longer so; `None` while it is. What was lost stays lost until its session closes.
    #[must_use]
    pub fn ended(&self) -> Option<u64> {
        self.resolved.or(self.closed)
    }
}

impl FindingFilter {
    /// Whether a finding is wanted, but for the limit.
    #[must_use]
    pub fn wants(&self, it: &Found) -> bool {
        let session = &it.finding.session;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let uid = session.uid.map(|uid| uid.to_string());
        let peer = session.peer.map(|peer| peer.ip().to_string());
        let command = session.command.as_deref().unwrap_or_default();
        let wall = |time: u64| time.wrapping_add(it.wall_offset);
        let kind = it.finding.kind().name();
        is(&self.kind, Some(kind))
            && (is(&self.user, session.user.as_deref()) || is(&self.user, uid.as_deref()))
            && is(&self.peer, peer.as_deref())
            && self.command.as_ref().is_none_or(|part| command.contains(part.as_str()))
            && self.since.is_none_or(|since| wall(it.opened) >= since)
            && self.until.is_none_or(|until| wall(it.opened) < until)
            && self.at.is_none_or(|at| {
                wall(it.opened) <= at && it.ended().is_none_or(|ended| wall(ended) > at)
            })
            // Who asks for near misses by name wants them.
            && (self.all || self.kind.as_deref() == Some(Kind::NearMiss.name()) || !it.finding.is_routine())
    }
}
