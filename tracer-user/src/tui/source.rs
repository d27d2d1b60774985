//! Where the feed comes from: a recording here; a tracer in this process, or a daemon, elsewhere.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracer_ebpf::{Kind, Record};

use super::feed::{Feed, Health, Phase};
use crate::{
    model::{Model, SessionId, Update, timeline::Timelines},
    store::recording::Reader,
};

/// Messages that may be on their way to the UI.
const ON_THE_WAY: usize = 256;
/// Most updates that wait for a UI that is too slow.
const MAX_WAITING: usize = 65_536;
/// Updates of a recording that go in one message.
const BATCH: usize = 1024;
const SECOND: u64 = 1_000_000_000;

/// Tells a UI what happens.
pub trait Source: Send + 'static {
    /// Tells until there is nothing more to tell or nobody listens, on a thread of its own.
    ///
    /// # Errors
    /// Why there can be nothing to tell.
    fn run(self, out: Outbox, asks: Asks) -> anyhow::Result<()>;
}

/// The way to the UI. A source never waits for it: samples are dropped first, then the rest, and
/// how many is told.
pub struct Outbox {
    to: SyncSender<Feed>,
    wake: Wake,
    waiting: Vec<Update>,
    missed: (u64, u64),
    patient: bool,
}

/// Wakes the UI, if it was not woken since it last looked.
#[derive(Clone)]
struct Wake {
    woken: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The UI's end of an [`Outbox`].
pub struct Inbox {
    from: Receiver<Feed>,
    woken: Arc<AtomicBool>,
}

/// What the UI asks for: the course of this session, again whenever it has changed.
pub struct Asks(UnboundedReceiver<Option<SessionId>>);

/// A channel from a source to a UI, and one back. `wake` is called when there is something to take.
pub fn channel(
    wake: impl Fn() + Send + Sync + 'static,
) -> (Outbox, Inbox, UnboundedSender<Option<SessionId>>, Asks) {
    let (to, from) = sync_channel(ON_THE_WAY);
    let woken = Arc::new(AtomicBool::new(false));
    let (ask, asks) = unbounded_channel();
    let outbox = Outbox {
        to,
        wake: Wake {
            woken: Arc::clone(&woken),
            wake: Arc::new(wake),
        },
        waiting: Vec::new(),
        missed: (0, 0),
        patient: false,
    };
    (outbox, Inbox { from, woken }, ask, Asks(asks))
}

impl Inbox {
    /// Takes everything that is there.
    pub fn take(&self) -> impl Iterator<Item = Feed> {
        self.woken.store(false, Ordering::SeqCst);
        self.from.try_iter()
    }
}

impl Asks {
    /// The next question; `None` once there is nobody to ask any.
    pub async fn next(&mut self) -> Option<Option<SessionId>> {
        self.0.recv().await
    }

    fn wait(&mut self) -> Option<Option<SessionId>> {
        self.0.blocking_recv()
    }

    /// A question that is there already.
    pub fn now(&mut self) -> Option<Option<SessionId>> {
        self.0.try_recv().ok()
    }

    /// Nobody asks any more.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

impl Outbox {
    /// Of what does not happen right now: waits for the UI instead of dropping anything.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Tells what is no update. It may get lost when the UI is too slow, as the next one tells more;
    /// a phase is not, nor is the past.
    pub fn tell(&mut self, feed: Feed) {
        let must =
            self.patient || matches!(feed, Feed::Phase(_) | Feed::Tracing(_) | Feed::Past(_));
        let sent = match must {
            true => self.to.send(feed).is_ok(),
            false => self.to.try_send(feed).is_ok(),
        };
        if sent {
            self.wake.up();
        }
    }

    /// Puts an update in the next message.
    pub fn update(&mut self, update: Update) {
        self.waiting.push(update);
    }

