//! The one way that data takes: secrets in a record are masked, the model takes the record in, and a
//! [`Subscriber`] gets both the record and what became known by it.

use std::collections::HashSet;

use anyhow::Context as _;
use tracer_ebpf::Record;

use crate::{
    model::{Applied, Model, Update, redact::Redactor},
    probe::{RecordSink, ResumeState},
};

/// A record that the model has taken in.
pub struct Taken<'a> {
    /// The record, without secrets.
    pub record: Record<'a>,
    /// What it did to the sessions.
    pub applied: Applied,
}

/// Gets what comes out of the pipeline: a screen, a daemon.
pub trait Subscriber {
    /// A record was taken in, and `updates` became known by it. What the subscriber leaves in `updates` is
    /// dropped.
    ///
    /// # Errors
    /// Ends the tracing.
    fn record(&mut self, taken: &Taken<'_>, updates: &mut Vec<Update>) -> anyhow::Result<()>;
    /// Called a few times a second, whatever happens.
    fn on_idle(&mut self, redactor: &mut Redactor) {
        let _ = redactor;
    }
    /// Whether tracing shall end.
    fn finished(&self, model: &Model) -> bool {
        let _ = model;
        false
    }
    /// See [`RecordSink::drained`].
    fn drained(&mut self, number: u64) {
        let _ = number;
    }
    /// See [`RecordSink::resume_state`].
    fn resume_state(&mut self) -> Option<ResumeState> {
        None
    }
}

/// Masks, models and hands on the records of a tracer.
pub struct Pipeline<S> {
    redactor: Redactor,
    /// The model.
    pub model: Model,
    /// Gets what comes out.
    pub subscriber: S,
    updates: Vec<Update>,
    /// Sessions that closed since they were last taken.
    closed: Vec<u64>,
}

impl<S: Subscriber> Pipeline<S> {
    /// A pipeline whose model is new, or knows sessions of an earlier tracer.
    pub fn new(redactor: Redactor, model: Model, subscriber: S) -> Self {
        Self {
            redactor,
            model,
            subscriber,
            updates: Vec::new(),
            closed: Vec::new(),
        }
    }
}

impl<S: Subscriber> RecordSink for Pipeline<S> {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let record = Record::decode(self.redactor.apply(bytes)).context(
            "a record of an unknown kind: the loaded eBPF programs are not of this version of lastbyte",
        )?;
        let applied = self.model.apply(record, &mut self.updates);
        let closed = self.updates.iter().filter_map(|update| match update {
            Update::Forget { session } => Some(session.0),
            _ => None,
        });
        self.closed.extend(closed);
        let taken = Taken { record, applied };
        self.subscriber.record(&taken, &mut self.updates)?;
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
        self.subscriber.on_idle(&mut self.redactor);
        self.model.sampled()
    }

    fn take_closed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.closed)
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
        self.subscriber.resume_state()
    }
}
