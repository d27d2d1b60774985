//! The daemon's own memory over time.

use std::fs;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Memory {
    pid: u32,
    began: Instant,
    warm: Duration,
    early: u64,
    late: u64,
}

impl Memory {
    /// Of a process that is warm after a while.
    #[must_use]
    pub fn of(pid: u32, warm: Duration) -> Self {
        Self {
            pid,
            began: Instant::now(),
            warm,
            early: 0,
            late: 0,
        }
    }

    /// Reads it: `RssAnon` of proc(5), what is not a file's or the ring buffer's.
    pub fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let bytes = kib.unwrap_or(0) << 10;
        if self.began.elapsed() < self.warm {
            self.early = self.early.max(bytes);
        } else {
            self.late = self.late.max(bytes);
        }
    }

    /// The most before it was warm, and after, bytes.
    #[must_use]
    pub const fn result(&self) -> (u64, u64) {
        (self.early, self.late)
    }
}
