//! Findings of all sessions that are kept, open ones too.

use super::{
    access::Sees,
    past::{Past, apart},
};
use crate::{
    model::{FindingFilter, Found, Kind},
    store::{Kept, Outcome, StoreQuery, StoreReader},
};

impl Past {
    /// Findings, the oldest first; of more than the filter's limit the youngest.
    pub async fn findings(&self, filter: &FindingFilter, sees: Sees) -> anyhow::Result<Vec<Found>> {
        let (this, filter) = (self.clone(), filter.clone());
        apart(move || {
            let reader = this.reader()?;
            let Some(query) = query(&filter, sees) else {
                return Ok(Vec::new());
            };
            let mut sessions: Vec<i64> = reader
                .findings(&query)?
                .iter()
                .map(|it| it.session)
                .collect();
            sessions.sort_unstable();
            sessions.dedup();
            let mut all = Vec::new();
            for key in sessions {
                let Some(kept) = reader.session_by_key(key)? else {
                    continue;
                };
                if sees.session(kept.outcome.view()) {
                    all.extend(this.found(&reader, &kept)?);
                }
            }
            all.retain(|found| filter.wants(found));
            all.sort_by_key(|found| found.opened.wrapping_add(found.wall_offset));
            let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
            all.drain(..all.len().saturating_sub(limit.unwrap_or(usize::MAX)));
            Ok(all)
        })
        .await
    }

    fn found(&self, reader: &StoreReader, kept: &Kept) -> anyhow::Result<Vec<Found>> {
        let told = reader.findings_of(kept.key)?;
        let closed = match &kept.outcome {
            Outcome::Open(_) => None,
            Outcome::Closed(closed) => Some(closed.time),
            Outcome::Interrupted(_) => kept
                .closed
                .map(|wall| wall.cast_unsigned().wrapping_sub(kept.wall_offset)),
        };
        Ok(Found::of_session(
            told.iter().map(|it| &it.finding),
            &self.name(kept),
            &kept.host,
            kept.wall_offset,
            closed,
        ))
    }
}

/// Rows of which each wanted finding has one at least. What an orphan's beginning is, and what was open
/// then, is decided on the findings themselves.
fn query(filter: &FindingFilter, sees: Sees) -> Option<StoreQuery> {
    let wall = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let by_id = filter.user.as_ref().and_then(|user| user.parse().ok());
    let uid = match (sees, by_id) {
        (Sees::Own(own), Some(uid)) if own != uid => return None,
        (Sees::Own(own), _) => Some(own),
        (Sees::Everything, by_id) => by_id,
    };
    let near_misses = filter.kind.as_deref() == Some(Kind::NearMiss.name());
    let notable_only = !filter.all && !near_misses;
    // Where each row is a finding that is wanted, as many rows as findings are enough.
    let is_exact = notable_only && filter.until.is_none() && filter.at.is_none();
    let limit = filter.limit.filter(|_| is_exact);
    Some(StoreQuery {
        user: filter.user.clone().filter(|_| by_id.is_none()),
        uid,
        peer: filter.peer.clone(),
        command: filter.command.clone(),
        kind: filter.kind.clone(),
        // It begins before it is reported, so the beginning says nothing of `until`.
        since: filter.since.map(wall),
        notable_only,
        limit: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        ..StoreQuery::default()
    })
}