    /// How many updates wait for the next message.
    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sends what waits.
    pub fn flush(&mut self) {
        if self.missed != (0, 0) {
            let (samples, updates) = self.missed;
            if self.to.try_send(Feed::Missed { samples, updates }).is_ok() {
                self.missed = (0, 0);
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        let batch = Feed::Updates(std::mem::take(&mut self.waiting));
        if self.patient {
            // Nobody listens any more: that is seen by the questions' end.
            let _ = self.to.send(batch);
            return self.wake.up();
        }
        match self.to.try_send(batch) {
            Ok(()) => self.wake.up(),
            Err(TrySendError::Full(Feed::Updates(batch))) => self.keep(batch),
            Err(_) => {}
        }
    }

    fn keep(&mut self, mut batch: Vec<Update>) {
        let before = batch.len();
        batch.retain(|update| !matches!(update, Update::Sample(_)));
        self.missed.0 += (before - batch.len()) as u64;
        if batch.len() > MAX_WAITING {
            let over = batch.len() - MAX_WAITING;
            batch.drain(..over);
            self.missed.1 += over as u64;
        }
        self.waiting = batch;
    }
}

impl Wake {
    fn up(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

/// Counts records by the second.
#[derive(Debug, Default)]
pub struct Meter {
    health: Health,
    /// Bytes taken from the ring since the last tick: they were in it at once.
    taken: u64,
}

impl Meter {
    /// Counts a record; once in a second there is something to tell.
    pub fn record(&mut self, record: &Record<'_>) -> Option<Health> {
        let header = record.header();
        self.health.records += 1;
        if header.kind < Kind::Start as u16 {
            // Each has a header of 8 bytes there (BPF_RINGBUF_HDR_SZ, include/uapi/linux/bpf.h).
            self.taken += u64::from(header.size) + 8;
        }
        match record {
            Record::Loss(loss) => {
                let lost = loss.counts.iter().copied().fold(0, u64::saturating_add);
                self.health.lost = self.health.lost.saturating_add(lost);
            }
            Record::Tick(_) => {
                let health = &mut self.health;
                health.ring_peak = health.ring_peak.max(std::mem::take(&mut self.taken));
                if header.time / SECOND > health.time / SECOND {
                    health.time = header.time;
                    let told = *health;
                    health.ring_peak = 0;
                    return Some(told);
                }
            }
            _ => {}
        }
        None
    }

    /// All of it, at the end.
    fn end(&self, time: u64) -> Health {
        Health {
            time,
            ..self.health
        }
    }
}

/// Tells the course of one session whenever it is another than before.
#[derive(Debug, Default)]
pub struct Watched {
    id: Option<SessionId>,
    /// Of what was told: its last moment, and whether it was over.
    told: Option<(u64, bool)>,
    /// When.
    at: u64,
}

/// Least time between two words on one session's course, ns.
const AGAIN: u64 = 100_000_000;

impl Watched {
    /// Another one is asked for.
    pub fn ask(&mut self, id: Option<SessionId>, lines: &Timelines, out: &mut Outbox) {
        self.id = id;
        self.told = None;
        self.at = 0;
        self.tell(u64::MAX, lines, out);
    }

    /// Tells it if it has changed, not too often.
    pub fn tell(&mut self, now: u64, lines: &Timelines, out: &mut Outbox) {
        if now.saturating_sub(self.at) < AGAIN {
            return;
        }
        let Some(line) = self.id.and_then(|id| lines.get(id)) else {
            return;
        };
        let as_it_is = Some((line.last, line.closed.is_some()));
        if self.told != as_it_is {
            self.told = as_it_is;
            self.at = if now == u64::MAX { 0 } else { now };
            out.tell(Feed::Timeline(Box::new(line.clone())));
        }
    }
}

/// A recording, read as fast as it can be: time is the UI's.
pub struct Replay {
    /// The file.
    pub path: PathBuf,
    /// How many sessions are kept.
    pub keep: usize,
}

impl Source for Replay {
    fn run(self, out: Outbox, mut asks: Asks) -> anyhow::Result<()> {
        let mut out = out.patient();
        let path = self.path.display();
        out.tell(Feed::Phase(Phase::Preparing(
            "reading the recording".into(),
        )));
        let mut reader = Reader::open(&self.path).with_context(|| path.to_string())?;
        let (mut model, mut lines) = (Model::new(), Timelines::new(self.keep));
        let (mut meter, mut watched) = (Meter::default(), Watched::default());
        let (mut updates, mut last) = (Vec::new(), 0);
        let end = loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break Phase::Complete,
                // What came before it is good.
                Err(error) if last > 0 => break Phase::Ended(error.to_string()),
                Err(error) => return Err(error).with_context(|| path.to_string()),
            };
            last = record.header().time;
            model.apply(record, &mut updates);
            lines.apply(record, &updates);
            updates.drain(..).for_each(|update| out.update(update));
            if let Some(health) = meter.record(&record) {
                out.tell(Feed::Health(health));
            }
            if out.waiting() >= BATCH {
                out.flush();
                if let Some(id) = asks.now() {
                    watched.ask(id, &lines, &mut out);
                } else if asks.is_over() {
                    return Ok(());
                }
            }
        };
        out.flush();
        out.tell(Feed::Health(meter.end(last)));
        out.tell(Feed::Phase(end));
        while let Some(id) = asks.wait() {
            watched.ask(id, &lines, &mut out);
        }
        Ok(())
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
    fn a_slow_ui_misses_samples_first_and_is_told_how_many() {
        let (mut out, inbox, _ask, _asks) = channel(|| ());
        for _ in 0..ON_THE_WAY + 10 {
            out.update(sample());
            out.update(gap());
            out.flush();
        }
        let count = |feed: &Feed| match feed {
            Feed::Updates(updates) => updates.len(),
            _ => 0,
        };
        let first: usize = inbox.take().map(|feed| count(&feed)).sum();
        assert_eq!(first, ON_THE_WAY * 2);
        out.flush();
        let rest: Vec<Feed> = inbox.take().collect();
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
        let (mut out, inbox, _ask, _asks) = channel(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        for _ in 0..5 {
            out.update(gap());
            out.flush();
        }
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(inbox.take().count(), 5);
        out.update(gap());
        out.flush();
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
