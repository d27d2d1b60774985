//! What the terminal UI knows and where its user is: fed with what a source tells (`told`), with what
//! the user wants (`wants`), and with time. No terminal, no I/O: what is to be done outside comes back as
//! [`Effect`]s.

pub mod clock;
pub mod flow;
pub mod host;
mod leaves;
pub mod list;
pub mod log;
pub mod row;
mod told;
mod wants;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use self::{
    clock::Clock,
    host::Host,
    list::{Item, List},
    log::{Log, Story},
    row::{Condition, Row, Word},
};
use super::feed::Phase;
use crate::{
    export::Zone,
    model::{Finding, HolderView, Kind, SessionId, State as Stage, timeline::Timeline},
};

/// Most moments that can be stepped to.
const MAX_MOMENTS: usize = 65_536;
/// How long a note is shown, ns.
const NOTE: u64 = 4_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// What the UI was started for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where what is shown comes from, for the title.
    pub source: String,
    /// It is told as it happens, by a machine whose clock is this one's.
    pub live: bool,
    /// Signals may be sent.
    pub allow_signals: bool,
    /// How many sessions are kept after their end.
    pub keep: usize,
    /// Of a recording: where to begin.
    pub begin: Begin,
    /// Of a recording: how fast to play.
    pub speed: f64,
    /// What times are read in.
    pub zone: Zone,
}

/// Where a recording begins to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At its beginning, playing.
    Playing,
    /// At its beginning, paused.
    Paused,
    /// At its end.
    End,
}

/// The views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All sessions.
    Sessions,
    /// One of them.
    Session,
    /// Everything that was found.
    Findings,
    /// The machine and its tracer.
    Host,
}

impl Place {
    /// Every one, in order.
    pub const ALL: [Self; 4] = [Self::Sessions, Self::Session, Self::Findings, Self::Host];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::Session => "Session",
            Self::Findings => "Findings",
            Self::Host => "Host",
        }
    }

    fn by(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// What keys do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They move about.
    Viewing,
    /// They type.
    Typing,
    /// Something to read is above the view.
    Reading,
    /// The next one says what to copy.
    Copying,
    /// The next one says whether to send a signal.
    Confirming,
}

/// What is above the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Above {
    /// The keys.
    Help,
    /// What a session is and why.
    Explain,
    /// What may be copied.
    Copy,
    /// Whether to send a signal.
    Confirm(Box<Target>),
}

/// Whom to send a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The processes that may be meant, and which one is.
    pub holders: Vec<HolderView>,
    /// Index of the one that is meant.
    pub at: usize,
}

impl Target {
    /// Who gets it.
    pub fn holder(&self) -> Option<&HolderView> {
        self.holders.get(self.at)
    }
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put this into the terminal's clipboard.
    Copy(String),
    /// Write this into a new file of that name.
    Write {
        /// The file's name.
        name: String,
        /// Its contents.
        text: String,
    },
    /// Send SIGTERM to this process, if it is still the same.
    Terminate {
        /// Its pid.
        pid: u32,
        /// When it started, ns of `CLOCK_BOOTTIME`.
        start: u64,
    },
    /// Stop until continued.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// End.
    Quit,
}

/// How the view came out: what the next command needs to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Lines that a page has.
    pub page: usize,
    /// Lines that there are.
    pub lines: usize,
    /// The first line that is shown.
    pub first: usize,
    /// Where it is on the screen.
    pub top: u16,
}

/// See the module.
pub struct State {
    pub setup: Setup,
    pub phase: Phase,
    pub clock: Clock,
    pub rows: HashMap<u64, Row>,
    pub log: Log,
    pub host: Host,
    /// The course of the session that was asked for last.
    pub timeline: Option<Box<Timeline>>,
    pub place: Place,
    pub list: List,
    /// Only findings of this kind are shown.
    pub kind: Option<Kind>,
    /// Ordinary ones are shown too.
    pub quiet: bool,
    pub above: Option<Above>,
    pub typing: bool,
    /// The part of the session's time that is looked at.
    pub zoom: Option<(u64, u64)>,
    /// First line of what scrolls by lines.
    pub scroll: usize,
    /// How the view came out last.
    pub drawn: Drawn,
    note: Option<(String, u64)>,
    /// Closed sessions, in the order of their ends.
    closed: VecDeque<u64>,
    moments: VecDeque<u64>,
    session: Option<SessionId>,
    /// Where it was in the list, for when it is there no more.
    line: usize,
    story: Option<u64>,
    asked: Option<SessionId>,
    begun: bool,
    now: u64,
    changed: bool,
}

impl State {
    pub fn new(setup: Setup) -> Self {
        let mut clock = Clock::default();
        clock.set_speed(setup.speed);
        Self {
            phase: Phase::Preparing("starting".into()),
            clock,
            rows: HashMap::new(),
            log: Log::default(),
            host: Host::default(),
            timeline: None,
            place: Place::Sessions,
            list: List::default(),
            kind: None,
            quiet: false,
            above: None,
            typing: false,
            zoom: None,
            scroll: 0,
            drawn: Drawn::default(),
            note: None,
            closed: VecDeque::new(),
            moments: VecDeque::new(),
            session: None,
            line: 0,
            story: None,
            asked: None,
            begun: false,
            now: 0,
            changed: true,
            setup,
        }
    }

