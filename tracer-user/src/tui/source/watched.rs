//! The one session whose history the UI shows.

use super::Outbox;
use crate::{
    model::{SessionId, timeline::Timelines},
    tui::feed::Feed,
};

/// Minimum time between two versions of the history, ns.
const INTERVAL: u64 = 100_000_000;

/// Sends the history of the selected session whenever it has changed.
#[derive(Debug, Default)]
pub struct WatchedTimeline {
    id: Option<SessionId>,
    /// The version sent last: the time of its last event, and whether the session was closed.
    sent: Option<(u64, bool)>,
    /// When that was sent, ns of `CLOCK_BOOTTIME`.
    sent_at: u64,
}

impl WatchedTimeline {
    /// Selects another session, and sends its history at once.
    pub fn select(&mut self, id: Option<SessionId>, lines: &Timelines, out: &mut Outbox) {
        self.id = id;
        self.sent = None;
        self.sent_at = 0;
        self.send(u64::MAX, lines, out);
    }

    /// Sends the history if it has changed and the interval has passed.
    pub fn send(&mut self, now: u64, lines: &Timelines, out: &mut Outbox) {
        if now.saturating_sub(self.sent_at) < INTERVAL {
            return;
        }
        let Some(line) = self.id.and_then(|id| lines.get(id)) else {
            return;
        };
        let version = Some((line.last, line.closed.is_some()));
        if self.sent != version {
            self.sent = version;
            self.sent_at = if now == u64::MAX { 0 } else { now };
            out.send(Feed::Timeline(Box::new(line.clone())));
        }
    }
}
