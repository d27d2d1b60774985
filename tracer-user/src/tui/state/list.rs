//! The list of sessions: filtered, sorted and grouped.

use std::{cmp::Ordering, collections::HashMap};

use super::row::{Condition, Outcome, Row};
use crate::model::{SessionId, message};

/// How the list is arranged.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub sort: Sort,
    /// Reverse the order.
    pub reverse: bool,
    pub group: Group,
    /// Words that a session must match, all of them.
    pub filter: String,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Worst first, then latest first.
    #[default]
    State,
    User,
    Peer,
    Command,
    Age,
    Bytes,
    Rate,
    Verdict,
}

impl Sort {
    const ALL: [Self; 8] = [
        Self::State,
        Self::User,
        Self::Peer,
        Self::Command,
        Self::Age,
        Self::Bytes,
        Self::Rate,
        Self::Verdict,
    ];

    /// The next column.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        Self::ALL[(at.unwrap_or(0) + 1) % Self::ALL.len()]
    }
}

/// What sessions are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    #[default]
    None,
    User,
    Peer,
    Verdict,
}

impl Group {
    /// The next grouping.
    pub const fn next(self) -> Self {
        match self {
            Self::None => Self::User,
            Self::User => Self::Peer,
            Self::Peer => Self::Verdict,
            Self::Verdict => Self::None,
        }
    }

    /// What is shown to the user after choosing it.
    pub const fn notice(self) -> &'static str {
        match self {
            Self::None => "not grouped",
            Self::User => "grouped by user",
            Self::Peer => "grouped by peer",
            Self::Verdict => "grouped by verdict",
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The heading of a group; its sessions follow.
    Group {
        /// What they have in common.
        name: String,
        /// Number of sessions.
        sessions: usize,
        /// Number of open ones.
        open: usize,
        /// Number of those that need attention.
        attention: usize,
    },
    Session(SessionId),
}

/// A row with its sort keys at the moment shown.
struct Keyed<'a> {
    row: &'a Row,
    condition: Condition,
    outcome: Outcome,
    number: u64,
}

impl List {
    /// The list at a moment.
    pub fn items(&self, rows: &HashMap<u64, Row>, at: u64) -> Vec<Item> {
        let filter = self.filter.to_lowercase();
        let mut keyed: Vec<Keyed<'_>> = rows
            .values()
            .filter(|row| row.exists_at(at))
            .filter(|row| filter.is_empty() || row.matches(&filter, at))
            .map(|row| Keyed {
                row,
                condition: row.condition(at),
                outcome: row.outcome(at),
                number: match self.sort {
                    Sort::Age => row.age(at),
                    Sort::Bytes => row.throughput.total_at(at),
                    Sort::Rate => row.throughput.rate(at),
                    _ => 0,
                },
            })
            .collect();
        keyed.sort_unstable_by(|a, b| self.order(a, b));
        if self.group == Group::None {
            return keyed
                .iter()
                .map(|it| Item::Session(it.row.view.id))
                .collect();
        }
        self.grouped(&keyed)
    }

    fn order(&self, a: &Keyed<'_>, b: &Keyed<'_>) -> Ordering {
        let by = match self.sort {
            Sort::State => rank(a).cmp(&rank(b)),
            Sort::User => user(a.row).cmp(&user(b.row)),
            Sort::Peer => a.row.view.peer.cmp(&b.row.view.peer),
            Sort::Command => a.row.view.command.cmp(&b.row.view.command),
            // Largest first.
            Sort::Age | Sort::Bytes | Sort::Rate => b.number.cmp(&a.number),
            Sort::Verdict => a.outcome.cmp(&b.outcome),
        };
        let by = if self.reverse { by.reverse() } else { by };
        // Latest first.
        by.then(b.row.opened.cmp(&a.row.opened))
            .then(a.row.view.id.cmp(&b.row.view.id))
    }

    fn grouped(&self, keyed: &[Keyed<'_>]) -> Vec<Item> {
        let mut names: Vec<String> = Vec::new();
        let mut groups: HashMap<String, Vec<&Keyed<'_>>> = HashMap::new();
        for it in keyed {
            let name = match self.group {
                Group::User => user(it.row),
                Group::Peer => peer(it.row),
                Group::Verdict | Group::None => it.outcome.name().to_owned(),
            };
            let group = groups.entry(name.clone()).or_default();
            if group.is_empty() {
                // Groups are ordered by their first session.
                names.push(name);
            }
            group.push(it);
        }
        let mut items = Vec::with_capacity(keyed.len() + names.len());
        for name in names {
            let group = groups.remove(&name).unwrap_or_default();
            items.push(Item::Group {
                name,
                sessions: group.len(),
                open: count(&group, |it| it.condition != Condition::Closed),
                attention: count(&group, needs_attention),
            });
            items.extend(group.iter().map(|it| Item::Session(it.row.view.id)));
        }
        items
    }
}

fn count(group: &[&Keyed<'_>], what: impl Fn(&Keyed<'_>) -> bool) -> usize {
    group.iter().filter(|it| what(it)).count()
}

fn needs_attention(it: &Keyed<'_>) -> bool {
    it.condition <= Condition::Waiting || it.outcome == Outcome::Truncated
}

/// Trouble first, then open sessions, then closed ones.
fn rank(it: &Keyed<'_>) -> (u8, Condition) {
    let trouble = it.condition <= Condition::Waiting;
    let open = it.condition != Condition::Closed;
    let rank = match () {
        () if trouble => 0,
        () if open && it.outcome == Outcome::Truncated => 1,
        () if open => 2,
        () => 3,
    };
    (rank, it.condition)
}

/// The user's name, or id.
pub fn user(row: &Row) -> String {
    match (&row.view.user, row.view.uid) {
        (None, Some(uid)) => uid.to_string(),
        (None, None) => "?".to_owned(),
        (Some(_), _) => message::user(&row.view),
    }
}

/// The client's address.
pub fn peer(row: &Row) -> String {
    row.view
        .peer
        .map_or_else(|| "?".to_owned(), |peer| peer.ip().to_string())
}
