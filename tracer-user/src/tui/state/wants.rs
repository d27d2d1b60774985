//! What the user wants: to go somewhere, to see less or more, to go back in time.

use super::{Above, Effect, Item, Mode, Place, SECOND, State};
use crate::{
    model::{Kind, timeline::Timeline},
    tui::keys::Command,
};

impl State {
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
            Command::CopyFix => {
                return self.copy("the fix", |it| it.finding()?.fix.text().map(str::to_owned));
            }
            Command::CopyMessage => {
                return self.copy("the message", |it| {
                    let finding = it.finding()?;
                    Some(it.sentence(&finding).into_owned())
                });
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
