//! The explanation of a session in sentences, and its events: the texts of `lastbyte explain` and
//! `lastbyte show`.

use ratatui::text::{Line, Span};

use super::{Theme, session, text::under};
use crate::{export, tui::state::State};

/// The explanation of the selected session, wrapped to `cells`.
pub fn lines(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let Some(row) = state.session().and_then(|id| state.rows.get(&id.0)) else {
        return vec![Line::raw("no session selected")];
    };
    let (Some(line), Some(started)) = (state.timeline(), &state.host.started) else {
        let who = Span::raw(" ");
        return under(who, &session::who(row), theme.bold(), cells);
    };
    let line = line.until(state.clock.now());
    let mut out = Vec::new();
    for sentence in export::explain(&line, started.wall_offset, &state.setup.zone) {
        let style = match sentence.starts_with("Fix: ") {
            true => theme.bold(),
            false => theme.plain(),
        };
        out.extend(under(Span::raw(" "), &sentence, style, cells));
    }
    out.push(Line::default());
    out.push(Line::styled(" What happened", theme.heading()));
    for moment in export::show(&line, started.wall_offset, &state.setup.zone) {
        // Events begin with the time since the session began.
        match moment.split_once(" s  ") {
            Some((time, what)) if time.trim_start().starts_with('+') => {
                let label = Span::styled(format!(" {time} s  "), theme.faint());
                out.extend(under(label, what, theme.plain(), cells));
            }
            _ => out.extend(under(Span::raw(" "), &moment, theme.faint(), cells)),
        }
    }
    out
}
