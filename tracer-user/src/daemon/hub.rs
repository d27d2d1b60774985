//! Who listens. A listener that does not keep up is cut off: it gets what was queued for it and how
//! much it missed, and nobody waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    access::Sees,
    board::Board,
    protocol::{self, Reply},
};
use crate::{export, model::Update};

/// Updates that may wait for one listener.
pub const QUEUE: usize = 1024;

/// See the module.
#[derive(Default)]
pub struct Hub {
    /// What is so now.
    pub board: Board,
    listeners: Vec<Listener>,
    /// Listeners that were cut off.
    pub cut_off: u64,
    /// The daemon ends.
    ending: bool,
}

struct Listener {
    sees: Sees,
    all: bool,
    /// `None` once it is cut off.
    queue: Option<mpsc::Sender<Bytes>>,
    missed: Arc<AtomicU64>,
}

/// A listener's end.
pub struct Subscription {
    /// What is so now; to be sent first.
    pub state: Vec<Bytes>,
    /// What follows, until the listener is cut off or the daemon ends.
    pub news: mpsc::Receiver<Bytes>,
    /// Updates that were not queued.
    pub missed: Arc<AtomicU64>,
}

impl Hub {
    /// Passes on what became known.
    pub fn publish(&mut self, updates: &[Update]) {
        for update in updates {
            self.board.apply(update);
            let ordinary = !export::is_wanted(update);
            // Written once for all who listen, and not at all for nobody.
            let mut frame = None;
            for listener in &mut self.listeners {
                if (ordinary && !listener.all) || !listener.sees.update(update) {
                    continue;
                }
                let frame =
                    frame.get_or_insert_with(|| protocol::json(&Reply::News(update.clone())));
                if listener.offer(frame) {
                    self.cut_off += 1;
                }
            }
        }
        // One that has gone drops its receiver, and with it its count.
        self.listeners
            .retain(|listener| Arc::strong_count(&listener.missed) > 1);
    }

    /// What is so now, as frames that end with [`Reply::Live`].
    pub fn state(&self, sees: Sees) -> Vec<Bytes> {
        let state = self.board.state(sees).into_iter();
        let mut frames: Vec<_> = state
            .map(|update| protocol::json(&Reply::State(update)))
            .collect();
        frames.push(protocol::json(&Reply::Live));
        frames
    }

    /// Begins to listen.
    pub fn subscribe(&mut self, sees: Sees, all: bool) -> Subscription {
        let (sender, news) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        if !self.ending {
            self.listeners.push(Listener {
                sees,
                all,
                queue: Some(sender),
                missed: Arc::clone(&missed),
            });
        }
        Subscription {
            state: self.state(sees),
            news,
            missed,
        }
    }

    /// Lets every listener come to its end.
    pub fn end(&mut self) {
        self.ending = true;
        self.listeners.clear();
    }
}

impl Listener {
    /// True when it is cut off by this.
    fn offer(&mut self, frame: &Bytes) -> bool {
        let Some(queue) = &self.queue else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        match queue.try_send(frame.clone()) {
            Ok(()) => false,
            // It left by itself.
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                self.queue = None;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        daemon::protocol::Frame,
        model::{Gap, GapReason, Model},
        store::recording::Reader,
    };

    fn gap(lost: u64) -> Update {
        Update::Gap(Gap {
            time: lost,
            reason: GapReason::LostRecords,
            lost,
            message: String::new(),
        })
    }

    #[test]
    fn who_does_not_keep_up_is_cut_off_and_knows_how_much_it_missed() {
        let mut hub = Hub::default();
        let mut slow = hub.subscribe(Sees::Everything, false);
        let mut quick = hub.subscribe(Sees::Everything, false);
        let mut got = 0;
        for lost in 0..QUEUE as u64 + 10 {
            hub.publish(&[gap(lost)]);
            got += u64::from(quick.news.try_recv().is_ok());
        }
        assert_eq!(got, QUEUE as u64 + 10, "one that keeps up gets everything");
        let mut queued = 0;
        while slow.news.try_recv().is_ok() {
            queued += 1;
        }
        assert!(slow.news.is_closed());
        assert_eq!((queued, slow.missed.load(Ordering::Relaxed)), (QUEUE, 10));
        assert_eq!(hub.cut_off, 1);
    }

    /// Whenever one begins to listen: what is so then, and what follows, make the same of another board
    /// as everything made of the first.
    #[test]
    fn a_listener_has_no_hole_and_no_repeat() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/orphaned.rec");
        let mut reader = Reader::open(Path::new(path)).unwrap();
        let (mut model, mut updates) = (Model::new(), Vec::new());
        while let Some(record) = reader.next().unwrap() {
            model.apply(record, &mut updates);
        }
        assert!(updates.len() > 30, "{} updates", updates.len());
        let mut hub = Hub::default();
        let mut listeners = Vec::new();
        for update in &updates {
            listeners.push(hub.subscribe(Sees::Everything, true));
            hub.publish(std::slice::from_ref(update));
            for listener in &mut listeners {
                while let Ok(frame) = listener.news.try_recv() {
                    listener.state.push(frame);
                }
            }
            for listener in &listeners {
                let mut board = Board::default();
                let mut live = 0;
                for frame in &listener.state {
                    match protocol::read(frame.clone()).unwrap() {
                        Frame::Message(Reply::State(update) | Reply::News(update)) => {
                            board.apply(&update);
                        }
                        Frame::Message(Reply::Live) => live += 1,
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(live, 1);
                let (own, all) = (
                    board.state(Sees::Everything),
                    hub.board.state(Sees::Everything),
                );
                assert_eq!(own, all);
            }
        }
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let mut hub = Hub::default();
        drop(hub.subscribe(Sees::Everything, false));
        hub.publish(&[gap(1)]);
        assert!(hub.listeners.is_empty());
        assert_eq!(hub.cut_off, 0);
    }
}
