//! The machine and its tracer, over time.

use std::collections::VecDeque;

use super::row::Word;
use crate::{
    model::{Closed, Gap, Started},
    tui::feed::{Health, Tracing},
};

/// Most seconds of which is kept how much there was to do.
const MAX_SECONDS: usize = 3600;
/// Most gaps that are kept.
const MAX_GAPS: usize = 256;
/// Most ends of sessions that are kept.
const MAX_ENDS: usize = 65_536;

/// Upper bounds of the margins' classes, ns.
pub const MARGINS: [(u64, &str); 9] = [
    (10_000, "10 µs"),
    (30_000, "30 µs"),
    (100_000, "100 µs"),
    (300_000, "300 µs"),
    (1_000_000, "1 ms"),
    (10_000_000, "10 ms"),
    (100_000_000, "100 ms"),
    (1_000_000_000, "1 s"),
    (u64::MAX, "longer"),
];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What the tracer said when it began.
    pub started: Option<Started>,
    /// How it traces.
    pub tracing: Tracing,
    /// How much there was to do, ascending.
    health: VecDeque<Health>,
    gaps: VecDeque<Gap>,
    ends: VecDeque<End>,
    /// Samples and other updates that the UI was too slow for.
    pub missed: (u64, u64),
}

/// A session ended.
#[derive(Clone, Copy, Debug)]
struct End {
    time: u64,
    word: Word,
    /// From the server's being told to its last read, ns.
    margin: Option<u64>,
}

/// How many sessions ended with which word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// All bytes came.
    pub clean: u64,
    /// They came late.
    pub near_miss: u64,
    /// Evidence is missing.
    pub unknown: u64,
    /// The client left before all had come.
    pub gone: u64,
    /// Bytes were lost.
    pub truncated: u64,
}

impl Host {
    /// Takes in how much there is to do.
    pub fn health(&mut self, health: Health) {
        self.health.push_back(health);
        if self.health.len() > MAX_SECONDS {
            self.health.pop_front();
        }
    }

    /// Takes in a gap.
    pub fn gap(&mut self, gap: &Gap) {
        self.gaps.push_back(gap.clone());
        if self.gaps.len() > MAX_GAPS {
            self.gaps.pop_front();
        }
    }

    /// Takes in the end of a session.
    pub fn closed(&mut self, closed: &Closed) {
        let late = closed
            .streams
            .iter()
            .filter(|stream| Word::of(stream.verdict) == Word::NearMiss);
        self.ends.push_back(End {
            time: closed.time,
            word: Word::of(closed.verdict),
            margin: late
                .filter_map(|stream| u64::try_from(stream.margin_ns?).ok())
                .max(),
        });
        if self.ends.len() > MAX_ENDS {
            self.ends.pop_front();
        }
    }

    /// How things stood then.
    pub fn health_at(&self, time: u64) -> Option<&Health> {
        let after = self.health.partition_point(|health| health.time <= time);
        self.health.get(after.checked_sub(1)?)
    }

    /// The share of one processor that the tracer used in the last minute before then.
    pub fn busy(&self, time: u64) -> Option<f64> {
        const MINUTE: u64 = 60_000_000_000;
        let after = self.health.partition_point(|health| health.time <= time);
        let latest = self.health.get(after.checked_sub(1)?)?;
        let since = latest.time.saturating_sub(MINUTE);
        let first = self.health.iter().find(|health| health.time >= since)?;
        let wall = latest.time.saturating_sub(first.time);
        let used = latest.cpu?.saturating_sub(first.cpu?);
        (wall > 0).then(|| used as f64 / wall as f64)
    }

    /// Records of each of the `count` seconds until then, and the most that were in the ring.
    pub fn seconds(&self, time: u64, count: usize) -> Vec<(u64, u64)> {
        const SECOND: u64 = 1_000_000_000;
        let last = time / SECOND;
        let mut out = vec![(0, 0); count];
        let mut before = 0;
        for health in &self.health {
            let new = health.records.saturating_sub(before);
            before = health.records;
            let ago = last.checked_sub(health.time / SECOND);
            if let Some(place) = ago
                .and_then(|ago| count.checked_sub(1 + usize::try_from(ago).ok()?))
                .and_then(|at| out.get_mut(at))
            {
                place.0 += new;
                place.1 = place.1.max(health.ring_peak);
            }
        }
        out
    }

    /// Gaps until then, newest first.
    pub fn gaps(&self, time: u64) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().rev().filter(move |gap| gap.time <= time)
    }

    /// How sessions ended until then.
    pub fn ends(&self, time: u64) -> Ends {
        let mut ends = Ends::default();
        for end in self.ends.iter().filter(|end| end.time <= time) {
            match end.word {
                Word::Truncated => ends.truncated += 1,
                Word::Unknown => ends.unknown += 1,
                Word::Gone => ends.gone += 1,
                Word::NearMiss => ends.near_miss += 1,
                Word::Clean | Word::Open => ends.clean += 1,
            }
        }
        ends
    }

    /// How many near misses until then had a margin up to each of [`MARGINS`].
    pub fn margins(&self, time: u64) -> [u64; MARGINS.len()] {
        let mut counts = [0; MARGINS.len()];
        let ends = self.ends.iter().filter(|end| end.time <= time);
        for margin in ends.filter_map(|end| end.margin) {
            let class = MARGINS.iter().position(|(most, _)| margin <= *most);
            counts[class.unwrap_or(MARGINS.len() - 1)] += 1;
        }
        counts
    }
}
