//! Connections that stay open after their last session.

use super::{Draft, Reported};
use crate::model::{
    facts::Session,
    judgement::Kept,
    view::{FindingBody, HolderView, State, WaitCause},
};

/// What was reported to keep a connection open.
#[derive(Debug)]
pub(super) struct WaitingReport {
    cause: WaitCause,
    /// Programs that use the forwarded display.
    programs: Vec<HolderView>,
}

/// Drafts what keeps the connection open, if that is new.
pub(in crate::model) fn kept(
    session: &Session,
    reported: &mut Reported,
    kept: Kept,
    now: u64,
) -> Option<Draft> {
    let Kept {
        cause,
        programs,
        first,
        forwards,
    } = kept;
    let state = match &reported.waiting {
        Some(known) if known.cause == cause && known.programs == programs => return None,
        Some(_) => State::Updated,
        None => State::Open,
    };
    reported.waiting = Some(WaitingReport {
        cause,
        programs: programs.clone(),
    });
    let mut draft = draft(session, state, cause, programs, now);
    draft.forwards = Some((first, forwards));
    Some(draft)
}

/// Drafts that the connection is not kept any more, if it was reported to be.
pub(in crate::model) fn kept_no_more(
    session: &Session,
    reported: &mut Reported,
    now: u64,
) -> Option<Draft> {
    let WaitingReport { cause, programs } = reported.waiting.take()?;
    Some(draft(session, State::Resolved, cause, programs, now))
}

fn draft(
    session: &Session,
    state: State,
    cause: WaitCause,
    programs: Vec<HolderView>,
    now: u64,
) -> Draft {
    Draft {
        time: now,
        known: now,
        state,
        body: FindingBody::Waiting { cause, programs },
        exact: session.gaps().is_empty(),
        quiet: false,
        forwards: None,
    }
}
