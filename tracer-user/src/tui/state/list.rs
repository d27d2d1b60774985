//! Which sessions are listed, and in which order.

use std::{cmp::Ordering, collections::HashMap};

use super::row::{Condition, Row, Word};
use crate::model::{SessionId, message};

/// How the list is wanted.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// By what it is sorted.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// By what it is grouped.
    pub group: Group,
    /// Words that all must be said of a session.
    pub filter: String,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst first, then the latest.
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

/// What sessions are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// Nothing.
    #[default]
    None,
    User,
    Peer,
    Verdict,
}

impl Group {
    /// The next one.
    pub const fn next(self) -> Self {
        match self {
            Self::None => Self::User,
            Self::User => Self::Peer,
            Self::Peer => Self::Verdict,
            Self::Verdict => Self::None,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::User => "user",
            Self::Peer => "peer",
            Self::Verdict => "verdict",
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Sessions that have something in common follow.
    Head {
        /// What.
        name: String,
        /// How many they are.
        sessions: usize,
        /// How many of them are open.
        open: usize,
        /// How many of them want attention.
        bad: usize,
    },
    /// A session.
    Session(SessionId),
}

/// What a row is sorted by.
struct Keyed<'a> {
    row: &'a Row,
    condition: Condition,
    word: Word,
    number: u64,
}

impl List {
    /// The list as it was at a moment.
    pub fn items(&self, rows: &HashMap<u64, Row>, at: u64) -> Vec<Item> {
        let filter = self.filter.to_lowercase();
        let mut keyed: Vec<Keyed<'_>> = rows
            .values()
            .filter(|row| row.is_there(at))
            .filter(|row| filter.is_empty() || row.matches(&filter, at))
            .map(|row| Keyed {
                row,
                condition: row.condition(at),
                word: row.word(at),
                number: match self.sort {
                    Sort::Age => row.age(at),
                    Sort::Bytes => row.flow.until(at),
                    Sort::Rate => row.flow.rate(at),
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
            // The most first.
            Sort::Age | Sort::Bytes | Sort::Rate => b.number.cmp(&a.number),
            Sort::Verdict => a.word.cmp(&b.word),
        };
        let by = if self.reverse { by.reverse() } else { by };
        // The latest first.
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
                Group::Verdict | Group::None => it.word.name().to_owned(),
            };
            let group = groups.entry(name.clone()).or_default();
            if group.is_empty() {
                // Groups are in the order of their first sessions.
                names.push(name);
            }
            group.push(it);
        }
        let mut items = Vec::with_capacity(keyed.len() + names.len());
        for name in names {
            let group = groups.remove(&name).unwrap_or_default();
            items.push(Item::Head {
                name,
                sessions: group.len(),
                open: count(&group, |it| it.condition != Condition::Closed),
                bad: count(&group, is_bad),
            });
            items.extend(group.iter().map(|it| Item::Session(it.row.view.id)));
        }
        items
    }
}

fn count(group: &[&Keyed<'_>], what: impl Fn(&Keyed<'_>) -> bool) -> usize {
    group.iter().filter(|it| what(it)).count()
}

fn is_bad(it: &Keyed<'_>) -> bool {
    it.condition <= Condition::Waiting || it.word == Word::Truncated
}

/// Trouble, then what is open, then what is over.
fn rank(it: &Keyed<'_>) -> (u8, Condition) {
    let trouble = it.condition <= Condition::Waiting;
    let open = it.condition != Condition::Closed;
    let rank = match () {
        () if trouble => 0,
        () if open && it.word == Word::Truncated => 1,
        () if open => 2,
        () => 3,
    };
    (rank, it.condition)
}

/// The user's name, or number.
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
