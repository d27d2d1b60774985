//! Gives findings their words.

use super::{
    fixes::{fix, fix_stalled, fix_truncated, fix_waiting},
    names::who,
    notes::gave_up,
    sentences,
};
use crate::model::{
    facts::{Env, Session},
    findings::Draft,
    view::{Finding, FindingBody, Fix, State},
};

/// The finding that a draft is of.
pub(in crate::model) fn finding(session: &Session, mut draft: Draft, env: &Env) -> Finding {
    let is_resolved = draft.state == State::Resolved;
    let message = message(session, &draft, env);
    let fix = match &draft.body {
        FindingBody::Truncated { cause, .. } => fix_truncated(session, *cause),
        FindingBody::Orphaned { holders, .. } => fix(session, holders),
        FindingBody::Stalled { .. } => fix_stalled(session),
        FindingBody::Waiting { cause, programs } => fix_waiting(*cause, programs),
        FindingBody::NearMiss { .. } => Fix::default(),
    };
    if let FindingBody::Stalled { since, .. } = &mut draft.body
        && is_resolved
    {
        *since = None;
    }
    Finding {
        time: draft.time,
        known: draft.known,
        state: draft.state,
        session: session.view().clone(),
        body: draft.body,
        exact: draft.exact,
        message,
        fix: match is_resolved {
            true => fix.once_resolved(),
            false => fix,
        },
        quiet: draft.quiet,
    }
}

/// One sentence for a person.
fn message(session: &Session, draft: &Draft, env: &Env) -> String {
    let now = draft.time;
    let is_resolved = draft.state == State::Resolved;
    match &draft.body {
        FindingBody::Truncated {
            stream,
            lost,
            cause,
            ..
        } => {
            let stream = session.stream(*stream);
            let closed = stream.and_then(|stream| Some((stream, stream.closed()?)));
            closed.map_or_else(String::new, |(stream, close)| {
                sentences::truncated(session, stream, close, *lost, *cause)
            })
        }
        FindingBody::Orphaned { holders, .. } if is_resolved => {
            match gave_up(session, holders, now) {
                Some(left) => format!("{}: {left}", who(session.view())),
                None => sentences::released(session, holders, now),
            }
        }
        FindingBody::Orphaned {
            holders, written, ..
        } => sentences::orphaned(session, holders, *written, env),
        FindingBody::Stalled { stream, since, .. } => {
            let stalled = session.stream(*stream).zip(*since);
            stalled.map_or_else(String::new, |(stream, since)| match is_resolved {
                true => sentences::moves(session, stream, since, now),
                false => sentences::stalled(session, stream, since),
            })
        }
        FindingBody::Waiting { cause, programs } => match &draft.forwards {
            Some((first, forwards)) if !is_resolved => {
                sentences::waiting(session, *cause, programs, first, *forwards, env)
            }
            _ => sentences::waits_no_more(session, *cause),
        },
        FindingBody::NearMiss {
            stream,
            unread,
            margin_ns,
        } => sentences::near_miss(session, *stream, *unread, *margin_ns),
    }
}
