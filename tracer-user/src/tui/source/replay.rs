//! A recording as a source.

use std::path::PathBuf;

use anyhow::Context as _;

use super::{Meter, Outbox, Source, TimelineRequests, WatchedTimeline};
use crate::{
    model::{Model, timeline::Timelines},
    store::recording::Reader,
    tui::feed::{Feed, Phase},
};

/// Updates in one message.
const BATCH: usize = 1024;

/// Reads a recording as fast as possible; the UI's clock decides which moment is shown.
pub struct Replay {
    /// The file.
    pub path: PathBuf,
    /// How many histories are kept.
    pub keep: usize,
}

impl Source for Replay {
    fn run(self, out: Outbox, mut requests: TimelineRequests) -> anyhow::Result<()> {
        let mut out = out.blocking();
        let path = self.path.display();
        out.send(Feed::Phase(Phase::Preparing(
            "reading the recording".into(),
        )));
        let mut reader = Reader::open(&self.path).with_context(|| path.to_string())?;
        let (mut model, mut lines) = (Model::new(), Timelines::new(self.keep));
        let (mut meter, mut watched) = (Meter::default(), WatchedTimeline::default());
        let (mut updates, mut last) = (Vec::new(), 0);
        let end = loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break Phase::Complete,
                // The records before the damage are good and stay on the screen.
                Err(error) if last > 0 => break Phase::Ended(error.to_string()),
                Err(error) => return Err(error).with_context(|| path.to_string()),
            };
            last = record.header().time;
            model.apply(record, &mut updates);
            lines.apply(record, &updates);
            updates.drain(..).for_each(|update| out.queue(update));
            if let Some(load) = meter.record(&record) {
                out.send(Feed::Load(load));
            }
            if out.queued() >= BATCH {
                out.flush();
                if let Some(id) = requests.try_next() {
                    watched.select(id, &lines, &mut out);
                } else if requests.is_closed() {
                    return Ok(());
                }
            }
        };
        out.flush();
        out.send(Feed::Load(meter.totals(last)));
        out.send(Feed::Phase(end));
        while let Some(id) = requests.blocking_next() {
            watched.select(id, &lines, &mut out);
        }
        Ok(())
    }
}
