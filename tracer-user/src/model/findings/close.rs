//! The last word on a session.

use super::Draft;
use crate::model::{
    facts::{Env, Session},
    judgement::{cut, doubt, report, unaccounted},
    view::{Closed, FindingBody, GapReason, History, State, StreamReport, Verdict},
};

/// The last word on a session, but for the notes on its streams. What evidence turns out to be missing is
/// noted as gaps.
pub(in crate::model) fn close(session: &mut Session, now: u64, env: &Env) -> Closed {
    if session
        .observed()
        .any(|stream| unaccounted(session, stream))
    {
        session.gap(GapReason::CloseNotSeen);
    }
    let doubts: Vec<_> = session
        .outputs()
        .filter(|stream| cut(session, stream, env).is_none())
        .filter_map(|stream| doubt(session, stream))
        .collect();
    for doubt in doubts {
        session.gap(doubt);
    }
    let streams: Vec<_> = session
        .observed()
        .map(|stream| report(session, stream, env))
        .collect();
    let worst = streams
        .iter()
        .map(|report| report.verdict)
        .max_by_key(|verdict| verdict.rank());
    let verdict = match worst {
        Some(Verdict::Clean) | None if !session.gaps().is_empty() => Verdict::Unknown,
        None => Verdict::Unknown,
        Some(verdict) => verdict,
    };
    Closed {
        time: session.last(),
        known: now,
        session: session.view().clone(),
        verdict,
        gaps: session.gaps().to_vec(),
        streams,
        carried: session.connection().carried(),
        had: History::default(),
    }
}

/// Drafts the streams that were read to their end only after the server knew of the leader's death.
pub(in crate::model) fn near_misses(
    streams: &[StreamReport],
    now: u64,
) -> impl Iterator<Item = Draft> {
    streams.iter().filter_map(move |report| {
        let Verdict::NearMiss { unread } = report.verdict else {
            return None;
        };
        Some(Draft {
            time: now,
            known: now,
            state: State::Open,
            body: FindingBody::NearMiss {
                stream: report.slot,
                unread,
                margin_ns: report.margin_ns,
            },
            exact: true,
            quiet: false,
            forwards: None,
        })
    })
}
