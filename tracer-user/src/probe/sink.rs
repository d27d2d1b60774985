//! The receiver of the tracer's records, as the tracer sees it.

use std::collections::HashSet;

use tracer_ebpf::{Proc, STREAMS};

/// Where records go: a model, a recording, both. It also says what the tracer is to look up.
pub trait RecordSink {
    /// Receives one record.
    ///
    /// # Errors
    /// An error ends the tracing.
    fn record(&mut self, record: &[u8]) -> anyhow::Result<()>;
    /// When it next wants a [`Kind::Tick`](tracer_ebpf::Kind::Tick), ns of `CLOCK_BOOTTIME`.
    fn deadline(&self) -> Option<u64>;
    /// Whether it wants a scan for all holders now.
    fn wants_scan(&self) -> bool;
    /// Sessions whose counters are worth a sample. The tracer asks a few times a second in any case.
    fn sessions_to_sample(&mut self) -> Vec<u64>;
    /// Sessions that have ended since the last call.
    fn take_closed(&mut self) -> Vec<u64>;
    /// Whether it wants no more records.
    fn finished(&self) -> bool;
    /// The ring buffer has been drained for the `number`th time. A tick follows.
    fn drained(&mut self, number: u64) {
        let _ = number;
    }
    /// Sessions that it knows and that have not ended.
    fn open_sessions(&self) -> HashSet<u64> {
        HashSet::new()
    }
    /// What it remembers from before this tracer. The tracer asks once, at its beginning.
    fn resume_state(&mut self) -> Option<ResumeState> {
        None
    }
}

/// What a sink knows that continues after a restart.
#[derive(Clone, Debug, Default)]
pub struct ResumeState {
    /// Time of its last record, ns of `CLOCK_BOOTTIME`; 0 when not known.
    pub since: u64,
    /// Number of the last [`RecordSink::drained`] of which it kept every record.
    pub drain: Option<u64>,
    /// Sessions that were open at that time.
    pub sessions: Vec<KnownSession>,
}

/// A session that was open when an earlier tracer ended.
#[derive(Clone, Copy, Debug)]
pub struct KnownSession {
    /// Its id.
    pub session: u64,
    /// Its server.
    pub server: Proc,
    /// Inode numbers of its streams' objects; 0 for none.
    pub objects: [u64; STREAMS],
}
