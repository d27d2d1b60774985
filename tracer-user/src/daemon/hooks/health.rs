//! Says in the log that a hook fails, or works again: once, however often it is tried.

use std::time::{Duration, Instant};

/// Between two lines about one hook, however often it changes.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Health {
    /// As of the last line; a hook is well until it fails.
    told_ill: bool,
    told: Option<Instant>,
    /// Failures since it was last well.
    failures: u64,
}

impl Health {
    pub fn log(&mut self, name: &str, result: anyhow::Result<()>, now: Instant) {
        if let Some(news) = self.news(result, now) {
            log::warn!("hook {name} {news}");
        }
    }

    fn news(&mut self, result: anyhow::Result<()>, now: Instant) -> Option<String> {
        let failures = self.failures;
        self.failures = if result.is_err() { failures + 1 } else { 0 };
        let is_early = self.told.is_some_and(|told| now - told < PAUSE);
        if self.told_ill == result.is_err() || is_early {
            return None;
        }
        self.told_ill = result.is_err();
        self.told = Some(now);
        Some(match result {
            Ok(()) => format!("works again after {failures} failures"),
            Err(error) => format!("fails, which is told once: {error:#}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told_and_not_too_often() {
        let start = Instant::now();
        let mut health = Health::default();
        let mut news = |seconds, works| {
            let result = match works {
                true => Ok(()),
                false => Err(anyhow::anyhow!("refused")),
            };
            health.news(result, start + Duration::from_secs(seconds))
        };
        assert_eq!(news(0, true), None);
        let ill = news(1, false);
        assert_eq!(ill.as_deref(), Some("fails, which is told once: refused"));
        assert_eq!(news(2, false), None);
        assert_eq!(news(3, true), None, "too early");
        assert_eq!(news(4, false), None);
        assert_eq!(news(100, false), None, "as was told");
        let well = news(200, true);
        assert_eq!(well.as_deref(), Some("works again after 2 failures"));
    }
}
