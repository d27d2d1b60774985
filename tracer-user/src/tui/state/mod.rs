//! What the terminal UI knows and where its user is: fed with [`Feed`] and [`Command`]s, and with
//! time. No terminal, no I/O: what is to be done outside comes back as [`Effect`]s.

pub mod clock;
pub mod flow;
pub mod host;
pub mod list;
pub mod log;
pub mod row;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use self::{
    clock::Clock,
    host::Host,
    list::{Item, List},
    log::{Log, Story, is_quiet},
    row::{Condition, Row, Word},
};
use super::{
    feed::{Feed, Phase},
    keys::Command,
};
use crate::{
    export,
    model::{
        Finding, HolderView, Kind, SessionId, SessionView, State as Stage, StreamNews, Update,
        timeline::Timeline,
    },
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

    // ---- What is told.

    /// Takes in what a source tells.
    pub fn feed(&mut self, feed: Feed) {
        // Of a paused past nothing changes but how much lies ahead.
        self.changed = true;
        match feed {
            Feed::Phase(phase) => self.phase = phase,
            Feed::Tracing(tracing) => self.host.tracing = tracing,
            Feed::Updates(updates) => updates.iter().for_each(|update| self.update(update)),
            Feed::Timeline(timeline) => self.timeline = Some(timeline),
            Feed::Health(health) => {
                self.clock.saw(health.time);
                self.host.health(health);
            }
            Feed::Missed { samples, updates } => {
                self.host.missed.0 += samples;
                self.host.missed.1 += updates;
            }
        }
        if !self.begun && self.clock.oldest.is_some() {
            self.begun = true;
            match self.setup.begin {
                Begin::Playing => self.clock.rewind(true),
                Begin::Paused => self.clock.rewind(false),
                Begin::End => {}
            }
        }
    }

    fn update(&mut self, update: &Update) {
        if let Some(time) = update.time() {
            self.clock.saw(time);
        }
        if let Some(view) = update.session() {
            self.row(view).is(view);
        }
        match update {
            Update::Started(started) => {
                self.host.started = Some(started.clone());
                self.moment(started.time);
            }
            Update::SessionOpened(it) => self.moment(it.session.opened),
            Update::Finding(finding) => {
                self.row(&finding.session).found(finding);
                self.log.add(finding);
                self.moment(finding.time);
            }
            Update::SessionClosed(closed) => {
                self.row(&closed.session).close(closed);
                self.host.closed(closed);
                self.moment(closed.time);
                self.over(closed.session.id);
            }
            Update::Gap(gap) => {
                self.host.gap(gap);
                self.moment(gap.time);
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => self.moment(it.time),
            Update::StreamEof(news) => {
                self.flowed(news);
                self.moment(news.time);
            }
            Update::Sample(news) => self.flowed(news),
            Update::Forget { session } => {
                if self
                    .rows
                    .get(&session.0)
                    .is_some_and(|row| row.closed.is_none())
                {
                    self.rows.remove(&session.0);
                }
            }
        }
    }

    fn row(&mut self, view: &Arc<SessionView>) -> &mut Row {
        let new = || Row::new(Arc::clone(view));
        self.rows.entry(view.id.0).or_insert_with(new)
    }

    fn flowed(&mut self, news: &StreamNews) {
        let moved = news.written.max(news.read);
        let (time, slot) = (news.time, news.slot);
        self.row(&news.session).flow.saw(time, slot, moved);
    }

    fn over(&mut self, id: SessionId) {
        self.closed.push_back(id.0);
        if self.closed.len() > self.setup.keep
            && let Some(old) = self.closed.pop_front()
        {
            self.rows.remove(&old);
        }
    }

    fn moment(&mut self, time: u64) {
        match self.moments.back() {
            Some(last) if *last < time => self.moments.push_back(time),
            None => self.moments.push_back(time),
            Some(_) => {
                let at = self.moments.partition_point(|other| *other < time);
                if self.moments.get(at) != Some(&time) {
                    self.moments.insert(at, time);
                }
            }
        }
        if self.moments.len() > MAX_MOMENTS {
            self.moments.pop_front();
        }
    }

    // ---- Time.

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

    // ---- Where the user is.

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
                    word.kind == kind && (self.quiet || kind == Kind::NearMiss || !is_quiet(word))
                }
                None => self.quiet || !is_quiet(word),
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

    // ---- What the user wants.

    /// Does what the user wants; what is left to be done outside comes back.
    pub fn command(&mut self, command: Command) -> Option<Effect> {
        self.changed = true;
        match command {
            Command::Quit => return Some(Effect::Quit),
            Command::Suspend => return Some(Effect::Suspend),
            Command::Redraw => return Some(Effect::Redraw),
            Command::Show(place) => self.show(place),
            Command::NextView => self.show(self.place.by(1)),
            Command::PreviousView => self.show(self.place.by(Place::ALL.len() - 1)),
            Command::Move(by) => self.move_by(i64::from(by)),
            Command::Page(halves) => {
                let half = (self.drawn.page / 2).max(1) as i64;
                self.move_by(i64::from(halves) * half);
            }
            Command::Top => self.move_by(i64::MIN / 2),
            Command::Bottom => self.move_by(i64::MAX / 2),
            Command::Pan(by) => self.pan(by),
            Command::Zoom(by) => self.zoom(by),
            Command::ZoomOut => self.zoom = None,
            Command::Open => self.open(),
            Command::Back => self.back(),
            Command::Filter => {
                self.show(Place::Sessions);
                self.typing = true;
            }
            Command::Type(c) => {
                if !c.is_control() && self.list.filter.len() < 200 {
                    self.list.filter.push(c);
                }
            }
            Command::Erase => {
                self.list.filter.pop();
            }
            Command::EraseAll => self.list.filter.clear(),
            Command::Sort => self.list.sort = self.list.sort.next(),
            Command::Reverse => self.list.reverse = !self.list.reverse,
            Command::Group => {
                self.list.group = self.list.group.next();
                self.say(format!("grouped by {}", self.list.group.name()));
            }
            Command::Kinds => self.kind = next_kind(self.kind),
            Command::Quiet => self.quiet = !self.quiet,
            Command::Pause => self.clock.pause(),
            Command::Step(by) => self.step(by),
            Command::Seek(seconds) => self.clock.by(i64::from(seconds) * SECOND as i64),
            Command::NextFinding => self.seek_finding(true),
            Command::PreviousFinding => self.seek_finding(false),
            Command::Newest => self.clock.newest(),
            Command::Faster => self.faster(1),
            Command::Slower => self.faster(-1),
            Command::Explain => self.explain(),
            Command::Help => {
                self.scroll = 0;
                self.above = Some(Above::Help);
            }
            Command::Copy => self.above = Some(Above::Copy),
            Command::CopyFix => return self.copy("the fix", |it| it.finding()?.fix.clone()),
            Command::CopyMessage => {
                return self.copy("the message", |it| Some(it.finding()?.message.clone()));
            }
            Command::CopyPid => return self.copy("the pid", Self::pid),
            Command::CopyJson => return self.copy("the session", Self::json),
            Command::Export => return self.export(),
            Command::Signal => self.target(),
            Command::Confirm => return self.terminate(),
        }
        None
    }

    fn show(&mut self, place: Place) {
        if place == Place::Session {
            self.session = self.session();
        }
        self.place = place;
        self.scroll = 0;
        self.typing = false;
        self.above = None;
        self.looked();
    }

    /// What is shown in full has been looked at.
    fn looked(&mut self) {
        match self.place {
            Place::Session => {
                if let Some(id) = self.session {
                    self.log.read_of(id);
                }
            }
            Place::Findings => {
                let stories = self.stories();
                let at = self.story(&stories);
                if let Some(number) = at.map(|at| stories[at].number) {
                    self.log.read(number);
                }
            }
            Place::Sessions | Place::Host => {}
        }
    }

    fn move_by(&mut self, by: i64) {
        let moved = |at: usize, len: usize| {
            let last = len.saturating_sub(1) as i64;
            (at as i64).saturating_add(by).clamp(0, last.max(0)) as usize
        };
        if let Some(Above::Confirm(target)) = &mut self.above {
            target.at = moved(target.at, target.holders.len());
            return;
        }
        if self.above.is_some() || matches!(self.place, Place::Session | Place::Host) {
            let most = self.drawn.lines.saturating_sub(self.drawn.page);
            self.scroll = moved(self.scroll, most + 1);
            return;
        }
        match self.place {
            Place::Findings => {
                let stories = self.stories();
                let to = match self.story(&stories) {
                    Some(at) => moved(at, stories.len()),
                    None => moved(0, stories.len()),
                };
                self.story = stories.get(to).map(|story| story.number);
                self.looked();
            }
            _ => {
                let items = self.items();
                let Some(at) = self.item(&items) else { return };
                self.select(&items, moved(at, items.len()), by < 0);
            }
        }
    }

    /// Selects the session at or next to an item.
    fn select(&mut self, items: &[Item], at: usize, upwards: bool) {
        let session = |at: &usize| match items[*at] {
            Item::Session(id) => Some((*at, id)),
            Item::Head { .. } => None,
        };
        let up = || (0..=at).rev().find_map(|at| session(&at));
        let down = || (at..items.len()).find_map(|at| session(&at));
        let found = match upwards {
            true => up().or_else(down),
            false => down().or_else(up),
        };
        if let Some((at, id)) = found {
            self.session = Some(id);
            self.line = at;
        }
    }

    /// The line of the screen was pointed at.
    pub fn point(&mut self, y: u16) {
        let Some(line) = y.checked_sub(self.drawn.top).map(usize::from) else {
            return;
        };
        let at = self.drawn.first + line;
        if line >= self.drawn.page || self.mode() != Mode::Viewing {
            return;
        }
        self.changed = true;
        match self.place {
            Place::Sessions => {
                let items = self.items();
                if at < items.len() {
                    self.select(&items, at, false);
                }
            }
            Place::Findings => {
                self.story = self.stories().get(at).map(|story| story.number);
                self.looked();
            }
            Place::Session | Place::Host => {}
        }
    }

    fn open(&mut self) {
        if self.typing {
            self.typing = false;
            return;
        }
        self.session = self.session();
        if self.session.is_some() {
            self.zoom = None;
            self.show(Place::Session);
        }
    }

    fn back(&mut self) {
        if self.typing {
            self.typing = false;
            self.list.filter.clear();
        } else if self.above.is_some() {
            self.above = None;
            self.scroll = 0;
        } else if self.place == Place::Sessions {
            self.list.filter.clear();
        } else {
            self.show(Place::Sessions);
        }
    }

    /// What of the session's time is shown.
    pub fn span(&self, line: &Timeline) -> (u64, u64) {
        let now = self.clock.now();
        let from = line.began().min(now);
        let end = match &line.closed {
            Some(closed) => closed.time.max(line.last).min(now.max(from)),
            None => now,
        };
        // A little room, so that what happened at the end is not on the edge.
        let whole = (from, end + (end - from) / 40 + 1_000);
        self.zoom.unwrap_or(whole)
    }

    fn zoom(&mut self, by: i32) {
        let Some((from, to)) = self.timeline().map(|line| self.span(line)) else {
            return;
        };
        let width = to - from;
        let middle = from + width / 2;
        let wider = if by > 0 { width / 2 } else { width * 2 };
        if wider < 10_000 {
            return;
        }
        let from = middle.saturating_sub(wider / 2);
        self.zoom = Some((from, from + wider));
    }

    fn pan(&mut self, by: i32) {
        let Some((from, to)) = self.timeline().map(|line| self.span(line)) else {
            return;
        };
        let step = ((to - from) / 8).max(1) as i64 * i64::from(by);
        self.zoom = Some((
            from.saturating_add_signed(step),
            to.saturating_add_signed(step),
        ));
    }

    fn step(&mut self, by: i32) {
        let now = self.clock.now();
        let to = if by > 0 {
            let at = self.moments.partition_point(|time| *time <= now);
            self.moments.get(at)
        } else {
            let at = self.moments.partition_point(|time| *time < now);
            at.checked_sub(1).and_then(|at| self.moments.get(at))
        };
        match to.copied() {
            Some(to) => self.clock.go(to),
            None if by > 0 => self.say("nothing has happened since"),
            None => self.say("nothing is known of what was before"),
        }
    }

    fn seek_finding(&mut self, next: bool) {
        let now = self.clock.now();
        let found = match next {
            true => self.log.after(now),
            false => self.log.before(now),
        };
        let Some((number, began, id)) =
            found.and_then(|story| Some((story.number, story.began, story.latest()?.session.id)))
        else {
            self.say(if next {
                "no later finding"
            } else {
                "no earlier finding"
            });
            return;
        };
        self.clock.go(began);
        self.story = Some(number);
        self.session = Some(id);
        self.zoom = None;
        self.looked();
    }

    fn faster(&mut self, by: i8) {
        self.clock.faster(by);
        self.say(format!("speed {}×", self.clock.speed()));
    }

    fn explain(&mut self) {
        if self.session().is_some() {
            self.scroll = 0;
            self.above = Some(Above::Explain);
        }
    }

    // ---- What leaves the UI.

    fn pid(&self) -> Option<String> {
        let holder = self
            .finding()
            .and_then(|it| it.holders.first().map(|it| it.pid));
        let leader = || {
            self.rows
                .get(&self.session()?.0)
                .map(|row| row.view.leader_pid)
        };
        holder.or_else(leader).map(|pid| pid.to_string())
    }

    fn json(&self) -> Option<String> {
        let (line, started) = (self.timeline()?, self.host.started.as_ref()?);
        let lines = export::show_json(line, started.wall_offset, &started.host);
        Some(lines.join("\n"))
    }

    fn copy(&mut self, what: &str, of: impl Fn(&Self) -> Option<String>) -> Option<Effect> {
        self.above = None;
        let text = of(self);
        match &text {
            Some(text) => self.say(format!("copied {what}: {}", first_words(text))),
            None => self.say(format!("there is no such thing here: {what}")),
        }
        text.map(Effect::Copy)
    }

    fn export(&mut self) -> Option<Effect> {
        let Some(text) = self.json() else {
            self.say("the session is not loaded yet");
            return None;
        };
        let name = format!("lastbyte-session-{}.jsonl", self.session()?);
        Some(Effect::Write { name, text })
    }

    fn target(&mut self) {
        if !self.setup.allow_signals {
            self.say("sending signals takes `lastbyte top --allow-signals`");
            return;
        }
        if !self.setup.live || !self.clock.is_newest() {
            self.say("this is the past: there is nobody to send a signal to (L: live again)");
            return;
        }
        let holders = self
            .finding()
            .filter(|it| it.state != Stage::Resolved)
            .map(|it| it.holders.clone())
            .unwrap_or_default();
        if holders.is_empty() {
            self.say("no process holds anything here");
            return;
        }
        self.above = Some(Above::Confirm(Box::new(Target { holders, at: 0 })));
    }

    fn terminate(&mut self) -> Option<Effect> {
        let Some(Above::Confirm(target)) = self.above.take() else {
            return None;
        };
        let holder = target.holder()?;
        Some(Effect::Terminate {
            pid: holder.pid,
            start: holder.start,
        })
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

const fn next_kind(kind: Option<Kind>) -> Option<Kind> {
    match kind {
        None => Some(Kind::Truncated),
        Some(Kind::Truncated) => Some(Kind::Orphaned),
        Some(Kind::Orphaned) => Some(Kind::Stalled),
        Some(Kind::Stalled) => Some(Kind::Waiting),
        Some(Kind::Waiting) => Some(Kind::NearMiss),
        Some(Kind::NearMiss) => None,
    }
}

fn first_words(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub mod tests;
