//! Draws the state. Reads it and changes nothing; what drawing finds out about the size of a view comes
//! back as a [`Viewport`].

mod explain;
mod findings;
mod gantt;
mod host;
mod popup;
mod session;
mod sessions;
mod text;
mod theme;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

pub use self::{
    text::{fit, wrap},
    theme::Theme,
};
use self::{
    text::{left, right, width},
    theme::{kind_sign, sign},
};
use super::{
    feed::Phase,
    keys,
    state::{Mode, State, View, Viewport, row::Condition},
};
use crate::model::Kind;

/// Smallest terminal that views are drawn on: columns, rows.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme) -> Viewport {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        line(buffer, area, 0, &"terminal too small".into());
        return state.viewport;
    }
    title(buffer, row(area, 0), state, theme);
    summary(buffer, row(area, 1), state, theme);
    let scrubs = !state.clock.is_latest() || !state.setup.live;
    let below = if scrubs { 2 } else { 1 };
    let body = Rect {
        y: area.y + 2,
        height: area.height - 2 - below,
        ..area
    };
    let viewport = match state.view {
        View::Sessions => sessions::draw(buffer, body, state, theme),
        View::Session => session::draw(buffer, body, state, theme),
        View::Findings => findings::draw(buffer, body, state, theme),
        View::Host => host::draw(buffer, body, state, theme),
    };
    if scrubs {
        scrub(buffer, row(area, area.height - 2), state, theme);
    }
    footer(buffer, row(area, area.height - 1), state, theme);
    match &state.popup {
        None => viewport,
        Some(popup) => {
            let above = popup::draw(buffer, body, popup, state, theme);
            Viewport {
                top: viewport.top,
                ..above
            }
        }
    }
}

/// One row of an area.
fn row(area: Rect, at: u16) -> Rect {
    Rect {
        y: area.y + at,
        height: 1,
        ..area
    }
}

/// Draws a line.
fn line(buffer: &mut Buffer, area: Rect, at: u16, line: &Line<'_>) {
    if at < area.height {
        buffer.set_line(area.x, area.y + at, line, area.width);
    }
}

/// Highlights the selected line.
fn select(buffer: &mut Buffer, area: Rect, at: u16, theme: Theme) {
    let row = Rect {
        y: area.y + at,
        height: 1,
        ..area
    };
    buffer.set_style(row, theme.selected());
}

/// Draws lines, beginning with `first`.
fn lines(buffer: &mut Buffer, area: Rect, all: &[Line<'_>], first: usize) -> Viewport {
    let page = usize::from(area.height);
    let first = first.min(all.len().saturating_sub(page));
    for (at, it) in all[first..].iter().take(page).enumerate() {
        line(buffer, area, at as u16, it);
    }
    Viewport {
        page,
        lines: all.len(),
        first,
        top: area.y,
    }
}

/// Draws a line on the left and, if it fits beside that, one on the right of the same row.
fn both(buffer: &mut Buffer, area: Rect, at_left: &Line<'_>, at_right: &Line<'_>) {
    let (used, wanted) = (at_left.width() as u16, at_right.width() as u16);
    line(buffer, area, 0, at_left);
    if used + wanted < area.width {
        buffer.set_line(area.x + area.width - wanted, area.y, at_right, wanted);
    }
}

fn title(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    let phase = phase(state, theme);
    let unread = state.log.unread(state.clock.now());
    let tabs = |gap: &str, new: &str| {
        let mut spans = vec![Span::styled(
            " lastbyte ",
            theme.selected().patch(theme.bold()),
        )];
        for (at, view) in View::ALL.iter().enumerate() {
            let mut name = format!("{gap}{} {}{gap}", at + 1, view.name());
            if *view == View::Findings && unread > 0 {
                name = format!("{gap}{} {} ({unread}{new}){gap}", at + 1, view.name());
            }
            let style = match *view == state.view {
                true => theme.bold().patch(Style::new().underlined()),
                false => theme.faint(),
            };
            spans.push(Span::raw(" "));
            spans.push(Span::styled(name, style));
        }
        Line::from(spans)
    };
    let mut wide = tabs(" ", " new");
    if wide.width() + phase.width() >= usize::from(area.width) {
        wide = tabs("", "");
    }
    both(buffer, area, &wide, &phase);
}

/// The state of the source, and whether the past is shown.
fn phase(state: &State, theme: Theme) -> Line<'static> {
    let (text, style) = match &state.phase {
        Phase::Preparing(what) => (format!("… {what} "), theme.warning()),
        Phase::Lost(_) => ("✗ disconnected, retrying ".to_owned(), theme.bad()),
        Phase::Ended(_) => ("✗ ended ".to_owned(), theme.bad()),
        _ if state.clock.is_playing() => {
            (format!("▶ playing {}× ", state.clock.speed()), theme.good())
        }
        _ if !state.clock.is_latest() => ("‖ paused ".to_owned(), theme.warning()),
        Phase::Live => ("● live ".to_owned(), theme.good()),
        Phase::Complete => ("■ end of recording ".to_owned(), theme.plain()),
    };
    Line::styled(text, style)
}

