//! How many bytes a session moved, second by second.

use std::collections::VecDeque;

use crate::model::Slot;

/// Most seconds that are kept: of those in which something moved.
const MAX_SECONDS: usize = 256;
const SECOND: u64 = 1_000_000_000;

/// Sums of all streams' bytes.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    streams: [u64; 3],
    /// At the end of each second in which something moved, ascending.
    seconds: VecDeque<(u64, u64)>,
}

impl Flow {
    /// A stream has moved so many bytes so far.
    pub fn saw(&mut self, time: u64, slot: Slot, bytes: u64) {
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

    /// Bytes moved until the end of the second that `time` is in.
    pub fn until(&self, time: u64) -> u64 {
        self.at(time / SECOND)
    }

    /// Bytes of each of the `count` seconds that end with the one that `time` is in.
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

    /// Bytes of the last whole second before `time`, or of this one, if more.
    pub fn rate(&self, time: u64) -> u64 {
        self.rates(time, 2).into_iter().max().unwrap_or(0)
    }

    fn at(&self, second: u64) -> u64 {
        let after = self.seconds.partition_point(|(at, _)| *at <= second);
        match after.checked_sub(1) {
            Some(at) => self.seconds[at].1,
            // What was before is not known any more, but not that it was nothing.
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
        let mut flow = Flow::default();
        flow.saw(10 * SECOND, Slot::Stdout, 100);
        flow.saw(10 * SECOND + 5, Slot::Stderr, 20);
        flow.saw(12 * SECOND, Slot::Stdout, 300);
        assert_eq!(flow.rates(13 * SECOND, 5), [0, 120, 0, 200, 0]);
        assert_eq!(
            (flow.until(11 * SECOND), flow.until(99 * SECOND)),
            (120, 320)
        );
    }

    #[test]
    fn a_long_session_stays_small() {
        let mut flow = Flow::default();
        for second in 0..100_000 {
            flow.saw(second * SECOND, Slot::Stdout, (second + 1) * 10);
        }
        assert_eq!(flow.seconds.len(), MAX_SECONDS);
        assert_eq!(flow.rates(99_999 * SECOND, 3), [10, 10, 10]);
        assert_eq!(flow.rates(5 * SECOND, 3), [0, 0, 0], "not known");
    }
}
