//! The session view: description, history, bytes and findings of one session.

use std::sync::Arc;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    Theme, gantt, heading, left, line, lines, right,
    text::{age, fit, under},
    theme::{kind_sign, outcome_sign, sign},
    time_of_day,
};
use crate::{
    model::{
        Finding, HolderView, Kind, Origin, Slot, State as Stage, Verdict,
        message::{command, duration, ended, held, own_server, user},
        timeline::{Lane, Timeline},
    },
    tui::state::{
        State, Viewport,
        row::{Condition, Outcome, Row},
    },
};

pub fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) -> Viewport {
    let cells = usize::from(area.width);
    let Some(row) = state.session().and_then(|id| state.rows.get(&id.0)) else {
        line(
            buffer,
            area,
            1,
            &Line::styled("  no session selected; choose one in view 1", theme.faint()),
        );
        return Viewport::default();
    };
    let now = state.clock.now();
    let mut out = head(row, state, cells, theme);
    let Some(timeline) = state.timeline() else {
        out.push(Line::default());
        out.push(Line::styled("  loading history…", theme.faint()));
        return lines(buffer, area, &out, state.scroll);
    };
    out.push(heading("history", cells, theme));
    let size = gantt::Size {
        cells,
        full: area.height >= 30,
    };
    out.extend(gantt::draw(timeline, state, size, theme));
    out.push(heading("bytes", cells, theme));
    out.extend(ledger(timeline, state, cells, theme));
    let findings = state.log.of(row.view.id, now);
    out.push(heading("findings", cells, theme));
    if findings.is_empty() {
        out.push(Line::styled(
            format!(" {}", nothing_found(row, now)),
            theme.faint(),
        ));
    }
    for it in findings {
        out.extend(finding(it, state, cells, theme));
    }
    lines(buffer, area, &out, state.scroll)
}

/// `session 4711-1k2j3 · alice from 10.0.0.5 · sleep 20`.
pub fn who(row: &Row) -> String {
    let view = &row.view;
    let from = match view.peer {
        Some(peer) => format!(" from {}", peer.ip()),
        None => String::new(),
    };
    format!(
        "session {} · {}{from}{} · {}",
        view.id,
        user(view),
        own_server(view),
        command(view)
    )
}

/// The text for a session without findings.
pub fn nothing_found(row: &Row, now: u64) -> String {
    match row.condition(now) {
        Condition::Running => "no problem found; the command is running".to_owned(),
        Condition::Ending => {
            "the command has exited; the server is reading the rest of its output".to_owned()
        }
        Condition::Closed => match row.outcome(now) {
            Outcome::Unknown => {
                let gaps: Vec<_> = row
                    .closed
                    .iter()
                    .flat_map(|closed| closed.gaps.iter().map(|gap| gap.name().replace('_', " ")))
                    .collect();
                format!("evidence is missing: {}", gaps.join(", "))
            }
            Outcome::ClientGone => "the client left before it had received everything".to_owned(),
            _ => "the server read all output and delivered it, as far as the kernel can tell"
                .to_owned(),
        },
        Condition::Orphaned | Condition::Stalled | Condition::Waiting => String::new(),
    }
}

