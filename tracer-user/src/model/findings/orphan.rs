//! Sessions that other processes hold open after their leader's exit.

use std::collections::BTreeSet;

use super::{Draft, Reported};
use crate::model::{
    facts::{Look, MAX_COPIES, Session},
    judgement::{Holders, roots},
    view::{FindingBody, HolderView, Slot, State},
};

/// What has been reported of a session's holders.
#[derive(Debug, Default)]
pub(super) struct OrphanReport {
    /// Those that were reported last; empty while there are none.
    holders: Vec<HolderView>,
    /// Those of them that descend from no other, when a line was last worth reading.
    named: Vec<HolderView>,
    /// The same at the last look.
    roots: Option<Vec<HolderView>>,
}

impl OrphanReport {
    pub(super) const fn is_open(&self) -> bool {
        !self.holders.is_empty()
    }
}

/// Drafts what a look found.
pub(in crate::model) fn held_by(
    session: &Session,
    reported: &mut Reported,
    found: Holders,
    look: &Look<'_>,
) -> Option<Draft> {
    let mut holders = found.holders;
    if look.partial {
        let seen: BTreeSet<(u64, u32)> = holders.iter().map(HolderView::identity).collect();
        let known = reported.orphan.holders.iter();
        let unseen = known.filter(|old| !seen.contains(&old.identity()));
        // Where they come and go faster than they are looked at, not all can be kept.
        let room = MAX_COPIES.saturating_sub(holders.len());
        holders.extend(unseen.take(room).cloned());
    }
    // The first of them passed its copies on to the others.
    holders.sort_by_key(HolderView::identity);
    draft(session, reported, holders, look.now)
}

/// Drafts that nobody holds the session any more.
pub(in crate::model) fn released(
    session: &Session,
    reported: &mut Reported,
    now: u64,
) -> Option<Draft> {
    draft(session, reported, Vec::new(), now)
}

/// Drafts that the holders are these now, if that is new.
fn draft(
    session: &Session,
    reported: &mut Reported,
    holders: Vec<HolderView>,
    now: u64,
) -> Option<Draft> {
    let reported = &mut reported.orphan;
    let state = match (reported.is_open(), holders.is_empty()) {
        (false, true) => return None,
        (false, false) => State::Open,
        (true, false) => State::Updated,
        (true, true) => State::Resolved,
    };
    let roots = roots(&holders);
    // What dies now leaves its children for a moment: only what the next look finds as well is news.
    let is_news = roots != reported.named
        && (state != State::Updated || reported.roots.as_ref() == Some(&roots));
    if state == State::Updated && !is_news && holders == reported.holders {
        return None;
    }
    let stream = holders
        .iter()
        .chain(&reported.holders)
        .flat_map(|holder| holder.streams.iter())
        .min()
        .copied();
    let held = |slot: Slot| {
        holders.is_empty() || holders.iter().any(|holder| holder.streams.contains(&slot))
    };
    let written = session
        .outputs()
        .filter(|stream| held(stream.slot()))
        .map(|stream| stream.written_since_exit())
        .fold(0u64, u64::saturating_add);
    if is_news {
        reported.named.clone_from(&roots);
    }
    reported.roots = Some(roots);
    let last = std::mem::replace(&mut reported.holders, holders);
    Some(Draft {
        time: now,
        known: now,
        state,
        body: FindingBody::Orphaned {
            stream,
            written,
            holders: match state {
                // Who held it, and what would have helped, stays worth knowing.
                State::Resolved => last,
                State::Open | State::Updated => reported.holders.clone(),
            },
        },
        exact: session.gaps().is_empty(),
        quiet: state == State::Updated && !is_news,
        forwards: None,
    })
}
