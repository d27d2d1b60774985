//! The history of a session over time: a bar for each process, a lane for each stream.

mod cells;
mod chart;
mod lanes;
mod processes;
mod round;
mod tree;

use ratatui::text::Line;

use self::{chart::Chart, tree::tree};
use super::Theme;
use crate::{model::timeline::Timeline, tui::state::State};

/// The room that the chart has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Width in cells.
    pub cells: usize,
    /// Draw every line of a lane, and the legend.
    pub full: bool,
}

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
            " … and {} more processes, which lived shorter",
            line.left_out.processes
        );
        out.push(Line::styled(more, theme.faint()));
    }
    out.extend(chart.outside_holders(line));
    out.push(chart.server(line));
    for lane in &line.streams {
        out.extend(chart.lane(line, lane, size.full));
    }
    if size.full {
        out.extend(chart.legend());
    }
    out
}

impl Chart {
    fn legend(&self) -> Vec<Line<'static>> {
        let text = "┊ command exited · s S R SIGCHLD sent, delivered, command reaped · w r first write, read · \
                    E end of file · C c closed by the server, by the session · G last writer gone · \
                    X write refused · F ! connection closed, failed · K signal to the server · █ holds a stream";
        let lines = super::text::wrap(text, self.label + self.cells);
        let faint = self.theme.faint();
        lines
            .into_iter()
            .map(|line| Line::styled(format!(" {line}"), faint))
            .collect()
    }
}
