//! Everything that was found, newest first, and what of it has been looked at.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::model::{Finding, Kind, SessionId, Slot, State};

/// Most stories that are kept.
const MAX_STORIES: usize = 4096;
/// Most words that are kept of a story: the first, and the latest.
const MAX_WORDS: usize = 16;

/// What a story is about: of one session one kind; of losses, one stream.
type About = (SessionId, Kind, Option<Slot>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Log {
    stories: VecDeque<Story>,
    /// Number of the first one that is kept.
    first: u64,
    by: HashMap<About, u64>,
}

/// What was said about one thing, from first to last.
#[derive(Clone, Debug)]
pub struct Story {
    /// Names it.
    pub number: u64,
    /// When it was first told.
    pub began: u64,
    /// Nobody has looked at it.
    pub unread: bool,
    words: Vec<Arc<Finding>>,
}

impl Story {
    /// The word on it that was the latest then.
    pub fn at(&self, time: u64) -> Option<&Arc<Finding>> {
        self.words.iter().rev().find(|word| word.time <= time)
    }

    /// The latest word on it.
    pub fn latest(&self) -> Option<&Arc<Finding>> {
        self.words.last()
    }

    /// It is ordinary: not told unless asked for.
    pub fn is_quiet(&self) -> bool {
        self.latest().is_none_or(|it| it.is_routine())
    }
}

fn about(finding: &Finding) -> About {
    let stream = match finding.kind {
        // Which stream is held changes with the holders.
        Kind::Orphaned | Kind::Waiting => None,
        Kind::Truncated | Kind::Stalled | Kind::NearMiss => finding.stream,
    };
    (finding.session.id, finding.kind, stream)
}

impl Log {
    /// Takes in a finding. What goes on is one story; what comes again after it was resolved,
    /// another.
    pub fn add(&mut self, finding: &Finding) {
        let about = about(finding);
        let known = self.by.get(&about).copied();
        let mut finding = finding.clone();
        if let Some(story) = known.and_then(|number| self.find_mut(number))
            && story.latest().is_some_and(|it| it.state != State::Resolved)
        {
            if story.words.len() == MAX_WORDS {
                story.words.remove(1);
            }
            story.unread |= finding.state != State::Resolved && !finding.quiet;
            // A change that is no news does not make the finding ordinary.
            finding.quiet &= story.latest().is_some_and(|it| it.quiet);
            story.words.push(Arc::new(finding));
            return;
        }
        let number = self.first + self.stories.len() as u64;
        self.by.insert(about, number);
        self.stories.push_back(Story {
            number,
            began: finding.time,
            unread: !finding.is_routine(),
            words: vec![Arc::new(finding)],
        });
        if self.stories.len() > MAX_STORIES
            && let Some(old) = self.stories.pop_front()
        {
            self.first += 1;
            let number = old.number;
            self.by.retain(|_, latest| *latest != number);
        }
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Story> {
        let at = number.checked_sub(self.first)?;
        self.stories.get_mut(usize::try_from(at).ok()?)
    }

    /// Those that had begun then, newest first.
    pub fn until(&self, time: u64) -> impl Iterator<Item = &Story> {
        let begun = move |story: &&Story| story.began <= time;
        self.stories.iter().rev().filter(begun)
    }

    /// The first one that began after a moment and is not quiet.
    pub fn after(&self, time: u64) -> Option<&Story> {
        let loud = |story: &&Story| story.began > time && !story.is_quiet();
        self.stories.iter().filter(loud).min_by_key(|it| it.began)
    }

    /// The last one that began before a moment and is not quiet.
    pub fn before(&self, time: u64) -> Option<&Story> {
        let loud = |story: &&Story| story.began < time && !story.is_quiet();
        self.stories.iter().filter(loud).max_by_key(|it| it.began)
    }

    /// Moments at which something was found that is not quiet.
    pub fn moments(&self) -> impl Iterator<Item = (u64, Kind)> {
        let loud = self.stories.iter().filter(|story| !story.is_quiet());
        loud.filter_map(|story| Some((story.began, story.latest()?.kind)))
    }

    /// How many nobody has looked at.
    pub fn unread(&self, time: u64) -> usize {
        self.until(time).filter(|story| story.unread).count()
    }

    /// Someone has looked at it.
    pub fn read(&mut self, number: u64) {
        if let Some(story) = self.find_mut(number) {
            story.unread = false;
        }
    }

    /// Someone has looked at a session.
    pub fn read_of(&mut self, session: SessionId) {
        for story in &mut self.stories {
            if story.latest().is_some_and(|it| it.session.id == session) {
                story.unread = false;
            }
        }
    }

    /// Nobody has to look at what is past: at what was resolved, or is about these sessions.
    pub fn read_those(&mut self, past: impl Fn(SessionId) -> bool) {
        for story in &mut self.stories {
            let is_past = |it: &Arc<Finding>| it.state == State::Resolved || past(it.session.id);
            if story.latest().is_none_or(is_past) {
                story.unread = false;
            }
        }
    }

    /// What had been found of a session then, the worst first.
    pub fn of(&self, session: SessionId, time: u64) -> Vec<&Arc<Finding>> {
        let mut found: Vec<_> = self
            .until(time)
            .filter_map(|story| story.at(time))
            .filter(|it| it.session.id == session)
            .collect();
        found.sort_by_key(|it| (it.state == State::Resolved, it.kind));
        found
    }
}
