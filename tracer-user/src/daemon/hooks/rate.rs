//! How often a hook may act: a bucket of tokens that fills evenly.

use std::time::Instant;

use crate::daemon::config::Rate;

#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: f64::from(rate.count),
            filled: now,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        let size = f64::from(self.rate.count);
        let new = size * passed / self.rate.per.as_secs_f64();
        self.tokens = (self.tokens + new).min(size);
        self.filled = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_fills_evenly_and_no_further() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let rate = Rate {
            count: 3,
            per: Duration::from_secs(60),
        };
        let mut bucket = Bucket::full(rate, start);
        let taken = |bucket: &mut Bucket, at| (0..5).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, at(0)), 3);
        assert_eq!(taken(&mut bucket, at(19)), 0);
        assert_eq!(taken(&mut bucket, at(21)), 1);
        assert_eq!(taken(&mut bucket, at(100_000)), 3);
    }
}
