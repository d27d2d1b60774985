//! The matrix as a person reads it.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::Result;

use super::{boot::Ended, matrix::Cell};
use crate::results::{How, Outcome};

/// One VM's part of it.
pub struct Row {
    pub cell: Cell,
    pub outcomes: Vec<Outcome>,
    pub took: Duration,
    pub result: Result<Ended>,
}

impl Row {
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|ended| ended.status == 0)
    }
}

/// Passed, failed and skipped cases of one class.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    fn add(&mut self, how: How) {
        match how {
            How::Passed => self.passed += 1,
            How::Failed => self.failed += 1,
            How::Skipped => self.skipped += 1,
        }
    }

    fn shown(self) -> String {
        format!("{}/{}/{}", self.passed, self.failed, self.skipped)
    }
}

/// Kernels and backends down, classes across; then how the VMs ended.
pub fn of(rows: &[Row]) -> String {
    let mut classes: Vec<&str> = Vec::new();
    for outcome in rows.iter().flat_map(|row| &row.outcomes) {
        if !classes.contains(&outcome.class.as_str()) {
            classes.push(&outcome.class);
        }
    }
    let mut text = String::from("passed/failed/skipped\n");
    let _ = write!(text, "{:<8}{:<9}{:<9}", "kernel", "arch", "backend");
    for class in &classes {
        let _ = write!(text, "{class:>12}");
    }
    let _ = writeln!(text, "{:>8}", "time");
    for row in rows {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        for outcome in &row.outcomes {
            tallies
                .entry(&outcome.class)
                .or_default()
                .add(outcome.outcome);
        }
        let cell = row.cell;
        let _ = write!(
            text,
            "{:<8}{:<9}{:<9}",
            cell.kernel.version,
            cell.arch.name(),
            cell.backend.name()
        );
        for class in &classes {
            let shown = tallies.get(class).copied().unwrap_or_default().shown();
            let _ = write!(text, "{shown:>12}");
        }
        let note = match &row.result {
            Ok(ended) if ended.status == 0 => format!("ok, {}", ended.release),
            Ok(ended) => format!("FAILED, exit status {}", ended.status),
            Err(error) => format!("FAILED, {error:#}"),
        };
        let _ = writeln!(text, "{:>6.0} s  {note}", row.took.as_secs_f64());
    }
    text
}