    /// Lets time pass until `now`, ns of `CLOCK_BOOTTIME`.
    pub fn pass(&mut self, now: u64) {
        let second = |ns: u64| ns / SECOND;
        let later = second(now) != second(self.now);
        self.now = now;
        if self.clock.pass(now) {
            self.changed = true;
        }
        if self.note.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.note = None;
            self.changed = true;
        }
        if self.setup.live && self.phase == Phase::Live && self.clock.oldest.is_some() {
            self.clock.saw(now);
            self.changed |= later && self.shows_age();
        }
    }

    /// When time should pass again though nothing may happen by then; `None` for never.
    pub fn wakes(&self) -> Option<u64> {
        const FRAME: u64 = SECOND / 20;
        let note = self.note.as_ref().map(|(_, until)| *until);
        let playing = self.clock.is_playing().then_some(self.now + FRAME);
        let next = (self.now / SECOND + 1) * SECOND;
        let ages =
            (self.setup.live && self.phase == Phase::Live && self.shows_age()).then_some(next);
        [note, playing, ages].into_iter().flatten().min()
    }

    /// Something is shown that grows older.
    fn shows_age(&self) -> bool {
        self.clock.is_newest() && self.rows.values().any(|row| row.closed.is_none())
    }

    /// Whether anything is to be drawn that was not before; asks once.
    pub fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The window has changed, or the screen.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    /// What keys do now.
    pub fn mode(&self) -> Mode {
        match &self.above {
            _ if self.typing => Mode::Typing,
            None => Mode::Viewing,
            Some(Above::Help | Above::Explain) => Mode::Reading,
            Some(Above::Copy) => Mode::Copying,
            Some(Above::Confirm(_)) => Mode::Confirming,
        }
    }

    /// The list as it was at the moment that is shown.
    pub fn items(&self) -> Vec<Item> {
        self.list.items(&self.rows, self.clock.now())
    }

    /// Which item is selected.
    pub fn item(&self, items: &[Item]) -> Option<usize> {
        let wanted = self.session.map(Item::Session);
        let found = wanted.and_then(|wanted| items.iter().position(|item| *item == wanted));
        found.or_else(|| {
            let sessions = || {
                let all = items.iter().enumerate();
                all.filter(|(_, item)| matches!(item, Item::Session(_)))
                    .map(|(at, _)| at)
            };
            sessions()
                .find(|at| *at >= self.line)
                .or_else(|| sessions().next_back())
        })
    }

    /// The session that everything is about.
    pub fn session(&self) -> Option<SessionId> {
        match self.place {
            Place::Findings => self.finding().map(|it| it.session.id),
            Place::Session if self.session.is_some() => self.session,
            _ => {
                let items = self.items();
                match items.get(self.item(&items)?)? {
                    Item::Session(id) => Some(*id),
                    Item::Head { .. } => None,
                }
            }
        }
    }

    /// Its course, once it is here.
    pub fn timeline(&self) -> Option<&Timeline> {
        let id = self.session()?;
        self.timeline
            .as_deref()
            .filter(|line| line.session.id == id)
    }

    /// Stories that are shown, newest first.
    pub fn stories(&self) -> Vec<&Story> {
        let wanted = |story: &&Story| {
            let Some(word) = story.at(self.clock.now()) else {
                return false;
            };
            match self.kind {
                Some(kind) => {
                    word.kind == kind
                        && (self.quiet || kind == Kind::NearMiss || !word.is_routine())
                }
                None => self.quiet || !word.is_routine(),
            }
        };
        self.log.until(self.clock.now()).filter(wanted).collect()
    }

    /// Which story is selected.
    pub fn story(&self, stories: &[&Story]) -> Option<usize> {
        let wanted = self.story?;
        // They are numbered in their order: of one that is not shown, the next older one.
        let at = stories.iter().position(|story| story.number <= wanted);
        at.or_else(|| stories.len().checked_sub(1))
    }

    /// What was found of what everything is about; the worst of it.
    pub fn finding(&self) -> Option<Arc<Finding>> {
        let now = self.clock.now();
        if self.place == Place::Findings {
            let stories = self.stories();
            let at = self.story(&stories).unwrap_or(0);
            return stories.get(at)?.at(now).cloned();
        }
        self.log
            .of(self.session()?, now)
            .first()
            .map(|it| Arc::clone(it))
    }

    /// The session whose course is wanted, when that is another than before; asks once.
    pub fn asks(&mut self) -> Option<Option<SessionId>> {
        let wanted = match self.place {
            Place::Host => self.session,
            _ => self.session(),
        };
        if self.asked == wanted {
            return None;
        }
        self.asked = wanted;
        Some(wanted)
    }

    /// How many sessions are open, and how many of them are in each kind of trouble.
    pub fn counts(&self) -> Counts {
        let now = self.clock.now();
        let mut counts = Counts::default();
        for row in self.rows.values().filter(|row| row.is_there(now)) {
            match row.condition(now) {
                Condition::Orphaned => counts.orphaned += 1,
                Condition::Stalled => counts.stalled += 1,
                Condition::Waiting => counts.waiting += 1,
                Condition::Exited | Condition::Running => {}
                Condition::Closed => {
                    counts.truncated += usize::from(row.word(now) == Word::Truncated);
                    continue;
                }
            }
            counts.open += 1;
        }
        counts
    }

    /// What there is to say, for a moment.
    pub fn note(&self) -> Option<&str> {
        self.note.as_ref().map(|(text, _)| text.as_str())
    }

    /// Says something for a moment.
    pub fn say(&mut self, text: impl Into<String>) {
        self.note = Some((text.into(), self.now + NOTE));
        self.changed = true;
    }

    /// How the view came out.
    pub fn drawn(&mut self, drawn: Drawn) {
        self.drawn = drawn;
        self.scroll = self.scroll.min(drawn.lines.saturating_sub(drawn.page));
    }
}

/// See [`State::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub open: usize,
    pub orphaned: usize,
    pub stalled: usize,
    pub waiting: usize,
    /// Closed ones that lost bytes.
    pub truncated: usize,
}

#[cfg(test)]
pub mod tests;
