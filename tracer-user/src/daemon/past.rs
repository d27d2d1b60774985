//! Sessions that are over, and the records of all of them, as the flight recorder has them. Reading
//! waits for the disk, so it is done apart from everything else.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    access::Sees,
    protocol::{self, Reply},
};
use crate::{
    model::{End, Filter, GapReason, History, Listed, Told, Verdict},
    store::{Flusher, Kept, Outcome, StoreQuery, StoreReader},
};

/// How long a reader waits for what is being written.
const WRITES_WITHIN: Duration = Duration::from_secs(5);

/// Where the past is.
#[derive(Clone, Debug)]
pub struct Past {
    directory: Arc<PathBuf>,
    boot: Arc<str>,
    writing: Flusher,
}

/// Messages that may wait until the client takes them.
const AHEAD: usize = 2;
/// Bytes of records in one message: whole words, as records are.
const RECORDS: usize = 512 << 10;

/// A session and then its records, as messages of the protocol.
pub type Parts = mpsc::Receiver<anyhow::Result<Bytes>>;

impl Past {
    /// That of a state directory, as seen from this boot, and who writes there.
    pub fn new(directory: PathBuf, boot: String, writing: Flusher) -> Self {
        Self {
            directory: Arc::new(directory),
            boot: boot.into(),
            writing,
        }
    }

    /// Sessions that are over, the oldest first; of more than the filter's limit the youngest. All whose
    /// end was told of are among them.
    pub async fn list(&self, filter: &Filter, sees: Sees) -> anyhow::Result<Vec<Listed>> {
        let (this, filter) = (self.clone(), filter.clone());
        apart(move || {
            let Some(query) = query(&filter, sees) else {
                return Ok(Vec::new());
            };
            let reader = this.reader()?;
            let mut sessions = Vec::new();
            for kept in reader.sessions(&query)? {
                sessions.push(this.listed(&reader, &kept)?);
            }
            if filter.had.is_some() {
                // Among the findings that are kept are some that were never worth a line.
                sessions.retain(|session| filter.wants(session));
                let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
                sessions.truncate(limit.unwrap_or(usize::MAX));
            }
            sessions.reverse();
            Ok(sessions)
        })
        .await
    }

    /// The session that a text names, open or over, and its records. They may be many: they are read as
    /// the messages are taken.
    pub fn course(&self, name: String, sees: Sees) -> Parts {
        let (parts, taken) = mpsc::channel(AHEAD);
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = this.send_course(&name, sees, &parts) {
                // Nobody wants to know once the client has left.
                let _ = parts.blocking_send(Err(error));
            }
        });
        taken
    }

    fn send_course(
        &self,
        name: &str,
        sees: Sees,
        parts: &mpsc::Sender<anyhow::Result<Bytes>>,
    ) -> anyhow::Result<()> {
        let reader = self.reader()?;
        let found = reader.session(name)?;
        let kept = found.filter(|kept| sees.session(kept.outcome.view()));
        let kept = kept.with_context(|| format!("no session {name}: see `lastbyte ls`"))?;
        let listed = Reply::Listed(Box::new(self.listed(&reader, &kept)?));
        let send = |message: Bytes| match parts.blocking_send(Ok(message)) {
            Ok(()) => ControlFlow::Continue(()),
            // The client has left.
            Err(_) => ControlFlow::Break(()),
        };
        if send(protocol::json(&listed)).is_continue() {
            reader.each_chunk(kept.key, |records| {
                records
                    .chunks(RECORDS)
                    .try_for_each(|part| send(protocol::records(part)))
            })?;
        }
        Ok(())
    }

    /// Reads everything that was handed to the flight recorder so far.
    pub(super) fn reader(&self) -> anyhow::Result<StoreReader> {
        // What cannot be written is missing, and the flight recorder says so.
        let _ = self.writing.flush(WRITES_WITHIN);
        StoreReader::open(&self.directory)
            .with_context(|| format!("the flight recorder in {}", self.directory.display()))
    }

    /// Whether a session's times are of the clock of now.
    pub(super) fn is_of_this_boot(&self, kept: &Kept) -> bool {
        *kept.boot == *self.boot
    }

    /// What names a session to clients.
    pub(super) fn name(&self, kept: &Kept) -> String {
        match self.is_of_this_boot(kept) {
            true => kept.outcome.view().id.to_string(),
            false => kept.name(),
        }
    }

    fn listed(&self, reader: &StoreReader, kept: &Kept) -> anyhow::Result<Listed> {
        let findings = match kept.findings {
            0 => Vec::new(),
            _ => reader.findings_of(kept.key)?,
        };
        let (mut told, mut had) = (Vec::new(), History::default());
        for it in &findings {
            had.add(&it.finding);
            let one = Told {
                kind: it.finding.kind(),
                cause: it.finding.cause(),
            };
            if !told.contains(&one) {
                told.push(one);
            }
        }
        let name = self.name(kept);
        let (host, wall_offset) = (kept.host.clone(), kept.wall_offset);
        let (view, end) = match &kept.outcome {
            Outcome::Closed(closed) => {
                let mut listed = Listed::closed(closed, told, name, host, wall_offset);
                if listed.had.is_empty() {
                    // Kept by a lastbyte that did not put it there.
                    had.close(closed.time);
                    listed.had = had;
                }
                return Ok(listed);
            }
            Outcome::Open(view) => (view, None),
            Outcome::Interrupted(view) => {
                let ended = kept.closed.unwrap_or(kept.opened);
                let end = End {
                    time: ended.cast_unsigned().wrapping_sub(wall_offset),
                    verdict: Verdict::Unknown,
                    gaps: vec![GapReason::Interrupted],
                };
                (view, Some(end))
            }
        };
        Ok(Listed {
            name,
            host,
            wall_offset,
            session: Arc::new(view.clone()),
            findings: told,
            had,
            written: 0,
            end,
        })
    }
}

/// What to ask for; `None` when nothing that is over can be wanted.
fn query(filter: &Filter, sees: Sees) -> Option<StoreQuery> {
    let wall = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let is_verdict = |word: &String| Verdict::WORDS.contains(&word.as_str());
    if filter.open == Some(true) || !filter.state.as_ref().is_none_or(is_verdict) {
        return None;
    }
    let by_id = filter.user.as_ref().and_then(|user| user.parse().ok());
    let uid = match (sees, by_id) {
        (Sees::Own(own), Some(uid)) if own != uid => return None,
        (Sees::Own(own), _) => Some(own),
        (Sees::Everything, by_id) => by_id,
    };
    Some(StoreQuery {
        user: filter.user.clone().filter(|_| by_id.is_none()),
        uid,
        peer: filter.peer.clone(),
        verdict: filter.state.clone(),
        ended: Some(true),
        since: filter.since.map(wall),
        until: filter.until.map(wall),
        at: filter.at.map(wall),
        command: filter.command.clone(),
        kind: filter.had.clone(),
        limit: filter
            .limit
            .filter(|_| filter.had.is_none())
            .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        ..StoreQuery::default()
    })
}

pub(super) async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
