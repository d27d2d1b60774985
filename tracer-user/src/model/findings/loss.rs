//! Bytes that were discarded.

use super::{Draft, Reported};
use crate::model::{
    facts::{Env, Session},
    judgement::{cut, margin},
    schedule::{Alarm, EXIT_TAKES},
    view::{FindingBody, State},
};

/// Drafts the losses that are certain by `now` and have not been reported. False while one cannot be
/// reported yet.
pub(in crate::model) fn losses(
    session: &Session,
    reported: &mut Reported,
    now: u64,
    env: &Env,
    next: &mut Alarm,
    out: &mut Vec<Draft>,
) -> bool {
    let mut all = true;
    for stream in session.observed() {
        let slot = stream.slot();
        let Some(close) = stream.closed().filter(|_| !reported.has_loss(slot)) else {
            continue;
        };
        // Of what may yet be lost the last word is enough.
        let Some(cut) = cut(session, stream, env).filter(|cut| cut.bytes > 0) else {
            continue;
        };
        let exit_follows = close.exiting && session.server().exit_time().is_none();
        let settled = if exit_follows {
            close.time.saturating_add(EXIT_TAKES)
        } else {
            close.time
        };
        if !next.reached(settled.max(stream.settled_at().unwrap_or(0)), now) {
            all = false;
            continue;
        }
        reported.losses[slot as usize] = true;
        out.push(Draft {
            time: if close.unread > 0 {
                close.time
            } else {
                session.last()
            },
            known: now,
            state: State::Open,
            body: FindingBody::Truncated {
                stream: slot,
                lost: cut.bytes,
                cause: cut.cause,
                margin_ns: margin(session, stream),
            },
            exact: cut.exact,
            quiet: false,
            forwards: None,
        });
    }
    all
}
