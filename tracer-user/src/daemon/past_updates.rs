//! What was reported of sessions that are kept, anew, for a client that shows the past.

use std::{collections::HashSet, sync::Arc};

use super::{
    access::Sees,
    past::{Past, apart},
};
use crate::{
    model::{Closed, GapReason, History, Opened, SessionView, Update, Verdict},
    store::{Kept, Outcome, StoreQuery, StoreReader},
};

/// Most sessions that a client may ask for, and most findings.
const MOST: u64 = 10_000;

impl Past {
    /// Updates about the latest sessions of this boot, and about those of as many findings, in the order in
    /// which they were reported. What is so of open sessions is on the board; here are their findings only.
    pub async fn updates(&self, limit: u64, sees: Sees) -> anyhow::Result<Vec<Update>> {
        let this = self.clone();
        apart(move || {
            let limit = u32::try_from(limit.min(MOST)).unwrap_or(u32::MAX);
            let latest = StoreQuery {
                uid: match sees {
                    Sees::Own(own) => Some(own),
                    Sees::Everything => None,
                },
                limit: Some(limit),
                ..StoreQuery::default()
            };
            let reader = this.reader()?;
            let mut sessions = reader.sessions(&latest)?;
            let mut known: HashSet<i64> = sessions.iter().map(|it| it.key).collect();
            let news = StoreQuery {
                notable_only: true,
                ..latest
            };
            for found in reader.findings(&news)? {
                if known.insert(found.session) {
                    sessions.extend(reader.session_by_key(found.session)?);
                }
            }
            // Times of another boot are of another clock.
            sessions.retain(|it| this.is_of_this_boot(it) && sees.session(it.outcome.view()));
            let mut reported = Vec::new();
            for kept in &sessions {
                // A session's in the order in which they were reported.
                let mut latest = 0;
                reported.extend(updates(&reader, kept)?.into_iter().map(|update| {
                    latest = latest.max(update.reported().unwrap_or(0));
                    (latest, update)
                }));
            }
            reported.sort_by_key(|(time, _)| *time);
            Ok(reported.into_iter().map(|(_, update)| update).collect())
        })
        .await
    }
}

/// What was reported of a session.
fn updates(reader: &StoreReader, kept: &Kept) -> anyhow::Result<Vec<Update>> {
    let findings = match kept.findings {
        0 => Vec::new(),
        _ => reader.findings_of(kept.key)?,
    };
    let findings = findings.into_iter().map(|it| Update::Finding(it.finding));
    let opened = |session: &Arc<SessionView>| {
        Update::SessionOpened(Opened {
            time: session.opened,
            session: Arc::clone(session),
            had: History::default(),
        })
    };
    let closed = match &kept.outcome {
        Outcome::Open(_) => return Ok(findings.collect()),
        Outcome::Closed(closed) => closed.clone(),
        Outcome::Interrupted(view) => interrupted(view, kept),
    };
    let mut all = vec![opened(&closed.session)];
    all.extend(findings);
    all.push(Update::SessionClosed(closed));
    Ok(all)
}

/// The last word on a session whose end nobody saw.
fn interrupted(view: &SessionView, kept: &Kept) -> Closed {
    let ended = kept.closed.unwrap_or(kept.opened);
    Closed {
        time: ended.cast_unsigned().wrapping_sub(kept.wall_offset),
        known: 0,
        session: Arc::new(view.clone()),
        verdict: Verdict::Unknown,
        gaps: vec![GapReason::Interrupted],
        streams: Vec::new(),
        carried: None,
        had: History::default(),
    }
}