fn head(row: &Row, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let now = state.clock.now();
    let view = &row.view;
    let condition = row.condition(now);
    let outcome = row.outcome(now);
    let mut status = vec![Span::styled(
        format!("{} {}", sign(condition), condition.name()),
        theme.condition(condition),
    )];
    if outcome != Outcome::Open {
        status.push(Span::styled(
            format!("{} {}", outcome_sign(outcome), outcome.name()),
            theme.outcome(outcome),
        ));
    }
    if let Some(troubles) = row.past_troubles(now) {
        status.push(Span::raw(troubles));
    }
    match (view.exit, view.exited) {
        (Some(exit), Some(at)) if at <= now => status.push(Span::raw(format!(
            "command {} at {}",
            ended(exit),
            time_of_day(state, at)
        ))),
        (Some(exit), None) => status.push(Span::raw(format!("command {}", ended(exit)))),
        _ => {}
    }
    let lasted = match condition {
        Condition::Closed => "was open for",
        _ => "open for",
    };
    status.push(Span::raw(format!("{lasted} {}", age(row.age(now)))));
    status.push(Span::raw(format!(
        "opened {}",
        time_of_day(state, row.opened)
    )));
    let ends = match (view.peer, view.local) {
        (Some(peer), Some(local)) => format!("{peer} → {local}"),
        _ => "unknown connection".to_owned(),
    };
    let server = match view.server_pid {
        0 => "unknown server".to_owned(),
        pid => format!("server {} {pid}", view.server_exe),
    };
    let mut out = vec![
        Line::styled(
            format!(
                " {}",
                fit(&format!("{} · {ends} · {server}", user(view)), cells - 1)
            ),
            theme.plain(),
        ),
        Line::styled(format!(" {}", fit(&command(view), cells - 1)), theme.bold()),
    ];
    out.extend(side_by_side(status, cells));
    out
}

/// Parts beside each other, on as many lines as they need.
fn side_by_side(parts: Vec<Span<'static>>, cells: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let mut line = Line::default();
    for part in parts {
        if !line.spans.is_empty() && line.width() + 3 + part.width() > cells {
            out.push(std::mem::take(&mut line));
        }
        line.push_span(Span::raw(if line.spans.is_empty() { " " } else { "   " }));
        line.push_span(part);
    }
    out.push(line);
    out
}

/// A table of each stream's bytes.
fn ledger(timeline: &Timeline, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let now = state.clock.now();
    let object = if cells < 100 { 0 } else { 16 };
    let column = if object > 0 {
        format!("{} ", left("OBJECT", object))
    } else {
        String::new()
    };
    let mut out = vec![Line::styled(
        format!(
            " {} {column}{} {} {} {} {} MARGIN",
            left("STREAM", 7),
            right("WRITTEN", 12),
            right("READ", 12),
            right("UNREAD", 9),
            right("LOST", 10),
            left(" VERDICT", 13),
        ),
        theme.heading(),
    )];
    for lane in &timeline.streams {
        out.push(entry(lane, timeline, object, state, theme));
        let report = closed(timeline, lane.slot, now);
        if let Some(note) = report.and_then(|report| report.note.as_deref()) {
            let label = Span::raw(" ".repeat(9));
            out.extend(under(label, note, theme.faint(), cells));
        }
    }
    if let Some(carried) = timeline
        .closed
        .as_ref()
        .filter(|it| it.time <= now)
        .and_then(|it| it.carried)
    {
        let text = format!(
            "meanwhile on the connection (encrypted): {} B written by the server, {} B sent, {} B acknowledged",
            carried.queued, carried.sent, carried.acked
        );
        out.extend(under(Span::raw(" "), &text, theme.faint(), cells));
    }
    out
}

fn closed(timeline: &Timeline, slot: Slot, now: u64) -> Option<&crate::model::StreamReport> {
    let closed = timeline.closed.as_ref().filter(|it| it.time <= now)?;
    closed.streams.iter().find(|it| it.slot == slot)
}

