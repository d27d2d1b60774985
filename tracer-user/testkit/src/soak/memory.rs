//! The daemon's own memory over time.

use std::fs;
use std::time::{Duration, Instant};

/// Into how many parts the time is cut. During the first the daemon gets warm.
const PARTS: usize = 6;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    pid: u32,
    began: Instant,
    part: Duration,
    most: [u64; PARTS],
}

impl Memory {
    /// Of a process that is looked at for so long.
    #[must_use]
    pub fn of(pid: u32, time: Duration) -> Self {
        Self {
            pid,
            began: Instant::now(),
            part: time / PARTS as u32,
            most: [0; PARTS],
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
        let parts = self.began.elapsed().div_duration_f64(self.part);
        let most = &mut self.most[(parts as usize).min(PARTS - 1)];
        *most = bytes.max(*most);
    }

    /// The most in each part of the time, bytes.
    #[must_use]
    pub const fn most(&self) -> [u64; PARTS] {
        self.most
    }

    /// The most before it was warm, and after, bytes.
    #[must_use]
    pub fn result(&self) -> (u64, u64) {
        let [early, late @ ..] = self.most;
        (early, late.into_iter().max().unwrap_or(0))
    }
}
