//! What must hold of the updates of any road, whatever comes down it.

use std::collections::{HashMap, HashSet};

use lastbyte::model::{Closed, Cut, Finding, Kind, SessionId, Slot, State, Update, Verdict};

/// Follows the sessions that updates tell of.
#[derive(Debug, Default)]
pub struct Grammar {
    open: HashMap<SessionId, Life>,
    over: HashSet<SessionId>,
    /// Something was older than a tick before it, which never is: what was told may turn out to be
    /// otherwise.
    pub late: bool,
}

/// A session that was opened and not closed.
#[derive(Debug, Default)]
struct Life {
    /// Findings by what they are about, with how far they have come. An orphaned session's streams
    /// are told together.
    findings: HashMap<(Kind, Option<Slot>), State>,
}

impl Grammar {
    /// Takes in the next update.
    ///
    /// # Panics
    /// When it contradicts those before.
    pub fn take(&mut self, update: &Update) {
        match update {
            Update::SessionOpened(it) => {
                let id = it.session.id;
                assert!(!self.over.contains(&id), "opened after it was closed");
                let before = self.open.insert(id, Life::default());
                assert!(before.is_none(), "opened twice");
            }
            Update::Finding(it) => {
                let Some(life) = self.open.get_mut(&it.session.id) else {
                    panic!("a finding outside a session's life: {it:#?}");
                };
                life.finding(it);
            }
            Update::SessionClosed(it) => {
                let Some(life) = self.open.remove(&it.session.id) else {
                    panic!("closed while not open: {it:#?}");
                };
                life.ends();
                if !self.late {
                    life.lost_as_told(it);
                }
                let mut worst = Verdict::Clean;
                for stream in &it.streams {
                    match stream.verdict {
                        Verdict::Truncated(cut) => lost(&cut),
                        Verdict::Clean | Verdict::NearMiss { .. } => {
                            assert!(it.gaps.is_empty(), "sure in spite of a gap: {it:#?}");
                        }
                        Verdict::Unknown => {
                            assert!(!it.gaps.is_empty(), "unknown, but for no reason: {it:#?}");
                        }
                    }
                    if rank(stream.verdict) > rank(worst) {
                        worst = stream.verdict;
                    }
                }
                if !it.gaps.is_empty() && rank(worst) < rank(Verdict::Unknown) {
                    worst = Verdict::Unknown;
                }
                assert_eq!(
                    it.verdict.name(),
                    worst.name(),
                    "not the worst of its streams: {it:#?}"
                );
            }
            Update::Forget { session } => {
                assert!(
                    !self.open.contains_key(session),
                    "forgotten while it is open"
                );
                assert!(self.over.insert(*session), "forgotten twice");
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => self.lives(it.session.id),
            Update::StreamEof(it) | Update::Sample(it) => self.lives(it.session.id),
            Update::Started(_) | Update::Gap(_) => {}
        }
    }

    fn lives(&self, session: SessionId) {
        assert!(!self.over.contains(&session), "told of after its last word");
    }
}

impl Life {
    fn finding(&mut self, it: &Finding) {
        assert!(!it.message.is_empty());
        let holds = !it.holders().is_empty();
        match (it.kind(), it.state) {
            (Kind::Orphaned, _) => assert!(holds, "{it:#?}"),
            (Kind::Waiting, _) => {}
            _ => assert!(!holds, "{it:#?}"),
        }
        if it.kind() == Kind::Truncated {
            assert!(it.bytes() > 0, "nothing was lost: {it:#?}");
        }
        let stream = it.stream().filter(|_| it.kind() != Kind::Orphaned);
        let before = self.findings.insert((it.kind(), stream), it.state);
        let fits = match it.state {
            // What was shown quietly may become news.
            State::Open => {
                matches!(before, None | Some(State::Resolved))
                    || it.kind() == Kind::Stalled && !it.quiet
            }
            State::Updated | State::Resolved => {
                matches!(before, Some(State::Open | State::Updated))
            }
        };
        assert!(fits, "{:?} of {:?} after {before:?}", it.state, it.kind());
    }

    /// The last word has no losses but those that were told. (One that was told may be taken back:
    /// that a shared end is gone is believed after a while, and may prove wrong.)
    fn lost_as_told(&self, it: &Closed) {
        for stream in &it.streams {
            let told = self
                .findings
                .contains_key(&(Kind::Truncated, Some(stream.slot)));
            let lost = matches!(stream.verdict, Verdict::Truncated(cut) if cut.bytes > 0);
            assert!(told || !lost, "{} of {it:#?}", stream.slot);
        }
    }

    /// What can end has ended.
    fn ends(&self) {
        for ((kind, _), state) in &self.findings {
            let ends = matches!(kind, Kind::Orphaned | Kind::Stalled | Kind::Waiting);
            assert!(!ends || *state == State::Resolved, "{kind:?} left open");
        }
    }
}

fn lost(cut: &Cut) {
    assert!(cut.bytes > 0 || !cut.exact, "truncated by nothing: {cut:?}");
}

/// How bad a verdict is.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Clean => 0,
        Verdict::NearMiss { .. } => 1,
        Verdict::Unknown => 2,
        Verdict::Truncated(_) => 3,
    }
}