fn entry(
    lane: &Lane,
    timeline: &Timeline,
    object: usize,
    state: &State,
    theme: Theme,
) -> Line<'static> {
    let now = state.clock.now();
    let point = lane.at(now);
    let report = closed(timeline, lane.slot, now);
    let (written, read, unread) = match (report, point) {
        (Some(it), _) => (it.written, it.read, it.unread),
        (None, Some(it)) => (it.written, it.read, it.unread),
        (None, None) => (0, 0, 0),
    };
    // A loss may be reported before the session closes.
    let findings = state.log.of(timeline.session.id, now);
    let cut = findings
        .iter()
        .find(|it| it.kind() == Kind::Truncated && it.stream() == Some(lane.slot));
    let cut = match report.map(|it| it.verdict) {
        Some(Verdict::Truncated(cut)) => Some((cut.bytes, cut.exact)),
        _ => cut.map(|it| (it.bytes(), it.exact)),
    };
    let (outcome, lost, style) = match (cut, report.map(|it| it.verdict)) {
        (Some(_), Some(verdict)) if verdict.is_clients_choice() => {
            (Outcome::ClientGone, "–".to_owned(), theme.plain())
        }
        (Some((bytes, exact)), _) => {
            let least = if exact { "" } else { "≥ " };
            (Outcome::Truncated, format!("{least}{bytes}"), theme.bad())
        }
        (None, Some(verdict)) => (Outcome::of(verdict), "–".to_owned(), theme.plain()),
        (None, None) => (Outcome::Open, "–".to_owned(), theme.plain()),
    };
    let margin = report
        .and_then(|it| it.margin_ns)
        .filter(|ns| *ns > 0)
        .map_or_else(String::new, |ns| duration(ns.unsigned_abs()));
    Line::from(vec![
        Span::styled(format!(" {} ", left(lane.slot.name(), 7)), theme.bold()),
        Span::styled(
            match object {
                0 => String::new(),
                _ => format!(
                    "{} ",
                    left(&format!("{}:[{}]", lane.transport, lane.object), object)
                ),
            },
            theme.faint(),
        ),
        Span::styled(
            format!("{} ", right(&written.to_string(), 12)),
            theme.written(),
        ),
        Span::styled(format!("{} ", right(&read.to_string(), 12)), theme.read()),
        Span::styled(
            format!("{} ", right(&unread.to_string(), 9)),
            theme.unread(),
        ),
        Span::styled(format!("{}  ", right(&lost, 10)), style),
        Span::styled(
            left(&format!("{} {}", outcome_sign(outcome), outcome.name()), 12),
            theme.outcome(outcome),
        ),
        Span::raw(margin),
    ])
}

/// A finding in full: its message, holders and fix.
pub fn finding(it: &Arc<Finding>, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let style = theme.finding(it.kind(), it.state);
    let label = match it.state {
        Stage::Resolved => format!(" ✓ {} (resolved) ", it.kind().name()),
        Stage::Open | Stage::Updated => format!(" {} {} ", kind_sign(it.kind()), it.kind().name()),
    };
    let mut out = vec![Line::from(vec![
        Span::styled(label, style),
        Span::styled(format!("at {}", time_of_day(state, it.time)), theme.faint()),
    ])];
    out.extend(under(
        Span::raw("   "),
        &state.sentence(it),
        theme.plain(),
        cells,
    ));
    for holder in it.holders().iter().take(8) {
        let label = Span::styled("   holder ", theme.holder());
        out.extend(under(label, &described(holder), theme.plain(), cells));
    }
    if it.holders().len() > 8 {
        let more = format!("   … and {} more", it.holders().len() - 8);
        out.push(Line::styled(more, theme.faint()));
    }
    for (label, part) in it.fix.parts() {
        let label = Span::styled(format!("   {label}: "), theme.good());
        out.extend(under(label, part, theme.bold(), cells));
    }
    out
}

/// A holder: the process, what it holds, and how it came by it.
pub fn described(it: &HolderView) -> String {
    let path = it.path.iter().map(ToString::to_string).collect::<Vec<_>>();
    let path = match (it.origin, &it.sender) {
        _ if it.streams.is_empty() => String::new(),
        (Origin::Inherited, _) => format!("   path {}", path.join(" → ")),
        (Origin::Passed, Some(sender)) => format!("   sent by {sender}, not inherited"),
        (Origin::Passed, None) => "   sent over a unix socket, not inherited".to_owned(),
        (Origin::Received, _) => "   received, not inherited".to_owned(),
        (Origin::Unknown, _) => "   unknown path".to_owned(),
    };
    let container = match &it.container {
        Some(container) => format!(" in container {}", container.short()),
        None => String::new(),
    };
    format!("{}[{}]{container} {}{path}", it.comm, it.pid, held(it))
}
