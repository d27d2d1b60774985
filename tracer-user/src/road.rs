//! The one road that data has: a record loses its secrets, the model takes it in, and a subscriber is
//! told both the record and what became known by it.

use std::collections::HashSet;

use anyhow::Context as _;
use tracer_ebpf::Record;

use crate::{
    model::{Model, Update, redact::Redactor},
    probe::{RecordSink, ResumeState},
};

/// Whoever is told: a screen, a daemon.
pub trait Subscriber {
    /// A record is going to be taken in.
    ///
    /// # Errors
    /// Ends the tracing.
    fn before(&mut self, record: &Record<'_>, model: &Model) -> anyhow::Result<()> {
        let _ = (record, model);
        Ok(())
    }
    /// It has been taken in, and this became known. What is left of `updates` is dropped.
    ///
    /// # Errors
    /// Ends the tracing.
    fn after(
        &mut self,
        record: &Record<'_>,
        model: &Model,
        updates: &mut Vec<Update>,
    ) -> anyhow::Result<()>;
    /// A few times a second, whatever happens.
    fn passes(&mut self, redactor: &mut Redactor) {
        let _ = redactor;
    }
    /// Whether nothing more is wanted.
    fn finished(&self, model: &Model) -> bool {
        let _ = model;
        false
    }
    /// See [`RecordSink::drained`].
    fn drained(&mut self, number: u64) {
        let _ = number;
    }
    /// See [`RecordSink::resume_state`].
    fn earlier(&mut self) -> Option<ResumeState> {
        None
    }
}

/// The road to a subscriber.
pub struct Followed<S> {
    redactor: Redactor,
    /// What is known.
    pub model: Model,
    /// Who is told.
    pub subscriber: S,
    updates: Vec<Update>,
    over: Vec<u64>,
}

impl<S: Subscriber> Followed<S> {
    /// A road that begins, or goes on with what `model` knows.
    pub fn new(redactor: Redactor, model: Model, subscriber: S) -> Self {
        Self {
            redactor,
            model,
            subscriber,
            updates: Vec::new(),
            over: Vec::new(),
        }
    }
}

impl<S: Subscriber> RecordSink for Followed<S> {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let record = Record::decode(self.redactor.apply(bytes)).context(
            "a record that this version does not know: the programs and the binary differ",
        )?;
        self.subscriber.before(&record, &self.model)?;
        self.model.apply(record, &mut self.updates);
        let over = self.updates.iter().filter_map(|update| match update {
            Update::Forget { session } => Some(session.0),
            _ => None,
        });
        self.over.extend(over);
        self.subscriber
            .after(&record, &self.model, &mut self.updates)?;
        self.updates.clear();
        Ok(())
    }

    fn deadline(&self) -> Option<u64> {
        self.model.deadline()
    }

    fn wants_scan(&self) -> bool {
        self.model.needs_scan()
    }

    fn sessions_to_sample(&mut self) -> Vec<u64> {
        self.subscriber.passes(&mut self.redactor);
        self.model.sampled()
    }

    fn take_closed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.over)
    }

    fn finished(&self) -> bool {
        self.subscriber.finished(&self.model)
    }

    fn drained(&mut self, number: u64) {
        self.subscriber.drained(number);
    }

    fn open_sessions(&self) -> HashSet<u64> {
        self.model.sessions().map(|session| session.id.0).collect()
    }

    fn resume_state(&mut self) -> Option<ResumeState> {
        self.subscriber.earlier()
    }
}
