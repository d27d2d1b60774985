//! Logs that a hook fails or works again: once, however often it is tried.

use std::time::{Duration, Instant};

/// Least time between two log lines about one hook.
const PAUSE: Duration = Duration::from_secs(60);

/// Whether a hook works, and what was logged about that.
#[derive(Debug, Default)]
pub(super) struct HookHealth {
    /// The last line said that it fails.
    logged_failing: bool,
    /// When that was.
    logged: Option<Instant>,
    /// Failures since it last worked.
    failures: u64,
}

impl HookHealth {
    pub fn log(&mut self, name: &str, result: anyhow::Result<()>, now: Instant) {
        if let Some(change) = self.change(result, now) {
            log::warn!("hook {name} {change}");
        }
    }

    /// What to log, if anything.
    fn change(&mut self, result: anyhow::Result<()>, now: Instant) -> Option<String> {
        let failures = self.failures;
        self.failures = if result.is_err() { failures + 1 } else { 0 };
        let is_early = self.logged.is_some_and(|at| now - at < PAUSE);
        if self.logged_failing == result.is_err() || is_early {
            return None;
        }
        self.logged_failing = result.is_err();
        self.logged = Some(now);
        Some(match result {
            Ok(()) => format!("works again after {failures} failures"),
            Err(error) => format!("failed (reported once): {error:#}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_logged_and_not_too_often() {
        let start = Instant::now();
        let mut health = HookHealth::default();
        let mut news = |seconds, works| {
            let result = match works {
                true => Ok(()),
                false => Err(anyhow::anyhow!("refused")),
            };
            health.change(result, start + Duration::from_secs(seconds))
        };
        assert_eq!(news(0, true), None);
        let ill = news(1, false);
        assert_eq!(ill.as_deref(), Some("failed (reported once): refused"));
        assert_eq!(news(2, false), None);
        assert_eq!(news(3, true), None, "too early");
        assert_eq!(news(4, false), None);
        assert_eq!(news(100, false), None, "as was logged");
        let well = news(200, true);
        assert_eq!(well.as_deref(), Some("works again after 2 failures"));
    }
}
