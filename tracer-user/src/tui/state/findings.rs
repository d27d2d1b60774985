//! The log of findings, and which of them the user has looked at.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::model::{Finding, FindingKey, Kind, SessionId, State};

/// Maximum number of findings kept.
const MAX_FINDINGS: usize = 4096;
/// Maximum number of versions kept of a finding: the first one, and the latest ones.
const MAX_VERSIONS: usize = 16;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct FindingLog {
    findings: VecDeque<LoggedFinding>,
    /// Number of the oldest one that is kept.
    first: u64,
    /// Number of the latest one with a key.
    latest: HashMap<FindingKey, u64>,
}

/// A finding and its updates.
#[derive(Clone, Debug)]
pub struct LoggedFinding {
    /// Identifies it; ascending in the order of the log.
    pub number: u64,
    /// When it was first reported, ns of `CLOCK_BOOTTIME`.
    pub began: u64,
    /// The user has not looked at it yet.
    pub unread: bool,
    versions: Vec<Arc<Finding>>,
}

impl LoggedFinding {
    /// The version at a time.
    pub fn at(&self, time: u64) -> Option<&Arc<Finding>> {
        self.versions
            .iter()
            .rev()
            .find(|version| version.time <= time)
    }

    /// The latest version.
    pub fn latest(&self) -> Option<&Arc<Finding>> {
        self.versions.last()
    }

    /// Whether it is shown only on request.
    pub fn is_routine(&self) -> bool {
        self.latest().is_none_or(|it| it.is_routine())
    }
}

impl FindingLog {
    /// Adds a finding: as a new version if an unresolved one with its key is known, else as a new one.
    pub fn add(&mut self, finding: &Finding) {
        let key = finding.key();
        let known = self.latest.get(&key).copied();
        let mut finding = finding.clone();
        if let Some(logged) = known.and_then(|number| self.find_mut(number))
            && logged
                .latest()
                .is_some_and(|it| it.state != State::Resolved)
        {
            if logged.versions.len() == MAX_VERSIONS {
                logged.versions.remove(1);
            }
            logged.unread |= finding.state != State::Resolved && !finding.quiet;
            // An update that is not worth reporting leaves the finding as loud as it was.
            finding.quiet &= logged.latest().is_some_and(|it| it.quiet);
            logged.versions.push(Arc::new(finding));
            return;
        }
        let number = self.first + self.findings.len() as u64;
        self.latest.insert(key, number);
        self.findings.push_back(LoggedFinding {
            number,
            began: finding.time,
            unread: !finding.is_routine(),
            versions: vec![Arc::new(finding)],
        });
        if self.findings.len() > MAX_FINDINGS
            && let Some(old) = self.findings.pop_front()
        {
            self.first += 1;
            let number = old.number;
            self.latest.retain(|_, latest| *latest != number);
        }
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut LoggedFinding> {
        let at = number.checked_sub(self.first)?;
        self.findings.get_mut(usize::try_from(at).ok()?)
    }

    /// Findings that began before a time, newest first.
    pub fn until(&self, time: u64) -> impl Iterator<Item = &LoggedFinding> {
        let begun = move |logged: &&LoggedFinding| logged.began <= time;
        self.findings.iter().rev().filter(begun)
    }

    /// Findings that are not routine.
    fn urgent(&self) -> impl Iterator<Item = &LoggedFinding> {
        self.findings.iter().filter(|it| !it.is_routine())
    }

    /// The first one after a time that is not routine.
    pub fn after(&self, time: u64) -> Option<&LoggedFinding> {
        let after = self.urgent().filter(|it| it.began > time);
        after.min_by_key(|it| it.began)
    }

    /// The last one before a time that is not routine.
    pub fn before(&self, time: u64) -> Option<&LoggedFinding> {
        let before = self.urgent().filter(|it| it.began < time);
        before.max_by_key(|it| it.began)
    }

    /// Time and kind of each finding that is not routine.
    pub fn moments(&self) -> impl Iterator<Item = (u64, Kind)> {
        self.urgent()
            .filter_map(|it| Some((it.began, it.latest()?.kind())))
    }

    /// Number of findings before a time that the user has not looked at.
    pub fn unread(&self, time: u64) -> usize {
        self.until(time).filter(|it| it.unread).count()
    }

    /// Marks a finding as looked at.
    pub fn mark_read(&mut self, number: u64) {
        if let Some(logged) = self.find_mut(number) {
            logged.unread = false;
        }
    }

    /// Marks the findings of a session as looked at.
    pub fn mark_session_read(&mut self, session: SessionId) {
        for logged in &mut self.findings {
            if logged.latest().is_some_and(|it| it.session.id == session) {
                logged.unread = false;
            }
        }
    }

    /// Marks resolved findings and those of closed sessions as looked at.
    pub fn mark_past_read(&mut self, is_closed: impl Fn(SessionId) -> bool) {
        for logged in &mut self.findings {
            let is_past =
                |it: &Arc<Finding>| it.state == State::Resolved || is_closed(it.session.id);
            if logged.latest().is_none_or(is_past) {
                logged.unread = false;
            }
        }
    }

    /// The findings of a session at a time, worst first.
    pub fn of(&self, session: SessionId, time: u64) -> Vec<&Arc<Finding>> {
        let mut found: Vec<_> = self
            .until(time)
            .filter_map(|logged| logged.at(time))
            .filter(|it| it.session.id == session)
            .collect();
        found.sort_by_key(|it| (it.state == State::Resolved, it.kind()));
        found
    }
}
