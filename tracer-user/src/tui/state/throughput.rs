//! How many bytes a session moved, by the second.

use std::collections::VecDeque;

use crate::model::Slot;

/// Maximum number of seconds kept; only those in which something moved count.
const MAX_SECONDS: usize = 256;
const SECOND: u64 = 1_000_000_000;

/// The bytes of all streams of a session together.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    streams: [u64; 3],
    /// Total at the end of each second in which something moved: (second, bytes), ascending.
    seconds: VecDeque<(u64, u64)>,
}

impl Throughput {
    /// Records the total of a stream at a time.
    pub fn record(&mut self, time: u64, slot: Slot, bytes: u64) {
        let stream = &mut self.streams[slot as usize];
        if bytes <= *stream {
            return;
        }
        *stream = bytes;
        let sum = self.streams.iter().copied().fold(0, u64::saturating_add);
        let second = time / SECOND;
        match self.seconds.back_mut() {
            Some(last) if last.0 >= second => last.1 = sum,
            _ => self.seconds.push_back((second, sum)),
        }
        if self.seconds.len() > MAX_SECONDS {
            self.seconds.pop_front();
        }
    }

    /// Total at the end of the second that contains `time`.
    pub fn total_at(&self, time: u64) -> u64 {
        self.at(time / SECOND)
    }

    /// Bytes in each of the last `count` seconds up to the one that contains `time`.
    pub fn rates(&self, time: u64, count: usize) -> Vec<u64> {
        let last = time / SECOND;
        let first = last.saturating_sub(count as u64 - 1);
        let mut before = self.at(first.wrapping_sub(1));
        (first..=last)
            .map(|second| {
                let sum = self.at(second);
                let moved = sum.saturating_sub(before);
                before = sum;
                moved
            })
            .collect()
    }

    /// Bytes per second at `time`: those of the last full second, or of the current one if more.
    pub fn rate(&self, time: u64) -> u64 {
        self.rates(time, 2).into_iter().max().unwrap_or(0)
    }

    fn at(&self, second: u64) -> u64 {
        let after = self.seconds.partition_point(|(at, _)| *at <= second);
        match after.checked_sub(1) {
            Some(at) => self.seconds[at].1,
            // Older seconds have been dropped; the total was not zero then.
            None if self.seconds.len() == MAX_SECONDS => self.seconds[0].1,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_summed_by_the_second() {
        let mut throughput = Throughput::default();
        throughput.record(10 * SECOND, Slot::Stdout, 100);
        throughput.record(10 * SECOND + 5, Slot::Stderr, 20);
        throughput.record(12 * SECOND, Slot::Stdout, 300);
        assert_eq!(throughput.rates(13 * SECOND, 5), [0, 120, 0, 200, 0]);
        assert_eq!(
            (
                throughput.total_at(11 * SECOND),
                throughput.total_at(99 * SECOND)
            ),
            (120, 320)
        );
    }

    #[test]
    fn a_long_session_keeps_a_limited_number_of_seconds() {
        let mut throughput = Throughput::default();
        for second in 0..100_000 {
            throughput.record(second * SECOND, Slot::Stdout, (second + 1) * 10);
        }
        assert_eq!(throughput.seconds.len(), MAX_SECONDS);
        assert_eq!(throughput.rates(99_999 * SECOND, 3), [10, 10, 10]);
        assert_eq!(throughput.rates(5 * SECOND, 3), [0, 0, 0], "dropped");
    }
}