fn summary(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    let counts = state.counts();
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(counts.open.to_string(), theme.bold()),
        Span::raw(" open"),
    ];
    let mut part = |n: usize, sign: &str, word: &str, style: Style| {
        if n > 0 {
            spans.push(Span::raw("   "));
            spans.push(Span::styled(format!("{sign} {n} {word}"), style));
        }
    };
    for (n, condition) in [
        (counts.orphaned, Condition::Orphaned),
        (counts.stalled, Condition::Stalled),
        (counts.waiting, Condition::Waiting),
    ] {
        part(
            n,
            sign(condition),
            condition.name(),
            theme.condition(condition),
        );
    }
    part(
        counts.truncated,
        kind_sign(Kind::Truncated),
        Kind::Truncated.name(),
        theme.bad(),
    );
    let at_left = Line::from(spans);
    let room = usize::from(area.width).saturating_sub(at_left.width() + 2);
    let about = match (&state.phase, &state.host.started) {
        (Phase::Lost(why) | Phase::Ended(why), _) => why.clone(),
        (_, Some(started)) => format!(
            "{} · {} · {}",
            started.host, started.backend, state.setup.source
        ),
        (_, None) => state.setup.source.clone(),
    };
    let about = format!("{} ", fit(&about, room.saturating_sub(1)));
    both(buffer, area, &at_left, &Line::styled(about, theme.faint()));
}

/// The scrub bar: the moment shown, and the moments with findings.
fn scrub(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    let now = state.clock.now();
    let (from, to) = (state.clock.oldest.unwrap_or(now), state.clock.newest);
    let begin = format!(" {} ", time_of_day(state, now));
    let end = format!(" {} ", time_of_day(state, to));
    let cells = usize::from(area.width).saturating_sub(width(&begin) + width(&end));
    if cells < 10 {
        return;
    }
    let span = (to - from).max(1);
    let column = |time: u64| {
        let ago = u128::from(time.saturating_sub(from)) * (cells as u128 - 1);
        ((ago / u128::from(span)) as usize).min(cells - 1)
    };
    let here = column(now);
    let mut bar: Vec<(&str, Style)> = (0..cells)
        .map(|at| match at <= here {
            true => ("━", theme.plain()),
            false => ("─", theme.faint()),
        })
        .collect();
    for (time, kind) in state.log.moments() {
        if time >= from && time <= to {
            bar[column(time)] = (
                kind_sign(kind),
                theme.finding(kind, crate::model::State::Open),
            );
        }
    }
    bar[here] = ("●", theme.bold());
    let mut spans = vec![Span::styled(begin, theme.bold())];
    spans.extend(
        bar.into_iter()
            .map(|(sign, style)| Span::styled(sign, style)),
    );
    spans.push(Span::styled(end, theme.faint()));
    line(buffer, area, 0, &Line::from(spans));
}

fn footer(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    if state.typing {
        let spans = vec![
            Span::styled(" filter: ", theme.key()),
            Span::raw(state.list.filter.clone()),
            Span::styled(" ", theme.selected()),
            Span::styled("   ⏎ apply  Esc clear  ^U erase", theme.faint()),
        ];
        return line(buffer, area, 0, &Line::from(spans));
    }
    if let Some(note) = state.notice() {
        let note = fit(note, usize::from(area.width).saturating_sub(2));
        let spans = vec![
            Span::raw(" "),
            Span::styled(note.into_owned(), theme.bold()),
        ];
        return line(buffer, area, 0, &Line::from(spans));
    }
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1;
    for (keys, does) in hints(state) {
        let wide = width(keys) + width(does) + 3;
        if used + wide > usize::from(area.width) {
            break;
        }
        used += wide;
        spans.push(Span::styled(keys, theme.key()));
        spans.push(Span::raw(format!(" {does}  ")));
    }
    line(buffer, area, 0, &Line::from(spans));
}

/// The most useful keys of the view or popup, for the footer.
fn hints(state: &State) -> Vec<(&'static str, &'static str)> {
    if state.mode() != Mode::Viewing {
        let tables = keys::tables(state.mode(), state.view);
        let keys = tables.iter().flat_map(|(_, keys)| *keys);
        return keys.map(|key| (key.keys, key.does)).collect();
    }
    let mut hints = vec![("?", "help"), ("q", "quit")];
    if !state.setup.live || !state.clock.is_latest() {
        hints.extend([
            ("space", "pause/play"),
            ("n N", "findings"),
            (". ,", "step"),
        ]);
    }
    hints.extend(match state.view {
        View::Sessions => [
            ("⏎", "open"),
            ("e", "explain"),
            ("/", "filter"),
            ("s", "sort"),
            ("b", "group"),
            ("y", "copy"),
        ]
        .to_vec(),
        View::Session => vec![
            ("Esc", "back"),
            ("e", "explain"),
            ("+ -", "zoom"),
            ("y", "copy"),
            ("w", "write JSON"),
        ],
        View::Findings => vec![
            ("⏎", "session"),
            ("f", "kind"),
            ("a", "near misses"),
            ("e", "explain"),
            ("y", "copy"),
        ],
        View::Host => vec![("↑ ↓", "scroll")],
    });
    if state.setup.live && state.clock.is_latest() {
        hints.extend([("n N", "findings"), ("space", "pause")]);
    } else {
        hints.push(("L", if state.setup.live { "live" } else { "end" }));
    }
    hints
}

/// `12:01:03.250`, in the user's time zone.
fn time_of_day(state: &State, time: u64) -> String {
    state.setup.zone.time_of_day(state.wall(time))
}

/// `12:01:03.250 +02:00`.
fn time_of_day_in_zone(state: &State, time: u64) -> String {
    let wall = state.wall(time);
    let zone = &state.setup.zone;
    format!("{} {}", zone.time_of_day(wall), zone.label(wall))
}

/// A heading with a rule to the right edge.
fn heading(text: &str, cells: usize, theme: Theme) -> Line<'static> {
    let text = fit(text, cells.saturating_sub(4)).into_owned();
    let rest = cells.saturating_sub(width(&text) + 4);
    Line::from(vec![
        Span::styled("── ", theme.faint()),
        Span::styled(text, theme.heading()),
        Span::styled(format!(" {}", "─".repeat(rest)), theme.faint()),
    ])
}
