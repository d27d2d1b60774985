//! The course of a session over time: a bar for each process, lanes for each stream.

mod lanes;

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthChar as _;

use super::{Theme, left, text::fit};
use crate::{
    model::{
        ExitStatus, Slot, Visible,
        message::{duration, ended},
        timeline::{Life, Stage, Timeline},
    },
    tui::state::State,
};

/// How much room there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Cells of a line.
    pub cells: usize,
    /// Lanes have all their lines.
    pub full: bool,
}

/// Deepest indent of a process below its parent.
const DEEPEST: usize = 6;

/// Time from left to right.
struct Chart {
    from: u64,
    to: u64,
    /// Where nothing is known yet.
    now: u64,
    label: usize,
    cells: usize,
    /// Columns that every line shows.
    marks: Vec<(usize, char)>,
    theme: Theme,
}

/// One line of it; a cell that holds nothing is the second half of a wide one.
struct Lined(Vec<Option<(char, Style)>>);

pub fn draw(line: &Timeline, state: &State, size: Size, theme: Theme) -> Vec<Line<'static>> {
    let (from, to) = state.span(line);
    let label = match size.cells {
        0..100 => 22,
        100..160 => 30,
        _ => 40,
    };
    let mut chart = Chart {
        from,
        to: to.max(from + 1),
        now: state.clock.now(),
        label,
        cells: size.cells.saturating_sub(label + 1),
        marks: Vec::new(),
        theme,
    };
    chart.mark(line);
    let mut out = vec![chart.axis(line.began())];
    for (depth, life) in tree(line, chart.now) {
        out.push(chart.life(line, depth, life));
    }
    if line.left_out.processes > 0 {
        let more = format!(
            " … and {} processes that were there for a shorter time",
            line.left_out.processes
        );
        out.push(Line::styled(more, theme.faint()));
    }
    out.extend(chart.strangers(line));
    out.push(chart.server(line));
    for lane in &line.streams {
        out.extend(chart.lane(line, lane, size.full));
    }
    if size.full {
        out.extend(chart.legend());
    }
    out
}

/// Processes that had begun, children below their parents, and how deep.
fn tree(line: &Timeline, now: u64) -> Vec<(usize, &Life)> {
    let lives: Vec<&Life> = line
        .processes
        .iter()
        .filter(|life| life.began <= now)
        .collect();
    // A pid may come again: the parent is who had it when the child began.
    let parent = |child: &Life| {
        lives.iter().rposition(|other| {
            other.pid == child.parent
                && other.began <= child.began
                && other.ended.is_none_or(|ended| ended >= child.began)
                && !std::ptr::eq(*other, child)
        })
    };
    let parents: Vec<Option<usize>> = lives.iter().map(|life| parent(life)).collect();
    let mut out = Vec::with_capacity(lives.len());
    let mut stack: Vec<(usize, usize)> = roots(&parents).rev().map(|at| (0, at)).collect();
    while let Some((depth, at)) = stack.pop() {
        out.push((depth, lives[at]));
        let children = (0..lives.len())
            .rev()
            .filter(|child| parents[*child] == Some(at));
        stack.extend(children.map(|child| (depth + 1, child)));
        if out.len() > lives.len() {
            break;
        }
    }
    out
}

fn roots(parents: &[Option<usize>]) -> impl DoubleEndedIterator<Item = usize> + '_ {
    let all = parents.iter().enumerate();
    all.filter(|(_, parent)| parent.is_none()).map(|(at, _)| at)
}

impl Chart {
    /// The column of a moment, if it is on the chart.
    fn column(&self, time: u64) -> Option<usize> {
        if time < self.from || time > self.to {
            return None;
        }
        Some(self.nearest(time))
    }

    fn nearest(&self, time: u64) -> usize {
        let time = time.clamp(self.from, self.to) - self.from;
        let column = u128::from(time) * self.cells as u128 / u128::from(self.to - self.from);
        (column as usize).min(self.cells.saturating_sub(1))
    }

