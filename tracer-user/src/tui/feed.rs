//! The messages that a source sends to the terminal UI. Plain values: the UI does not know whether they
//! come from a tracer in this process, a daemon or a recording.

use std::borrow::Cow;

use crate::model::{Update, timeline::Timeline};

/// One message from a source.
#[derive(Clone, Debug)]
pub enum Feed {
    /// The state of the source itself.
    Phase(Phase),
    /// How the host is traced.
    Tracing(Tracing),
    /// Updates from before the UI started, in order. Nobody has to look at them.
    Backlog(Vec<Update>),
    /// New updates, in order.
    Updates(Vec<Update>),
    /// The current history of the session that was requested.
    Timeline(Box<Timeline>),
    /// The tracer's load.
    Load(TracerLoad),
    /// Updates that were dropped because the UI was too slow.
    Missed {
        /// Samples; the next sample of the stream makes up for them.
        samples: u64,
        /// Other updates, which are lost to this UI.
        updates: u64,
    },
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Starting; the text says what it is doing.
    Preparing(Cow<'static, str>),
    /// Updates arrive as they happen.
    Live,
    /// A recording has been read to its end.
    Complete,
    /// The connection is lost and is being retried; the text says why.
    Lost(String),
    /// The source has ended for good; the text says why.
    Ended(String),
}

/// How a host is traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// Programs and what they are attached to.
    pub attached: Vec<String>,
    /// What this kernel does not provide, and what that costs.
    pub missing: Vec<String>,
    /// Backends that are not used, and why.
    pub refused: Vec<String>,
    /// Size of the ring buffer in bytes; 0 when unknown.
    pub ring_bytes: u64,
}

/// The tracer's load at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracerLoad {
    /// The moment, ns of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Records since the start.
    pub records: u64,
    /// Records lost since the start.
    pub lost: u64,
    /// Peak use of the ring buffer since the previous message, bytes.
    pub ring_peak: u64,
    /// The tracer's resident memory, bytes.
    pub resident: Option<u64>,
    /// Processor time that the tracer has used, ns.
    pub cpu: Option<u64>,
}
