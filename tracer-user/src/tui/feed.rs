//! What a source tells the terminal UI: plain values, so that nothing here knows where from.

use std::borrow::Cow;

use crate::model::{Update, timeline::Timeline};

/// One message of a source.
#[derive(Clone, Debug)]
pub enum Feed {
    /// How the source is doing.
    Phase(Phase),
    /// How the machine is traced.
    Tracing(Tracing),
    /// What was reported before anybody looked, in order.
    Past(Vec<Update>),
    /// What became known, in order.
    Updates(Vec<Update>),
    /// The course of the session that was asked for, as it is now.
    Timeline(Box<Timeline>),
    /// How much there is to do.
    Health(Health),
    /// The UI was too slow for these.
    Missed {
        /// Samples, of which the next one tells as much.
        samples: u64,
        /// Others, which nothing makes up for.
        updates: u64,
    },
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Something must be got ready first.
    Preparing(Cow<'static, str>),
    /// Everything is told as it happens.
    Live,
    /// Everything there is has been told.
    Complete,
    /// What it comes from is out of reach; it is tried again.
    Lost(String),
    /// It will tell nothing more.
    Ended(String),
}

/// How a machine is traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// Programs and what they are attached to.
    pub attached: Vec<String>,
    /// What this kernel cannot tell, and what that costs.
    pub missing: Vec<String>,
    /// Why better backends were refused.
    pub refused: Vec<String>,
    /// Size of the ring buffer, bytes; 0 when not known.
    pub ring_bytes: u64,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When, ns of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Records since the start.
    pub records: u64,
    /// Records that were lost since the start.
    pub lost: u64,
    /// Most bytes that were in the ring at once since the last such message.
    pub ring_peak: u64,
    /// The tracer's resident memory, bytes.
    pub resident: Option<u64>,
    /// Processor time that the tracer has used, ns.
    pub cpu: Option<u64>,
}
