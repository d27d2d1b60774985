//! The host and its tracer over time: load, gaps, and how sessions ended.

use std::collections::VecDeque;

use super::row::Outcome;
use crate::{
    model::{Closed, Gap, Started},
    tui::feed::{TracerLoad, Tracing},
};

/// Maximum number of seconds whose load is kept.
const MAX_SECONDS: usize = 3600;
/// Maximum number of gaps kept.
const MAX_GAPS: usize = 256;
/// Maximum number of ended sessions kept.
const MAX_ENDS: usize = 65_536;

/// The classes of the histogram of margins: upper bound in ns, and label.
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
    /// The start of the tracer.
    pub started: Option<Started>,
    /// How the host is traced.
    pub tracing: Tracing,
    /// The load by the second, ascending.
    load: VecDeque<TracerLoad>,
    gaps: VecDeque<Gap>,
    ends: VecDeque<End>,
    /// Updates dropped because the UI was too slow: samples, others.
    pub missed: (u64, u64),
}

/// The end of a session.
#[derive(Clone, Copy, Debug)]
struct End {
    time: u64,
    outcome: Outcome,
    /// The largest margin among its near misses, ns.
    margin: Option<u64>,
}

/// How many sessions ended with each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub clean: u64,
    pub near_miss: u64,
    pub unknown: u64,
    pub client_gone: u64,
    pub truncated: u64,
}

impl Host {
    /// Adds the load of a second.
    pub fn add_load(&mut self, load: TracerLoad) {
        self.load.push_back(load);
        if self.load.len() > MAX_SECONDS {
            self.load.pop_front();
        }
    }

    /// Adds a gap.
    pub fn add_gap(&mut self, gap: &Gap) {
        self.gaps.push_back(gap.clone());
        if self.gaps.len() > MAX_GAPS {
            self.gaps.pop_front();
        }
    }

    /// Adds the end of a session.
    pub fn add_end(&mut self, closed: &Closed) {
        let late = closed
            .streams
            .iter()
            .filter(|stream| Outcome::of(stream.verdict) == Outcome::NearMiss);
        self.ends.push_back(End {
            time: closed.time,
            outcome: Outcome::of(closed.verdict),
            margin: late
                .filter_map(|stream| u64::try_from(stream.margin_ns?).ok())
                .max(),
        });
        if self.ends.len() > MAX_ENDS {
            self.ends.pop_front();
        }
    }

    /// The latest load at a time.
    pub fn load_at(&self, time: u64) -> Option<&TracerLoad> {
        let after = self.load.partition_point(|load| load.time <= time);
        self.load.get(after.checked_sub(1)?)
    }

    /// The share of one processor that the tracer used in the minute before a time.
    pub fn cpu_share(&self, time: u64) -> Option<f64> {
        const MINUTE: u64 = 60_000_000_000;
        let after = self.load.partition_point(|load| load.time <= time);
        let latest = self.load.get(after.checked_sub(1)?)?;
        let since = latest.time.saturating_sub(MINUTE);
        let first = self.load.iter().find(|load| load.time >= since)?;
        let wall = latest.time.saturating_sub(first.time);
        let used = latest.cpu?.saturating_sub(first.cpu?);
        (wall > 0).then(|| used as f64 / wall as f64)
    }

    /// For each of the last `count` seconds before a time: records, and peak bytes in the ring.
    pub fn seconds(&self, time: u64, count: usize) -> Vec<(u64, u64)> {
        const SECOND: u64 = 1_000_000_000;
        let last = time / SECOND;
        let mut out = vec![(0, 0); count];
        let mut before = None;
        for load in &self.load {
            // What came before the first is a sum, not what one second brought.
            let new = load.records.saturating_sub(before.unwrap_or(load.records));
            before = Some(load.records);
            let ago = last.checked_sub(load.time / SECOND);
            if let Some(slot) = ago
                .and_then(|ago| count.checked_sub(1 + usize::try_from(ago).ok()?))
                .and_then(|at| out.get_mut(at))
            {
                slot.0 += new;
                slot.1 = slot.1.max(load.ring_peak);
            }
        }
        out
    }

    /// Gaps before a time, newest first.
    pub fn gaps(&self, time: u64) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().rev().filter(move |gap| gap.time <= time)
    }

    /// How sessions ended before a time.
    pub fn ends(&self, time: u64) -> Ends {
        let mut ends = Ends::default();
        for end in self.ends.iter().filter(|end| end.time <= time) {
            match end.outcome {
                Outcome::Truncated => ends.truncated += 1,
                Outcome::Unknown => ends.unknown += 1,
                Outcome::ClientGone => ends.client_gone += 1,
                Outcome::NearMiss => ends.near_miss += 1,
                Outcome::Clean | Outcome::Open => ends.clean += 1,
            }
        }
        ends
    }

    /// Near misses before a time, by the classes of [`MARGINS`].
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
