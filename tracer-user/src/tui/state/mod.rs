//! The state of the terminal UI: what is known of sessions, findings and the host, and where the user is.
//!
//! It changes in three ways: `apply` takes messages from the source, `commands` what the user asks for,
//! and [`State::advance`] the time. No terminal and no I/O here: what a command needs from outside comes
//! back as an [`Effect`].

mod apply;
pub mod clock;
mod commands;
mod exports;
pub mod findings;
pub mod host;
pub mod list;
mod modes;
pub mod row;
mod selection;
pub mod throughput;

use std::collections::{HashMap, VecDeque};

pub use self::modes::{Effect, Mode, Popup, Target, View, Viewport};
use self::{
    clock::Clock,
    findings::{FindingLog, LoggedFinding},
    host::Host,
    list::{Item, List},
    row::{Condition, Outcome, Row},
};
use super::feed::Phase;
use crate::{
    export::Zone,
    model::{Kind, SessionId, timeline::Timeline},
};

/// Maximum number of moments that can be stepped to.
const MAX_MOMENTS: usize = 65_536;
/// How long a notice is shown, ns.
const NOTICE: u64 = 4_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// How the UI is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The source's name in the title.
    pub source: String,
    /// Updates arrive in real time, with times of this host's clock.
    pub live: bool,
    /// Signals may be sent.
    pub allow_signals: bool,
    /// Number of closed sessions that are kept.
    pub keep: usize,
    /// Where a recording starts.
    pub begin: Begin,
    /// How fast a recording is played; 1 is real time.
    pub speed: f64,
    /// The time zone that times are shown in.
    pub zone: Zone,
}

/// Where a recording starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At its beginning, playing.
    Playing,
    /// At its beginning, paused.
    Paused,
    /// At its end.
    End,
}

/// See the module.
pub struct State {
    pub setup: Setup,
    pub phase: Phase,
    pub clock: Clock,
    pub rows: HashMap<u64, Row>,
    pub log: FindingLog,
    pub host: Host,
    /// The history that arrived last.
    pub timeline: Option<Box<Timeline>>,
    pub view: View,
    pub list: List,
    /// Show only findings of this kind.
    pub kind: Option<Kind>,
    /// Show routine findings too.
    pub routine: bool,
    pub popup: Option<Popup>,
    /// The filter is being edited.
    pub typing: bool,
    /// The visible part of the session's history, ns of `CLOCK_BOOTTIME`; all of it if `None`.
    pub zoom: Option<(u64, u64)>,
    /// First visible line of a view or popup that scrolls by lines.
    pub scroll: usize,
    pub viewport: Viewport,
    /// A message to the user, and until when it is shown.
    notice: Option<(String, u64)>,
    /// Closed sessions, in the order in which they closed.
    closed: VecDeque<u64>,
    /// Times at which something happened, ascending.
    moments: VecDeque<u64>,
    /// The session that the user selected.
    session: Option<SessionId>,
    /// Its line in the list, for when it has left the list.
    line: usize,
    /// Number of the finding that the user selected.
    finding: Option<u64>,
    /// The session whose history was requested last.
    requested: Option<SessionId>,
    /// The clock has been set to where the recording starts.
    begun: bool,
    /// ns of `CLOCK_BOOTTIME`.
    now: u64,
    /// The screen is out of date.
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
            log: FindingLog::default(),
            host: Host::default(),
            timeline: None,
            view: View::Sessions,
            list: List::default(),
            kind: None,
            routine: false,
            popup: None,
            typing: false,
            zoom: None,
            scroll: 0,
            viewport: Viewport::default(),
            notice: None,
            closed: VecDeque::new(),
            moments: VecDeque::new(),
            session: None,
            line: 0,
            finding: None,
            requested: None,
            begun: false,
            now: 0,
            changed: true,
            setup,
        }
    }

    /// Advances the time to `now`, ns of `CLOCK_BOOTTIME`.
    pub fn advance(&mut self, now: u64) {
        let second = |ns: u64| ns / SECOND;
        let later = second(now) != second(self.now);
        self.now = now;
        if self.clock.advance(now) {
            self.changed = true;
        }
        if self.notice.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.notice = None;
            self.changed = true;
        }
        if self.setup.live && self.phase == Phase::Live && self.clock.oldest.is_some() {
            self.clock.extend_to(now);
            self.changed |= later && self.shows_age();
        }
    }

    /// When [`advance`] has to be called again even if nothing happens; `None` for never.
    ///
    /// [`advance`]: Self::advance
    pub fn next_wake(&self) -> Option<u64> {
        const FRAME: u64 = SECOND / 20;
        let notice = self.notice.as_ref().map(|(_, until)| *until);
        let playing = self.clock.is_playing().then_some(self.now + FRAME);
        let next = (self.now / SECOND + 1) * SECOND;
        let ages =
            (self.setup.live && self.phase == Phase::Live && self.shows_age()).then_some(next);
        [notice, playing, ages].into_iter().flatten().min()
    }

    /// Whether an age on the screen grows.
    fn shows_age(&self) -> bool {
        self.clock.is_latest() && self.rows.values().any(|row| row.closed.is_none())
    }

    /// Whether the screen has to be drawn, once for each change.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Makes the next frame draw, for example after the window changed its size.
    pub fn request_redraw(&mut self) {
        self.changed = true;
    }

    /// What keys do.
    pub fn mode(&self) -> Mode {
        match &self.popup {
            _ if self.typing => Mode::Typing,
            None => Mode::Viewing,
            Some(Popup::Help | Popup::Explain) => Mode::Reading,
            Some(Popup::Copy) => Mode::Copying,
            Some(Popup::Confirm(_)) => Mode::Confirming,
        }
    }

    /// Numbers for the summary line.
    pub fn counts(&self) -> Counts {
        let now = self.clock.now();
        let mut counts = Counts::default();
        for row in self.rows.values().filter(|row| row.exists_at(now)) {
            match row.condition(now) {
                Condition::Orphaned => counts.orphaned += 1,
                Condition::Stalled => counts.stalled += 1,
                Condition::Waiting => counts.waiting += 1,
                Condition::Ending | Condition::Running => {}
                Condition::Closed => {
                    counts.truncated += usize::from(row.outcome(now) == Outcome::Truncated);
                    continue;
                }
            }
            counts.open += 1;
        }
        counts
    }

    /// The message to the user.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_ref().map(|(text, _)| text.as_str())
    }

    /// Shows a message to the user for some seconds.
    pub fn notify(&mut self, text: impl Into<String>) {
        self.notice = Some((text.into(), self.now + NOTICE));
        self.changed = true;
    }

    /// Takes what drawing found out about the view.
    pub fn set_viewport(&mut self, viewport: Viewport) {
        self.viewport = viewport;
        self.scroll = self
            .scroll
            .min(viewport.lines.saturating_sub(viewport.page));
    }
}

/// See [`State::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open sessions.
    pub open: usize,
    /// Open sessions that are orphaned.
    pub orphaned: usize,
    /// Open sessions that are stalled.
    pub stalled: usize,
    /// Open sessions that are waiting.
    pub waiting: usize,
    /// Closed sessions that lost bytes.
    pub truncated: usize,
}

#[cfg(test)]
pub mod tests;
