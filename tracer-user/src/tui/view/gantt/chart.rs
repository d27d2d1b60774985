//! The chart: maps times to columns, and draws bars, signs and text on its lines.

use ratatui::text::Span;
use ratatui::{style::Style, text::Line};

use super::{
    cells::Cells,
    round::{round, round_up},
};
use crate::{
    model::{message::duration, timeline::Timeline},
    tui::view::{Theme, left, text::fit, width},
};

/// Time from left to right. Times are ns of `CLOCK_BOOTTIME`.
pub(super) struct Chart {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The moment shown; later events are not drawn.
    pub(super) now: u64,
    /// Width of the labels on the left.
    pub(super) label: usize,
    /// Width of the chart right of the labels.
    pub(super) cells: usize,
    /// Columns with a sign on every line.
    pub(super) marks: Vec<(usize, char)>,
    pub(super) theme: Theme,
}

impl Chart {
    /// The column of a time, if that is visible.
    pub(super) fn column(&self, time: u64) -> Option<usize> {
        if time < self.from || time > self.to {
            return None;
        }
        Some(self.nearest(time))
    }

    pub(super) fn nearest(&self, time: u64) -> usize {
        let time = time.clamp(self.from, self.to) - self.from;
        let column = u128::from(time) * self.cells as u128 / u128::from(self.to - self.from);
        (column as usize).min(self.cells.saturating_sub(1))
    }

    /// The time at which a column begins.
    pub(super) fn time(&self, column: usize) -> u64 {
        let span = u128::from(self.to - self.from);
        self.from + (span * column as u128 / self.cells.max(1) as u128) as u64
    }

    pub(super) fn mark(&mut self, line: &Timeline) {
        let exited = line.session.exited.filter(|exited| *exited <= self.now);
        if let Some(column) = exited.and_then(|exited| self.column(exited)) {
            self.marks.push((column, '┊'));
        }
    }

    pub(super) fn empty(&self) -> Cells {
        let mut cells = Cells(vec![Some((' ', Style::new())); self.cells]);
        for (column, sign) in &self.marks {
            cells.set(*column, *sign, self.theme.faint());
        }
        cells
    }

    pub(super) fn finish(&self, label: &str, style: Style, cells: Cells) -> Line<'static> {
        let mut spans = vec![Span::styled(format!("{} ", left(label, self.label)), style)];
        let mut text = String::new();
        let mut of = Style::new();
        for (c, style) in cells.0.into_iter().flatten() {
            if style != of && !text.is_empty() {
                spans.push(Span::styled(std::mem::take(&mut text), of));
            }
            of = style;
            text.push(c);
        }
        spans.push(Span::styled(text, of));
        Line::from(spans)
    }

    /// The axis: round times since the session began.
    pub(super) fn axis(&self, began: u64) -> Line<'static> {
        let mut cells = Cells(vec![Some((' ', Style::new())); self.cells]);
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
            if column + width(&text) <= self.cells {
                cells.write(column, &text, self.theme.faint());
            }
            let Some(next) = at.checked_add(step) else {
                break;
            };
            at = next;
        }
        let span = format!(
            "  {} shown",
            duration(self.now.min(self.to) - self.from.min(self.now))
        );
        self.finish(&span, self.theme.faint(), cells)
    }

    /// Writes the text of a bar: after it, before it, or on it, wherever there is room.
    pub(super) fn beside(&self, cells: &mut Cells, from: u64, to: u64, text: &str) {
        let (first, last) = (self.nearest(from), self.nearest(to));
        let after = self.cells.saturating_sub(last + 2);
        let before = first.saturating_sub(1);
        let on = (last - first).saturating_sub(6);
        let wide = width(text);
        let faint = self.theme.faint();
        if wide <= after || after >= before.max(on) {
            cells.write(last + 2, &fit(text, after), faint);
        } else if wide <= before || before >= on {
            let text = fit(text, before);
            cells.write(before.saturating_sub(width(&text)), &text, faint);
        } else {
            cells.write(
                first + 3,
                &format!(" {} ", fit(text, on)),
                self.theme.plain(),
            );
        }
    }

    pub(super) fn stroke(&self, cells: &mut Cells, from: u64, to: u64, sign: char, style: Style) {
        if to < self.from || from > self.to || from > to {
            return;
        }
        for column in self.nearest(from)..=self.nearest(to) {
            cells.set(column, sign, style);
        }
    }

    /// Draws a sign at a time, or in the next free cells after it.
    pub(super) fn put(&self, cells: &mut Cells, time: u64, sign: char, style: Style) {
        if let Some(column) = self.column(time) {
            let free = (column..self.cells.min(column + 6)).find(|at| cells.is_free(*at));
            cells.set(free.unwrap_or(column), sign, style);
        }
    }
}
