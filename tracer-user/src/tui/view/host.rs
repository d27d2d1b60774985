//! The host view: the tracer's load, how sessions ended, the tracer, and gaps.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    Theme, heading, left, lines, right,
    text::{age, bar, count, under},
    theme::outcome_sign,
    time_of_day, time_of_day_in_zone,
};
use crate::{
    export,
    tui::state::{State, Viewport, host::MARGINS, row::Outcome},
};

/// Narrowest terminal with two columns.
const TWO_COLUMNS: usize = 110;

pub fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) -> Viewport {
    let cells = usize::from(area.width);
    if cells < TWO_COLUMNS {
        let mut all = load(state, cells, theme);
        all.extend(ends(state, cells, theme));
        all.extend(tracer(state, cells, theme));
        all.extend(gaps(state, cells, theme));
        return lines(buffer, area, &all, state.scroll);
    }
    let half = cells / 2 - 1;
    let mut at_left = load(state, half, theme);
    at_left.extend(ends(state, half, theme));
    let mut at_right = tracer(state, half, theme);
    at_right.extend(gaps(state, half, theme));
    let column = Rect {
        width: half as u16,
        ..area
    };
    let viewport = lines(buffer, column, &at_left, state.scroll);
    let other = Rect {
        x: area.x + area.width - half as u16,
        ..column
    };
    let other = lines(buffer, other, &at_right, state.scroll);
    Viewport {
        lines: viewport.lines.max(other.lines),
        ..viewport
    }
}

fn fact(label: &str, text: &str, style: Style, cells: usize) -> Vec<Line<'static>> {
    under(
        Span::raw(format!(" {}", left(label, 15))),
        text,
        style,
        cells,
    )
}

fn load(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let now = state.clock.now();
    let mut out = vec![heading("records per second", cells, theme)];
    let seconds = state.host.seconds(now, cells.saturating_sub(2));
    let rates: Vec<u64> = seconds.iter().map(|(records, _)| *records).collect();
    let most = rates.iter().copied().max().unwrap_or(0);
    for row in (0..4).rev() {
        let bars: String = rates.iter().map(|rate| part(*rate, most, row, 4)).collect();
        out.push(Line::from(vec![
            Span::raw(" "),
            Span::styled(bars, theme.written()),
        ]));
    }
    let load = state.host.load_at(now);
    // The current second is not complete, so the one before it is shown.
    let latest = rates.iter().rev().nth(1).copied().unwrap_or(0);
    out.push(Line::from(vec![
        Span::styled(format!(" now {}/s", count(latest)), theme.bold()),
        Span::raw(format!("   peak {}/s", count(most))),
        Span::raw(format!(
            "   total {}",
            count(load.map_or(0, |it| it.records))
        )),
        match load.map_or(0, |it| it.lost) {
            0 => Span::styled("   none lost", theme.good()),
            lost => Span::styled(format!("   ✗ {} lost", count(lost)), theme.bad()),
        },
    ]));
    let peak = seconds.iter().map(|(_, ring)| *ring).max().unwrap_or(0);
    out.push(Line::default());
    out.push(ring(peak, state.host.tracing.ring_bytes, cells, theme));
    out
}

/// The part of a bar that is drawn in one of its rows, counted from the bottom.
fn part(value: u64, most: u64, row: u64, rows: u64) -> char {
    if most == 0 || value == 0 {
        return ' ';
    }
    let eighths = (u128::from(value) * u128::from(rows) * 8).div_ceil(u128::from(most)) as u64;
    bar(eighths.saturating_sub(row * 8).min(8) as f64, 8.0)
}

fn ring(peak: u64, size: u64, cells: usize, theme: Theme) -> Line<'static> {
    if size == 0 {
        return Line::styled(
            format!(" ring buffer: peak {}", export::size(peak, false)),
            theme.faint(),
        );
    }
    let share = peak as f64 / size as f64;
    let wide = cells.saturating_sub(46).min(30);
    let full = ((share * wide as f64).ceil() as usize).min(wide);
    let style = match share {
        0.0..0.5 => theme.good(),
        0.5..0.8 => theme.warning(),
        _ => theme.bad(),
    };
    Line::from(vec![
        Span::raw(" ring buffer, peak "),
        Span::styled("█".repeat(full), style),
        Span::styled("░".repeat(wide - full), theme.faint()),
        Span::raw(format!(
            " {:.1}% of {}",
            share * 100.0,
            export::size(size, false)
        )),
    ])
}

