//! A lane for each stream: its events, bytes written and read, and unread bytes.

use ratatui::{style::Style, text::Line};

use super::{cells::Cells, chart::Chart};
use crate::{
    model::timeline::{Edge, Lane, Point, Timeline},
    tui::view::text::{bar, bytes},
};

impl Chart {
    pub(super) fn lane(&self, line: &Timeline, lane: &Lane, full: bool) -> Vec<Line<'static>> {
        let theme = self.theme;
        let points: Vec<Point> = lane
            .points
            .iter()
            .copied()
            .filter(|it| it.time <= self.now)
            .collect();
        let last = points.last().copied();
        let sums = |of: fn(&Point) -> u64| last.as_ref().map_or(0, of);
        let moved = sums(|it| it.written).max(sums(|it| it.read));
        let most = points.iter().map(|point| point.unread).max().unwrap_or(0);
        let mut out = Vec::new();
        let name = lane.slot.name();
        let marks = self.edges(line, lane);
        if moved == 0 && most == 0 {
            return vec![self.finish(&format!(" {name} {}", lane.transport), theme.plain(), marks)];
        }
        let about = format!(" {name} {} {}", lane.transport, bytes(moved));
        out.push(self.finish(&about, theme.plain(), marks));
        let label = |text: &str, n: u64| format!("   {text} {}", bytes(n));
        if full {
            let rates = self.rates(&points, |it| it.written);
            out.push(self.bars(
                &label("written", sums(|it| it.written)),
                &rates,
                0.0,
                theme.written(),
            ));
        }
        let rates = self.rates(&points, |it| it.read);
        out.push(self.bars(
            &label("read", sums(|it| it.read)),
            &rates,
            0.0,
            theme.read(),
        ));
        let levels = self.levels(&points);
        let unread = label("unread, max", most);
        out.push(self.bars(&unread, &levels, most as f64, theme.unread()));
        out
    }

    /// The line of events, drawn while the stream is open.
    fn edges(&self, line: &Timeline, lane: &Lane) -> Cells {
        let mut cells = self.empty();
        let ends = |edge| matches!(edge, Edge::ServerClose | Edge::SessionClose);
        let close = lane.marks.iter().filter(|mark| ends(mark.edge));
        let end = close.map(|mark| mark.time).max();
        let end = end
            .or(line.closed.as_ref().map(|it| it.time))
            .unwrap_or(self.now);
        self.stroke(
            &mut cells,
            line.session.opened,
            end.min(self.now),
            '─',
            self.theme.faint(),
        );
        for mark in lane.marks.iter().filter(|it| it.time <= self.now) {
            let (sign, style) = match mark.edge {
                Edge::FirstWrite => ('w', self.theme.written()),
                Edge::FirstRead => ('r', self.theme.read()),
                Edge::Eof => ('E', self.theme.good()),
                Edge::WritersGone => ('G', self.theme.faint()),
                Edge::ServerClose if mark.unread > 0 && lane.slot.is_output() => {
                    ('C', self.theme.bad())
                }
                Edge::ServerClose => ('C', self.theme.bold()),
                Edge::SessionClose => ('c', self.theme.faint()),
                Edge::Refused => ('X', self.theme.bad()),
            };
            self.put(&mut cells, mark.time, sign, style);
        }
        cells
    }

    /// Bytes in each column. Between two points they are spread evenly.
    fn rates(&self, points: &[Point], of: fn(&Point) -> u64) -> Vec<f64> {
        let mut at = 0;
        let mut sum = |time: u64| {
            while at + 1 < points.len() && points[at + 1].time <= time {
                at += 1;
            }
            let Some(point) = points.get(at) else {
                return 0.0;
            };
            let here = of(point) as f64;
            match points.get(at + 1) {
                _ if time < point.time => 0.0,
                Some(next) if next.time > point.time => {
                    let share = (time - point.time) as f64 / (next.time - point.time) as f64;
                    here + (of(next) as f64 - here) * share
                }
                _ => here,
            }
        };
        let mut before = sum(self.time(0));
        (0..self.cells)
            .map(|column| {
                let until = sum(self.time(column + 1));
                let moved = until - before;
                before = until;
                moved
            })
            .collect()
    }

    /// Maximum of unread bytes in each column.
    fn levels(&self, points: &[Point]) -> Vec<f64> {
        let mut levels = vec![0.0f64; self.cells];
        for (at, point) in points.iter().enumerate() {
            let next = points.get(at + 1).map_or(self.now, |next| next.time);
            if next < self.from || point.time > self.to {
                continue;
            }
            let (first, last) = (self.nearest(point.time), self.nearest(next));
            // The next point's column belongs to the next point.
            let last = if last > first { last - 1 } else { last };
            for level in &mut levels[first..=last] {
                *level = level.max(point.unread as f64);
            }
        }
        levels
    }

    fn bars(&self, label: &str, values: &[f64], most: f64, style: Style) -> Line<'static> {
        let most = values.iter().copied().fold(most, f64::max);
        let mut cells = self.empty();
        for (column, value) in values.iter().enumerate() {
            let sign = bar(*value, most);
            if sign != ' ' {
                cells.set(column, sign, style);
            }
        }
        self.finish(label, self.theme.faint(), cells)
    }
}
