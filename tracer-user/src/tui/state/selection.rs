//! What is selected, and what is shown of it at the moment that the clock shows.

use std::sync::Arc;

use super::{Item, LoggedFinding, State, View};
use crate::model::{Finding, Kind, SessionId, timeline::Timeline};

impl State {
    /// The list of sessions.
    pub fn items(&self) -> Vec<Item> {
        self.list.items(&self.rows, self.clock.now())
    }

    /// Index of the selected item. If the selected session is not in the list, the one that took its
    /// line.
    pub fn selected_item(&self, items: &[Item]) -> Option<usize> {
        let wanted = self.session.map(Item::Session);
        let found = wanted.and_then(|wanted| items.iter().position(|item| *item == wanted));
        found.or_else(|| {
            let sessions = || {
                let all = items.iter().enumerate();
                all.filter(|(_, item)| matches!(item, Item::Session(_)))
                    .map(|(at, _)| at)
            };
            sessions()
                .find(|at| *at >= self.line)
                .or_else(|| sessions().next_back())
        })
    }

    /// The selected session: in the findings view, that of the selected finding.
    pub fn session(&self) -> Option<SessionId> {
        match self.view {
            View::Findings => self.finding().map(|it| it.session.id),
            View::Session if self.session.is_some() => self.session,
            _ => {
                let items = self.items();
                match items.get(self.selected_item(&items)?)? {
                    Item::Session(id) => Some(*id),
                    Item::Group { .. } => None,
                }
            }
        }
    }

    /// The selected session's history, once the source has sent it.
    pub fn timeline(&self) -> Option<&Timeline> {
        let id = self.session()?;
        self.timeline
            .as_deref()
            .filter(|line| line.session.id == id)
    }

    /// The findings view's list, newest first.
    pub fn shown_findings(&self) -> Vec<&LoggedFinding> {
        let now = self.clock.now();
        let wanted = |logged: &&LoggedFinding| {
            let finding = logged.at(now);
            finding.is_some_and(|it| self.shows(it, self.kind))
        };
        self.log.until(now).filter(wanted).collect()
    }

    /// Number of findings that the view shows of a kind.
    pub fn count_of(&self, kind: Kind) -> usize {
        let now = self.clock.now();
        let versions = self.log.until(now).filter_map(|logged| logged.at(now));
        versions.filter(|it| self.shows(it, Some(kind))).count()
    }

    /// Whether the findings view shows a finding when it is limited to a kind, or not.
    fn shows(&self, finding: &Finding, kind: Option<Kind>) -> bool {
        // Near misses are routine, so choosing them must show them.
        let routine = self.routine || kind == Some(Kind::NearMiss) || !finding.is_routine();
        routine && kind.is_none_or(|kind| kind == finding.kind())
    }

    /// Index of the selected finding. If that is not shown, the next older one.
    pub fn selected_finding(&self, shown: &[&LoggedFinding]) -> Option<usize> {
        let wanted = self.finding?;
        let at = shown.iter().position(|logged| logged.number <= wanted);
        at.or_else(|| shown.len().checked_sub(1))
    }

    /// The selected finding: in other views, the worst one of the selected session.
    pub fn finding(&self) -> Option<Arc<Finding>> {
        let now = self.clock.now();
        if self.view == View::Findings {
            let shown = self.shown_findings();
            let at = self.selected_finding(&shown).unwrap_or(0);
            return shown.get(at)?.at(now).cloned();
        }
        self.log
            .of(self.session()?, now)
            .first()
            .map(|it| Arc::clone(it))
    }

    /// The session whose history is needed, if it is another than at the previous call.
    pub fn take_request(&mut self) -> Option<Option<SessionId>> {
        let wanted = match self.view {
            View::Host => self.session,
            _ => self.session(),
        };
        if self.requested == wanted {
            return None;
        }
        self.requested = wanted;
        Some(wanted)
    }
}
