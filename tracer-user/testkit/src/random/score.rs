//! What was reported of random sessions, held against what is true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::event::Event;
use crate::expect::{Bytes, Expect};

/// What came of it.
#[derive(Debug, Default)]
pub struct Result {
    /// Everything that is wrong, with the session it is about.
    pub problems: Vec<String>,
    /// Sessions about which nothing had to be reported.
    pub clean: usize,
    /// Sessions whose client left.
    pub left: usize,
    /// Sessions that lost bytes by another's fault than the client's.
    pub truncated: usize,
    /// Bytes they lost, where the number is known.
    pub lost: u64,
    /// Sessions that hung.
    pub orphaned: usize,
    /// Sessions that were called unknown, by the reasons of the gap that makes them so.
    pub unknown: BTreeMap<String, usize>,
    /// What was told of losses.
    pub losses: Score,
    /// What was told of holders.
    pub hangs: Score,
    /// Byte counts of losses that were called exact; a wrong one is a problem.
    pub exact: usize,
}

/// How many sessions were told to have something, against how many had it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    told: usize,
    true_: usize,
    both: usize,
}

impl Score {
    /// Of sessions by their markers.
    fn of(told: &BTreeSet<&str>, true_: &BTreeSet<&str>) -> Self {
        Self {
            told: told.len(),
            true_: true_.len(),
            both: told.intersection(true_).count(),
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, true_, both } = self;
        let share = |of: usize| match of {
            0 => 1.0,
            _ => *both as f64 / of as f64,
        };
        write!(
            f,
            "precision {:.4} ({both} of {told} told), recall {:.4} ({both} of {true_} true)",
            share(*told),
            share(*true_),
        )
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clean, {} left by their client, {} truncated ({} B), {} orphaned; {} told as unknown; \
             {} problems",
            self.clean,
            self.left,
            self.truncated,
            self.lost,
            self.orphaned,
            self.unknown.values().sum::<usize>(),
            self.problems.len()
        )?;
        for (reasons, sessions) in &self.unknown {
            write!(f, "\nunknown:   {sessions} for {reasons}")?;
        }
        write!(
            f,
            "\ntruncated: {}; {} byte counts called exact\norphaned:  {}",
            self.losses, self.exact, self.hangs
        )
    }
}

impl Result {
    /// Holds what was told of each session against what is true of it.
    pub(super) fn score(&mut self, events: &[Event], expects: &[Expect]) {
        let having = |has: &dyn Fn(&Expect) -> bool| -> BTreeSet<&str> {
            let own = expects.iter().filter(|expect| has(expect));
            own.filter_map(|expect| expect.who.marker()).collect()
        };
        let all = having(&|_| true);
        let told = |kind: &str| -> BTreeSet<&str> {
            // A client's departure accuses nobody.
            let findings = events
                .iter()
                .filter(|event| event.finds(kind) && event.cause() != "client_gone");
            let marked = findings.filter_map(|event| {
                all.iter()
                    .find(|marker| event.command().contains(**marker))
                    .copied()
            });
            marked.collect()
        };
        self.losses = Score::of(&told("truncated"), &having(&Expect::accuses));
        let tolerated = having(&|one| one.holders.is_none() && one.tolerated.contains(&"orphaned"));
        let hangs: BTreeSet<&str> = told("orphaned").difference(&tolerated).copied().collect();
        self.hangs = Score::of(&hangs, &having(&|one| one.holders.is_some()));
        let unknown = |event: &&Event| event.is("session_closed") && event.verdict() == "unknown";
        for event in events.iter().filter(unknown) {
            let reasons = event.value["gap_reasons"].to_string();
            *self.unknown.entry(reasons).or_default() += 1;
        }
        let exact = |event: &&Event| event.finds("truncated") && event.value["exact"] == true;
        self.exact = events.iter().filter(exact).count();
    }

    pub(super) fn count(&mut self, expect: &Expect) {
        if expect.holders.is_some() {
            self.orphaned += 1;
        } else if expect.accuses() {
            self.truncated += 1;
        } else if expect.cuts.is_empty() {
            self.clean += 1;
        } else {
            self.left += 1;
        }
        for cut in &expect.cuts {
            if let Bytes::Exactly(bytes) | Bytes::Equal(bytes) = cut.bytes {
                self.lost += bytes;
            }
        }
    }
}
