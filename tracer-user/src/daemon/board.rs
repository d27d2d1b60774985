//! What is so now: every open session with what is wrong with it. Made of updates alone, so that a
//! client that is told this first and every later update has no hole and no repeat.

use std::{collections::HashMap, sync::Arc};

use super::access::Sees;
use crate::model::{
    Finding, History, Kind, Listed, Opened, SessionId, SessionView, Slot, Started, State,
    StreamNews, Told, Update,
};

/// See the module.
#[derive(Debug, Default)]
pub struct Board {
    started: Option<Started>,
    sessions: HashMap<SessionId, Live>,
    /// Updates so far.
    pub updates: u64,
    /// Gaps so far.
    pub gaps: u64,
    /// Sessions that were seen to end.
    pub closed: u64,
}

#[derive(Debug)]
struct Live {
    view: Arc<SessionView>,
    /// What it went through.
    had: History,
    /// The latest word of each kind on each stream, resolved ones left out.
    findings: Vec<Finding>,
    /// The latest sample of each stream.
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    time: u64,
    slot: Slot,
    written: u64,
    read: u64,
    unread: u64,
}

impl Board {
    /// Takes in what became known.
    pub fn apply(&mut self, update: &Update) {
        self.updates += 1;
        match update {
            Update::Started(started) => self.started = Some(started.clone()),
            Update::SessionOpened(it) => {
                let live = self.live(&it.session);
                if !it.had.is_empty() {
                    live.had = it.had.clone();
                }
            }
            Update::Finding(it) => self.live(&it.session).found(it),
            Update::ProcessExec(it) | Update::ProcessExit(it) => {
                self.known(&it.session);
            }
            Update::StreamEof(it) | Update::Sample(it) => {
                if let Some(live) = self.known(&it.session) {
                    live.sampled(it);
                }
            }
            Update::SessionClosed(it) => {
                self.closed += 1;
                self.sessions.remove(&it.session.id);
            }
            Update::Gap(_) => self.gaps += 1,
            Update::Forget { session } => {
                self.sessions.remove(session);
            }
        }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.sessions.len()
    }

    /// What is so now, as updates: the start, every open session, oldest first, each followed by
    /// what is wrong with it.
    #[must_use]
    pub fn state(&self, sees: Sees) -> Vec<Update> {
        let mut out: Vec<_> = self.started.iter().cloned().map(Update::Started).collect();
        let mut sessions: Vec<_> = self
            .sessions
            .values()
            .filter(|live| sees.session(&live.view))
            .collect();
        sessions.sort_by_key(|live| (live.view.opened, live.view.id));
        for live in sessions {
            out.push(Update::SessionOpened(Opened {
                time: live.view.opened,
                session: Arc::clone(&live.view),
                had: live.had.clone(),
            }));
            out.extend(live.findings.iter().cloned().map(Update::Finding));
            out.extend(live.samples.iter().map(|it| {
                Update::Sample(StreamNews {
                    time: it.time,
                    session: Arc::clone(&live.view),
                    slot: it.slot,
                    written: it.written,
                    read: it.read,
                    unread: it.unread,
                })
            }));
        }
        out
    }

    /// Every open session as a list shows it, oldest first.
    #[must_use]
    pub fn list(&self, sees: Sees) -> Vec<Listed> {
        let started = self.started.as_ref();
        let wall_offset = started.map_or(0, |it| it.wall_offset);
        let host = started.map_or("", |it| it.host.as_str());
        let mut sessions: Vec<_> = self
            .sessions
            .values()
            .filter(|live| sees.session(&live.view))
            .map(|live| Listed {
                name: live.view.id.to_string(),
                host: host.to_owned(),
                wall_offset,
                session: Arc::clone(&live.view),
                findings: live
                    .findings
                    .iter()
                    .map(|it| Told {
                        kind: it.kind(),
                        cause: it.cause(),
                    })
                    .collect(),
                had: live.had.clone(),
                written: live.written(),
                end: None,
            })
            .collect();
        sessions.sort_by_key(|it| (it.session.opened, it.session.id));
        sessions
    }

    fn live(&mut self, session: &Arc<SessionView>) -> &mut Live {
        let live = self.sessions.entry(session.id).or_insert_with(|| Live {
            view: Arc::clone(session),
            had: History::default(),
            findings: Vec::new(),
            samples: Vec::new(),
        });
        live.view = Arc::clone(session);
        live
    }

    /// A session that was told to have opened, as it is called now.
    fn known(&mut self, session: &Arc<SessionView>) -> Option<&mut Live> {
        let live = self.sessions.get_mut(&session.id)?;
        live.view = Arc::clone(session);
        Some(live)
    }
}

impl Live {
    fn written(&self) -> u64 {
        let outputs = self.samples.iter().filter(|it| it.slot.is_output());
        outputs.map(|it| it.written).sum()
    }

    fn found(&mut self, finding: &Finding) {
        self.had.add(finding);
        // A near miss is told as the session ends.
        let is_over = finding.state == State::Resolved || finding.kind() == Kind::NearMiss;
        let key = finding.key();
        let same = |it: &Finding| it.key() == key;
        let before = self.findings.iter().find(|it| same(it));
        // A change that is no news does not make the finding ordinary.
        let quiet = finding.quiet && before.is_none_or(|it| it.quiet);
        self.findings.retain(|it| !same(it));
        if !is_over {
            self.findings.push(Finding {
                quiet,
                ..finding.clone()
            });
        }
    }

    fn sampled(&mut self, news: &StreamNews) {
        let sample = Sample {
            time: news.time,
            slot: news.slot,
            written: news.written,
            read: news.read,
            unread: news.unread,
        };
        match self.samples.iter_mut().find(|it| it.slot == news.slot) {
            Some(place) => *place = sample,
            None => self.samples.push(sample),
        }
    }
}
