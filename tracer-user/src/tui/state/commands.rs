//! Runs the user's commands: navigation, what is shown, and the clock.

use super::{Effect, Item, Mode, Popup, SECOND, State, View};
use crate::{
    model::{Kind, timeline::Timeline},
    tui::keys::Command,
};

impl State {
    /// Does what the user commands; what is left to be done outside comes back.
    pub fn command(&mut self, command: Command) -> Option<Effect> {
        self.changed = true;
        match command {
            Command::Quit => return Some(Effect::Quit),
            Command::Suspend => return Some(Effect::Suspend),
            Command::Redraw => return Some(Effect::Redraw),
            Command::Show(view) => self.show(view),
            Command::NextView => self.show(self.view.after(1)),
            Command::PreviousView => self.show(self.view.after(View::ALL.len() - 1)),
            Command::Move(by) => self.move_by(i64::from(by)),
            Command::Page(halves) => {
                let half = (self.viewport.page / 2).max(1) as i64;
                self.move_by(i64::from(halves) * half);
            }
            Command::Top => self.move_by(i64::MIN / 2),
            Command::Bottom => self.move_by(i64::MAX / 2),
            Command::Pan(by) => self.pan(by),
            Command::Zoom(by) => self.zoom(by),
            Command::ZoomReset => self.zoom = None,
            Command::Open => self.open(),
            Command::Back => self.back(),
            Command::Filter => {
                self.show(View::Sessions);
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
                self.notify(self.list.group.notice());
            }
            Command::NextKind => self.kind = next_kind(self.kind),
            Command::ToggleRoutine => self.routine = !self.routine,
            Command::Pause => self.clock.pause(),
            Command::Step(by) => self.step(by),
            Command::Seek(seconds) => self.clock.seek_by(i64::from(seconds) * SECOND as i64),
            Command::NextFinding => self.seek_finding(true),
            Command::PreviousFinding => self.seek_finding(false),
            Command::Latest => self.clock.follow(),
            Command::Faster => self.change_speed(1),
            Command::Slower => self.change_speed(-1),
            Command::Explain => self.explain(),
            Command::Help => {
                self.scroll = 0;
                self.popup = Some(Popup::Help);
            }
            Command::Copy => self.popup = Some(Popup::Copy),
            Command::CopyFix => {
                return self.copy("fix", |it| it.finding()?.fix.text().map(str::to_owned));
            }
            Command::CopyMessage => {
                return self.copy("message", |it| {
                    let finding = it.finding()?;
                    Some(it.sentence(&finding).into_owned())
                });
            }
            Command::CopyPid => return self.copy("pid", Self::pid),
            Command::CopyJson => return self.copy("session", Self::json),
            Command::Export => return self.export(),
            Command::Signal => self.target(),
            Command::Confirm => return self.terminate(),
        }
        None
    }

    fn show(&mut self, view: View) {
        if view == View::Session {
            self.session = self.session();
        }
        self.view = view;
        self.scroll = 0;
        self.typing = false;
        self.popup = None;
        self.mark_read();
    }

    /// Marks findings that are shown in full as looked at.
    fn mark_read(&mut self) {
        match self.view {
            View::Session => {
                if let Some(id) = self.session {
                    self.log.mark_session_read(id);
                }
            }
            View::Findings => {
                let shown = self.shown_findings();
                let at = self.selected_finding(&shown);
                if let Some(number) = at.map(|at| shown[at].number) {
                    self.log.mark_read(number);
                }
            }
            View::Sessions | View::Host => {}
        }
    }

    fn move_by(&mut self, by: i64) {
        let moved = |at: usize, len: usize| {
            let last = len.saturating_sub(1) as i64;
            (at as i64).saturating_add(by).clamp(0, last.max(0)) as usize
        };
        if let Some(Popup::Confirm(target)) = &mut self.popup {
            target.at = moved(target.at, target.holders.len());
            return;
        }
        if self.popup.is_some() || matches!(self.view, View::Session | View::Host) {
            let most = self.viewport.lines.saturating_sub(self.viewport.page);
            self.scroll = moved(self.scroll, most + 1);
            return;
        }
        match self.view {
            View::Findings => {
                let shown = self.shown_findings();
                let to = match self.selected_finding(&shown) {
                    Some(at) => moved(at, shown.len()),
                    None => moved(0, shown.len()),
                };
                self.finding = shown.get(to).map(|it| it.number);
                self.mark_read();
            }
            _ => {
                let items = self.items();
                let Some(at) = self.selected_item(&items) else {
                    return;
                };
                self.select(&items, moved(at, items.len()), by < 0);
            }
        }
    }

    /// Selects the session at an item, or the nearest one in a direction.
    fn select(&mut self, items: &[Item], at: usize, upwards: bool) {
        let session = |at: &usize| match items[*at] {
            Item::Session(id) => Some((*at, id)),
            Item::Group { .. } => None,
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

    /// Handles a click on a row of the screen.
    pub fn click(&mut self, y: u16) {
        let Some(line) = y.checked_sub(self.viewport.top).map(usize::from) else {
            return;
        };
        let at = self.viewport.first + line;
        if line >= self.viewport.page || self.mode() != Mode::Viewing {
            return;
        }
        self.changed = true;
        match self.view {
            View::Sessions => {
                let items = self.items();
                if at < items.len() {
                    self.select(&items, at, false);
                }
            }
            View::Findings => {
                self.finding = self.shown_findings().get(at).map(|it| it.number);
                self.mark_read();
            }
            View::Session | View::Host => {}
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
            self.show(View::Session);
        }
    }

    fn back(&mut self) {
        if self.typing {
            self.typing = false;
            self.list.filter.clear();
        } else if self.popup.is_some() {
            self.popup = None;
            self.scroll = 0;
        } else if self.view == View::Sessions {
            self.list.filter.clear();
        } else {
            self.show(View::Sessions);
        }
    }

    /// The visible part of a session's history: from, to, ns of `CLOCK_BOOTTIME`.
    pub fn span(&self, line: &Timeline) -> (u64, u64) {
        let now = self.clock.now();
        let from = line.began().min(now);
        let end = match &line.closed {
            Some(closed) => closed.time.max(line.last).min(now.max(from)),
            None => now,
        };
        // Some room, so that the last events are not on the edge.
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
            Some(to) => self.clock.seek(to),
            None if by > 0 => self.notify("no later event"),
            None => self.notify("no earlier event"),
        }
    }

    fn seek_finding(&mut self, next: bool) {
        let now = self.clock.now();
        let found = match next {
            true => self.log.after(now),
            false => self.log.before(now),
        };
        let Some((number, began, id)) =
            found.and_then(|it| Some((it.number, it.began, it.latest()?.session.id)))
        else {
            self.notify(if next {
                "no later finding"
            } else {
                "no earlier finding"
            });
            return;
        };
        self.clock.seek(began);
        self.finding = Some(number);
        self.session = Some(id);
        self.zoom = None;
        self.mark_read();
    }

    fn change_speed(&mut self, by: i8) {
        self.clock.faster(by);
        self.notify(format!("speed {}×", self.clock.speed()));
    }

    fn explain(&mut self) {
        if self.session().is_some() {
            self.scroll = 0;
            self.popup = Some(Popup::Explain);
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
