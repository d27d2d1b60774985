//! The sessions and findings of a recording, as lists show them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::Context as _;

use crate::{
    daemon::{Board, Sees},
    model::{Filter, Finding, FindingFilter, Found, Listed, Model, SessionId, Told, Update},
    store::recording::Reader,
};

/// Those that are wanted, the oldest first; of more than the filter's limit the youngest.
///
/// # Errors
/// When the recording cannot be read.
pub fn list(path: &Path, filter: &Filter) -> anyhow::Result<Vec<Listed>> {
    let mut sessions = Recorded::default();
    replay(path, |update| sessions.apply(update))?;
    let mut sessions = sessions.list();
    sessions.retain(|session| filter.wants(session));
    let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
    sessions.drain(..sessions.len().saturating_sub(limit.unwrap_or(usize::MAX)));
    Ok(sessions)
}

/// Findings that are wanted, in the same way.
///
/// # Errors
/// When the recording cannot be read.
pub fn findings(path: &Path, filter: &FindingFilter) -> anyhow::Result<Vec<Found>> {
    let (mut told, mut closed) = (BTreeMap::<SessionId, Vec<Finding>>::new(), HashMap::new());
    let (mut host, mut wall_offset) = (String::new(), 0);
    replay(path, |update| match update {
        Update::Started(it) => (host, wall_offset) = (it.host.to_string(), it.wall_offset),
        Update::Finding(it) => told.entry(it.session.id).or_default().push(it.clone()),
        Update::SessionClosed(it) => {
            closed.insert(it.session.id, it.time);
        }
        _ => {}
    })?;
    let of = |(id, told): (&SessionId, &Vec<Finding>)| {
        Found::of_session(
            told,
            &id.to_string(),
            &host,
            wall_offset,
            closed.get(id).copied(),
        )
    };
    let mut all: Vec<Found> = told.iter().flat_map(of).collect();
    all.retain(|found| filter.wants(found));
    all.sort_by_key(|found| found.opened);
    let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
    all.drain(..all.len().saturating_sub(limit.unwrap_or(usize::MAX)));
    Ok(all)
}

fn replay(path: &Path, mut take: impl FnMut(&Update)) -> anyhow::Result<()> {
    let (mut model, mut updates) = (Model::new(), Vec::new());
    let mut reader = Reader::open(path).with_context(|| path.display().to_string())?;
    while let Some(record) = reader.next().with_context(|| path.display().to_string())? {
        model.apply(record, &mut updates);
        updates.drain(..).for_each(|update| take(&update));
    }
    Ok(())
}

#[derive(Default)]
struct Recorded {
    board: Board,
    closed: Vec<Listed>,
    /// What was found of sessions that are open.
    findings: HashMap<SessionId, Vec<Told>>,
    host: String,
    wall_offset: u64,
}

impl Recorded {
    fn apply(&mut self, update: &Update) {
        match update {
            Update::Started(it) => {
                self.host = it.host.to_string();
                self.wall_offset = it.wall_offset;
            }
            Update::Finding(it) => {
                let told = self.findings.entry(it.session.id).or_default();
                let one = Told {
                    kind: it.kind(),
                    cause: it.cause(),
                };
                if !told.contains(&one) {
                    told.push(one);
                }
            }
            Update::SessionClosed(it) => {
                let id = it.session.id;
                self.closed.push(Listed::closed(
                    it,
                    self.findings.remove(&id).unwrap_or_default(),
                    id.to_string(),
                    self.host.clone(),
                    self.wall_offset,
                ));
            }
            _ => {}
        }
        self.board.apply(update);
    }

    fn list(self) -> Vec<Listed> {
        let mut sessions = self.closed;
        sessions.extend(self.board.list(Sees::Everything));
        sessions.sort_by_key(|it| (it.session.opened, it.session.id));
        sessions
    }
}
