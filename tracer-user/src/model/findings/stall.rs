//! Streams that stand still. Each is shown at once, and a finding when it has stood still for long: a client
//! that reads slowly is everyday life.

use super::{Draft, Reported};
use crate::model::{
    facts::{Env, Session, Stream},
    judgement::{Stall, stall},
    view::{FindingBody, State},
};

/// Drafts the stalls that began, became long or ended by `now`.
pub(in crate::model) fn stalls(
    session: &Session,
    reported: &mut Reported,
    now: u64,
    env: &Env,
    out: &mut Vec<Draft>,
) {
    for stream in session.observed() {
        let known = &mut reported.stalls[stream.slot() as usize];
        let found = stall(session, stream, env.stall_after);
        let (state, stall) = match (*known, found) {
            (Some(known), Some(found)) if known.long || !found.long => continue,
            (_, Some(found)) => (State::Open, found),
            (Some(known), None) => (State::Resolved, known),
            (None, None) => continue,
        };
        *known = found;
        out.push(draft(session, stream, state, stall, now));
    }
}

/// Resolves what is still stalled when the session closes.
pub(in crate::model) fn resolved_stalls(
    session: &Session,
    reported: &mut Reported,
    now: u64,
    out: &mut Vec<Draft>,
) {
    for stream in session.observed() {
        if let Some(stall) = reported.stalls[stream.slot() as usize].take() {
            out.push(draft(session, stream, State::Resolved, stall, now));
        }
    }
}

fn draft(session: &Session, stream: &Stream, state: State, stall: Stall, now: u64) -> Draft {
    Draft {
        time: now,
        known: now,
        state,
        body: FindingBody::Stalled {
            stream: stream.slot(),
            unread: stream.pending(),
            since: Some(stall.since),
        },
        exact: session.gaps().is_empty() && !stream.is_blocked(),
        quiet: !stall.long,
        forwards: None,
    }
}