fn ends(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let now = state.clock.now();
    let ends = state.host.ends(now);
    let mut out = vec![Line::default(), heading("closed sessions", cells, theme)];
    let mut line = Line::raw(" ");
    for (outcome, n) in [
        (Outcome::Clean, ends.clean),
        (Outcome::NearMiss, ends.near_miss),
        (Outcome::ClientGone, ends.client_gone),
        (Outcome::Unknown, ends.unknown),
        (Outcome::Truncated, ends.truncated),
    ] {
        let text = format!("{} {n} {}   ", outcome_sign(outcome), outcome.name());
        let style = match n {
            0 => theme.faint(),
            _ => theme.outcome(outcome),
        };
        if line.width() + super::width(text.trim_end()) > cells {
            out.push(std::mem::replace(&mut line, Line::raw(" ")));
        }
        line.push_span(Span::styled(text, style));
    }
    out.push(line);
    out.push(Line::default());
    out.push(heading(
        "near misses: how late the server read the last byte",
        cells,
        theme,
    ));
    let margins = state.host.margins(now);
    let most = margins.iter().copied().max().unwrap_or(0);
    let wide = cells.saturating_sub(24);
    for ((_, name), n) in MARGINS.iter().zip(margins) {
        let full = match most {
            0 => 0,
            most => (n as usize * wide).div_ceil(most as usize),
        };
        let label = if *name == "longer" {
            " longer".to_owned()
        } else {
            format!(" up to {name}")
        };
        out.push(Line::from(vec![
            Span::styled(format!("{} ", left(&label, 15)), theme.faint()),
            Span::raw(format!("{} ", right(&n.to_string(), 5))),
            Span::styled("█".repeat(full), theme.read()),
        ]));
    }
    out
}

fn tracer(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut out = vec![heading("tracer", cells, theme)];
    let plain = theme.plain();
    let mut add =
        |label: &str, text: &str, style: Style| out.extend(fact(label, text, style, cells));
    if let Some(started) = &state.host.started {
        add(
            "host",
            &format!("{}, Linux {}", started.host, started.kernel),
            plain,
        );
        add("backend", &started.backend, theme.bold());
        let began = time_of_day_in_zone(state, started.time);
        let since = age(state.clock.now().saturating_sub(started.time));
        add("tracing since", &format!("{began}, {since}"), plain);
        let servers: Vec<_> = started.servers.iter().map(|name| name.as_str()).collect();
        add("servers", &servers.join(" "), plain);
    }
    add("source", &state.setup.source, plain);
    if let Some(load) = state.host.load_at(state.clock.now()) {
        if let Some(resident) = load.resident {
            add("memory", &export::size(resident, false), plain);
        }
        if let Some(cpu) = load.cpu {
            let share = state.host.cpu_share(state.clock.now()).unwrap_or(0.0) * 100.0;
            let used = format!("{share:.1}% of one, {} in total", age(cpu));
            add("processor", &used, plain);
        }
    }
    let (samples, updates) = state.host.missed;
    if samples + updates > 0 {
        let text =
            format!("{samples} samples and {updates} other updates: the terminal was too slow");
        add("not shown", &text, theme.warning());
    }
    let tracing = &state.host.tracing;
    for missing in &tracing.missing {
        add("not seen", missing, theme.warning());
    }
    for refused in &tracing.refused {
        add("not used", refused, theme.faint());
    }
    if !tracing.attached.is_empty() {
        let label = format!("{} probes", tracing.attached.len());
        add(&label, &tracing.attached.join(", "), theme.faint());
    }
    out
}

fn gaps(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut out = vec![
        Line::default(),
        heading("gaps: missing evidence", cells, theme),
    ];
    let before = out.len();
    for gap in state.host.gaps(state.clock.now()).take(50) {
        let label = Span::styled(
            format!(
                " {} {} ",
                time_of_day(state, gap.time),
                left(&gap.reason.name().replace('_', " "), 14)
            ),
            theme.warning(),
        );
        out.extend(under(label, &gap.message, theme.plain(), cells));
    }
    if out.len() == before {
        out.push(Line::styled(" none", theme.good()));
    }
    out
}
