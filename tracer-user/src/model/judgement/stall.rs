//! Whether a stream stands still although something should move.

use crate::model::facts::{Session, Stream};

/// How long a blocked or unread stream may rest before it counts as stalled, ns.
const STALLED_AFTER: u64 = 1_000_000_000;

/// Nothing moves although something should.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Stall {
    /// Since when, ns.
    pub since: u64,
    /// For long enough to be a finding.
    pub long: bool,
}

/// Whether the stream stands still. A stall is long after `stall_after`, ns.
pub(in crate::model) fn stall(
    session: &Session,
    stream: &Stream,
    stall_after: u64,
) -> Option<Stall> {
    if !stream.is_output() || stream.is_closed() || stream.is_eof() {
        return None;
    }
    let counters = stream.counters();
    // A read that leaves a writer waiting lets it wait anew, from that moment.
    let since = if counters.blocked_since != 0 && counters.blocked_since >= counters.last_read {
        counters.blocked_since
    } else if stream.pending() > 0 {
        // A job that outlives the leader may have written only now.
        session
            .leader_gone()?
            .max(counters.last_read)
            .max(stream.pending_since()?)
    } else {
        return None;
    };
    let rested = stream.sampled().saturating_sub(since);
    (rested >= STALLED_AFTER).then_some(Stall {
        since,
        long: rested >= stall_after,
    })
}