    /// When a column begins.
    fn time(&self, column: usize) -> u64 {
        let span = u128::from(self.to - self.from);
        self.from + (span * column as u128 / self.cells.max(1) as u128) as u64
    }

    fn mark(&mut self, line: &Timeline) {
        let exited = line.session.exited.filter(|exited| *exited <= self.now);
        if let Some(column) = exited.and_then(|exited| self.column(exited)) {
            self.marks.push((column, '┊'));
        }
    }

    fn empty(&self) -> Lined {
        let mut lined = Lined(vec![Some((' ', Style::new())); self.cells]);
        for (column, sign) in &self.marks {
            lined.set(*column, *sign, self.theme.faint());
        }
        lined
    }

    fn finish(&self, label: &str, style: Style, lined: Lined) -> Line<'static> {
        let mut spans = vec![Span::styled(format!("{} ", left(label, self.label)), style)];
        let mut text = String::new();
        let mut of = Style::new();
        for (c, style) in lined.0.into_iter().flatten() {
            if style != of && !text.is_empty() {
                spans.push(Span::styled(std::mem::take(&mut text), of));
            }
            of = style;
            text.push(c);
        }
        spans.push(Span::styled(text, of));
        Line::from(spans)
    }

    /// Round times since the beginning.
    fn axis(&self, began: u64) -> Line<'static> {
        let mut lined = Lined(vec![Some((' ', Style::new())); self.cells]);
        let wanted = (self.cells / 14).max(1) as u64;
        let step = round_up((self.to - self.from) / wanted);
        let first = self.from.saturating_sub(began).div_ceil(step) * step;
        let mut at = began.saturating_add(first);
        while let Some(column) = self.column(at) {
            let since = at - began;
            let text = match since {
                0 => "╷0".to_owned(),
                _ => format!("╷{}", round(since)),
            };
            if column + super::width(&text) <= self.cells {
                lined.write(column, &text, self.theme.faint());
            }
            let Some(next) = at.checked_add(step) else {
                break;
            };
            at = next;
        }
        let span = format!(
            "  {} in all",
            duration(self.now.min(self.to) - self.from.min(self.now))
        );
        self.finish(&span, self.theme.faint(), lined)
    }

    fn life(&self, line: &Timeline, depth: usize, life: &Life) -> Line<'static> {
        let theme = self.theme;
        let indent = match depth {
            0 => " ".to_owned(),
            _ => format!(" {}└ ", "  ".repeat(depth.min(DEEPEST) - 1)),
        };
        let name = match life.name().as_str() {
            "" => "?",
            name => name,
        };
        let label = format!("{indent}{name} {}", life.pid);
        let mut lined = self.empty();
        let ended = life.ended.filter(|ended| *ended <= self.now);
        let end = ended.unwrap_or(self.now);
        let executed = life
            .programs
            .first()
            .map_or(end, |program| program.time)
            .min(end);
        self.stroke(&mut lined, life.began, executed, '╍', theme.faint());
        self.stroke(&mut lined, executed, end, '━', theme.process());
        for program in life.programs.iter().skip(1).filter(|it| it.time <= end) {
            if let Some(column) = self.column(program.time) {
                lined.set(column, '┿', theme.process());
            }
        }
        let holds = line.holds.iter().filter(|hold| {
            (hold.holder.pid, hold.holder.start) == (life.pid, life.start) && hold.began <= self.now
        });
        let mut held: Vec<Slot> = Vec::new();
        for hold in holds {
            // It had them all along: that it is told later is the grace.
            let from = line.session.exited.unwrap_or(hold.began).max(life.began);
            let to = hold
                .ended
                .filter(|ended| *ended <= self.now)
                .unwrap_or(self.now);
            self.stroke(&mut lined, from, to.min(end), '█', theme.holder());
            held.extend(&hold.streams);
        }
        held.sort_unstable();
        held.dedup();
        let mut after = String::new();
        if let Some(ended) = ended
            && let Some(column) = self.column(ended)
        {
            let good = life.exit.is_none_or(|exit| exit == ExitStatus::Code(0));
            lined.set(
                column,
                if good { '┫' } else { '✗' },
                if good { theme.process() } else { theme.bad() },
            );
            if !good {
                after = life.exit.map(short).unwrap_or_default();
            }
        }
        let words = [
            after,
            names(&held),
            life.argv()
                .iter()
                .map(Visible::as_str)
                .collect::<Vec<_>>()
                .join(" "),
        ];
        let text = words
            .iter()
            .filter(|it| !it.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("  ");
        self.beside(&mut lined, life.began, end, &text);
        let style = if held.is_empty() {
            theme.plain()
        } else {
            theme.holder()
        };
        self.finish(&label, style, lined)
    }

    /// Writes what a bar is about: after it, before it, or on it, wherever it can be read best.
    fn beside(&self, lined: &mut Lined, from: u64, to: u64, text: &str) {
        let (first, last) = (self.nearest(from), self.nearest(to));
        let after = self.cells.saturating_sub(last + 2);
        let before = first.saturating_sub(1);
        let on = (last - first).saturating_sub(6);
        let wide = super::width(text);
        let faint = self.theme.faint();
        if wide <= after || after >= before.max(on) {
            lined.write(last + 2, &fit(text, after), faint);
        } else if wide <= before || before >= on {
            let text = fit(text, before);
            lined.write(before.saturating_sub(super::width(&text)), &text, faint);
        } else {
            lined.write(
                first + 3,
                &format!(" {} ", fit(text, on)),
                self.theme.plain(),
            );
        }
    }

    fn stroke(&self, lined: &mut Lined, from: u64, to: u64, sign: char, style: Style) {
        if to < self.from || from > self.to || from > to {
            return;
        }
        for column in self.nearest(from)..=self.nearest(to) {
            lined.set(column, sign, style);
        }
    }

    /// Holders that are none of the session's own processes.
    fn strangers(&self, line: &Timeline) -> Vec<Line<'static>> {
        let is_member = |pid, start| {
            line.processes
                .iter()
                .any(|life| (life.pid, life.start) == (pid, start))
        };
        let holds = line.holds.iter().filter(|hold| {
            !is_member(hold.holder.pid, hold.holder.start) && hold.began <= self.now
        });
        holds
            .map(|hold| {
                let mut lined = self.empty();
                let to = hold
                    .ended
                    .filter(|ended| *ended <= self.now)
                    .unwrap_or(self.now);
                self.stroke(&mut lined, hold.began, to, '█', self.theme.holder());
                let text = format!("{}  not of this session", names(&hold.streams));
                self.beside(&mut lined, hold.began, to, &text);
                let label = format!(" ▲ {} {}", hold.holder.comm, hold.holder.pid);
                self.finish(&label, self.theme.holder(), lined)
            })
            .collect()
    }

    /// What the server was told and did.
    fn server(&self, line: &Timeline) -> Line<'static> {
        let mut lined = self.empty();
        let theme = self.theme;
        for change in line.connection.iter().filter(|it| it.time <= self.now) {
            self.put(
                &mut lined,
                change.time,
                if change.error == 0 { 'F' } else { '!' },
                theme.warning(),
            );
        }
        for news in line.news.iter().filter(|it| it.time <= self.now) {
            let sign = match news.stage {
                Stage::Generated => 's',
                Stage::Delivered => 'S',
                Stage::Reaped => 'R',
            };
            self.put(&mut lined, news.time, sign, theme.bold());
        }
        for signal in line
            .signals
            .iter()
            .filter(|it| it.to_server && it.time <= self.now)
        {
            self.put(&mut lined, signal.time, 'K', theme.bad());
        }
        if let Some(exit) = line.server_exit.filter(|it| it.time <= self.now) {
            self.put(&mut lined, exit.time, '┫', theme.bold());
        }
        let view = &line.session;
        let name = if view.server_exe.is_empty() {
            "server"
        } else {
            &view.server_exe
        };
        self.finish(
            &format!(" {name} {}", view.server_pid),
            theme.plain(),
            lined,
        )
    }

    /// Puts a sign at a moment, or where there is room right after it.
    fn put(&self, lined: &mut Lined, time: u64, sign: char, style: Style) {
        if let Some(column) = self.column(time) {
            let free = (column..self.cells.min(column + 6)).find(|at| lined.is_free(*at));
            lined.set(free.unwrap_or(column), sign, style);
        }
    }

    fn legend(&self) -> Vec<Line<'static>> {
        let text = "┊ command exited · s S R SIGCHLD sent, delivered, reaped · w r first write, read · \
                    E end-of-file · C closed by the server · G last writer gone · F connection ends · \
                    █ holds a stream";
        let lines = super::text::wrap(text, self.label + self.cells);
        let faint = self.theme.faint();
        lines
            .into_iter()
            .map(|line| Line::styled(format!(" {line}"), faint))
            .collect()
    }
}

