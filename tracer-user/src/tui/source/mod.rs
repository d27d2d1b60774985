//! Sources of the terminal UI, and the channel that connects one with the UI.
//!
//! [`Replay`] is here; the tracer in this process and the daemon are in `cli`, as they need `probe` and
//! `daemon`.

mod meter;
mod replay;
mod watched;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::{meter::Meter, replay::Replay, watched::WatchedTimeline};
use super::feed::Feed;
use crate::model::{SessionId, Update};

/// Messages that the channel to the UI holds.
const CAPACITY: usize = 256;
/// Updates that are held back for a UI that is too slow, before they are dropped.
const MAX_QUEUED: usize = 65_536;

/// Something that provides the UI with updates.
pub trait Source: Send + 'static {
    /// Sends until there is nothing more to send or the UI has ended. Runs on a thread of its own.
    ///
    /// # Errors
    /// Why the source cannot start, or cannot go on.
    fn run(self, out: Outbox, requests: TimelineRequests) -> anyhow::Result<()>;
}

/// The source's end of the channel to the UI. Never waits for the UI unless it is [`blocking`]: when the
/// UI is too slow, samples are dropped first, then other updates, and the UI learns how many.
///
/// [`blocking`]: Self::blocking
pub struct Outbox {
    to: SyncSender<Feed>,
    waker: Waker,
    queued: Vec<Update>,
    /// Dropped since the last [`Feed::Missed`]: samples, other updates.
    dropped: (u64, u64),
    blocking: bool,
}

/// Wakes the UI, once until it has looked.
#[derive(Clone)]
struct Waker {
    woken: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The UI's end of an [`Outbox`].
pub struct Inbox {
    from: Receiver<Feed>,
    woken: Arc<AtomicBool>,
}

/// The UI's requests for the history of a session, or of none any more. The source sends that history at
/// once, and again whenever it changes.
pub struct TimelineRequests(UnboundedReceiver<Option<SessionId>>);

/// A channel from a source to a UI, and one for requests back. `wake` is called when the [`Inbox`] has
/// something.
pub fn channel(
    wake: impl Fn() + Send + Sync + 'static,
) -> (
    Outbox,
    Inbox,
    UnboundedSender<Option<SessionId>>,
    TimelineRequests,
) {
    let (to, from) = sync_channel(CAPACITY);
    let woken = Arc::new(AtomicBool::new(false));
    let (request, requests) = unbounded_channel();
    let outbox = Outbox {
        to,
        waker: Waker {
            woken: Arc::clone(&woken),
            wake: Arc::new(wake),
        },
        queued: Vec::new(),
        dropped: (0, 0),
        blocking: false,
    };
    let inbox = Inbox { from, woken };
    (outbox, inbox, request, TimelineRequests(requests))
}

impl Inbox {
    /// Everything that has arrived.
    pub fn drain(&self) -> impl Iterator<Item = Feed> {
        self.woken.store(false, Ordering::SeqCst);
        self.from.try_iter()
    }
}

impl TimelineRequests {
    /// Waits for the next request; `None` once the UI has ended.
    pub async fn next(&mut self) -> Option<Option<SessionId>> {
        self.0.recv().await
    }

    fn blocking_next(&mut self) -> Option<Option<SessionId>> {
        self.0.blocking_recv()
    }

    /// A request that has already arrived.
    pub fn try_next(&mut self) -> Option<Option<SessionId>> {
        self.0.try_recv().ok()
    }

    /// Whether the UI has ended.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Outbox {
    /// Waits for the UI instead of dropping anything. For sources that do not run in real time.
    #[must_use]
    pub fn blocking(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// Sends a message. Load and timelines are dropped when the UI is too slow, as the next message
    /// replaces them.
    pub fn send(&mut self, feed: Feed) {
        let must =
            self.blocking || matches!(feed, Feed::Phase(_) | Feed::Tracing(_) | Feed::Backlog(_));
        let sent = match must {
            true => self.to.send(feed).is_ok(),
            false => self.to.try_send(feed).is_ok(),
        };
        if sent {
            self.waker.wake();
        }
    }

    /// Adds an update to the next batch.
    pub fn queue(&mut self, update: Update) {
        self.queued.push(update);
    }

    /// Size of the next batch.
    fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Sends the batch.
    pub fn flush(&mut self) {
        if self.dropped != (0, 0) {
            let (samples, updates) = self.dropped;
            if self.to.try_send(Feed::Missed { samples, updates }).is_ok() {
                self.dropped = (0, 0);
            }
        }
        if self.queued.is_empty() {
            return;
        }
        let batch = Feed::Updates(std::mem::take(&mut self.queued));
        if self.blocking {
            // Fails once the UI has ended; the source learns that from `TimelineRequests`.
            let _ = self.to.send(batch);
            return self.waker.wake();
        }
        match self.to.try_send(batch) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(Feed::Updates(batch))) => self.hold_back(batch),
            Err(_) => {}
        }
    }

    /// Keeps a batch for the next attempt, without its samples, and without its oldest updates if it is
    /// too large.
    fn hold_back(&mut self, mut batch: Vec<Update>) {
        let before = batch.len();
        batch.retain(|update| !matches!(update, Update::Sample(_)));
        self.dropped.0 += (before - batch.len()) as u64;
        if batch.len() > MAX_QUEUED {
            let excess = batch.len() - MAX_QUEUED;
            batch.drain(..excess);
            self.dropped.1 += excess as u64;
        }
        self.queued = batch;
    }
}

impl Waker {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gap, GapReason, Slot, StreamNews};

    fn sample() -> Update {
        Update::Sample(StreamNews {
            time: 1,
            session: Arc::new(crate::tui::state::tests::view(4711)),
            slot: Slot::Stdout,
            written: 1,
            read: 1,
            unread: 0,
        })
    }

    fn gap() -> Update {
        Update::Gap(Gap {
            time: 1,
            reason: GapReason::LostRecords,
            lost: 1,
            message: String::new(),
        })
    }

    #[test]
    fn samples_are_dropped_first_and_counted() {
        let (mut out, inbox, _request, _requests) = channel(|| ());
        for _ in 0..CAPACITY + 10 {
            out.queue(sample());
            out.queue(gap());
            out.flush();
        }
        let count = |feed: &Feed| match feed {
            Feed::Updates(updates) => updates.len(),
            _ => 0,
        };
        let first: usize = inbox.drain().map(|feed| count(&feed)).sum();
        assert_eq!(first, CAPACITY * 2);
        out.flush();
        let rest: Vec<Feed> = inbox.drain().collect();
        assert!(
            matches!(
                rest[0],
                Feed::Missed {
                    samples: 10,
                    updates: 0
                }
            ),
            "{rest:?}"
        );
        assert_eq!(count(&rest[1]), 10, "every gap, no sample");
    }

    #[test]
    fn the_ui_is_woken_once_until_it_looks() {
        let woken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let (mut out, inbox, _request, _requests) = channel(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        for _ in 0..5 {
            out.queue(gap());
            out.flush();
        }
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(inbox.drain().count(), 5);
        out.queue(gap());
        out.flush();
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