impl Lined {
    fn set(&mut self, column: usize, sign: char, style: Style) {
        if let Some(cell) = self.0.get_mut(column) {
            *cell = Some((sign, style));
        }
    }

    fn is_free(&self, column: usize) -> bool {
        let cell = self.0.get(column).copied().flatten();
        cell.is_some_and(|(sign, _)| matches!(sign, ' ' | '┊' | '─'))
    }

    /// Writes a text as far as there is room.
    fn write(&mut self, column: usize, text: &str, style: Style) {
        let mut at = column;
        for c in text.chars() {
            let wide = c.width().unwrap_or(0);
            if wide == 0 {
                // What it belongs to has its cell.
                continue;
            }
            if at + wide > self.0.len() {
                return;
            }
            self.0[at] = Some((c, style));
            if wide == 2 {
                self.0[at + 1] = None;
            }
            at += wide;
        }
    }
}

fn names(slots: &[Slot]) -> String {
    match slots {
        [] => String::new(),
        _ => {
            let names: Vec<_> = slots.iter().map(|slot| slot.name()).collect();
            format!("holds {}", names.join(", "))
        }
    }
}

fn short(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(_) => ended(exit).trim_start_matches("was killed by ").to_owned(),
    }
}

/// The next of 1, 2, 5, 10, 20, … ns.
fn round_up(ns: u64) -> u64 {
    let mut unit = 1u64;
    loop {
        for step in [1, 2, 5] {
            if unit.saturating_mul(step) >= ns {
                return unit.saturating_mul(step).max(1);
            }
        }
        match unit.checked_mul(10) {
            Some(next) => unit = next,
            None => return u64::MAX,
        }
    }
}

/// A round time, shortly.
fn round(ns: u64) -> String {
    let trimmed = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match ns {
        0..1_000_000 => format!("{} µs", trimmed(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", trimmed(ns as f64 / 1e6)),
        1_000_000_000..600_000_000_000 => format!("{} s", trimmed(ns as f64 / 1e9)),
        600_000_000_000..36_000_000_000_000 => format!("{} min", trimmed(ns as f64 / 60e9)),
        _ => format!("{} h", trimmed(ns as f64 / 3600e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (ns, step) in [(0, 1), (1, 1), (3, 5), (11, 20), (260_000_000, 500_000_000)] {
            assert_eq!(round_up(ns), step);
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
        assert_eq!(round(1_500_000_000), "1.5 s");
        assert_eq!(round(200_000_000), "200 ms");
    }

    #[test]
    fn wide_text_stays_within_the_chart() {
        let mut lined = Lined(vec![Some((' ', Style::new())); 10]);
        lined.write(5, "日本語日本語", Style::new());
        let text: String = lined.0.iter().flatten().map(|(c, _)| *c).collect();
        assert_eq!(crate::tui::view::width(&text), 10);
        assert_eq!(text.trim(), "日本");
    }
}
