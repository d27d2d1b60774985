//! One session: who it is, its course, its bytes, what was found.

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
            &Line::styled(
                "  no session is selected: choose one in view 1",
                theme.faint(),
            ),
        );
        return Viewport::default();
    };
    let now = state.clock.now();
    let mut out = head(row, state, cells, theme);
    let Some(timeline) = state.timeline() else {
        out.push(Line::default());
        out.push(Line::styled(
            "  its course is being fetched …",
            theme.faint(),
        ));
        return lines(buffer, area, &out, state.scroll);
    };
    out.push(heading("course", cells, theme));
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

/// `alice from 10.0.0.5 · sleep 20`.
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

/// What to say where nothing was found.
pub fn nothing_found(row: &Row, now: u64) -> String {
    match row.condition(now) {
        Condition::Running => "nothing is wrong: its command is running".to_owned(),
        Condition::Ending => {
            "its command has exited; the server is reading what is left".to_owned()
        }
        Condition::Closed => match row.outcome(now) {
            Outcome::Unknown => {
                let gaps: Vec<_> = row
                    .closed
                    .iter()
                    .flat_map(|closed| closed.gaps.iter().map(|gap| gap.name()))
                    .collect();
                format!("evidence is missing: {}", gaps.join(", "))
            }
            Outcome::ClientGone => "its client left before it had read everything".to_owned(),
            _ => "everything it wrote was read, and delivered as far as the kernel can tell"
                .to_owned(),
        },
        Condition::Orphaned | Condition::Stalled | Condition::Waiting => String::new(),
    }
}

fn head(row: &Row, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let now = state.clock.now();
    let view = &row.view;
    let condition = row.condition(now);
    let word = row.outcome(now);
    let exit = match (view.exit, view.exited) {
        (Some(exit), Some(at)) if at <= now => {
            format!("command {} at {}", ended(exit), time_of_day(state, at))
        }
        (Some(exit), None) => format!("command {}", ended(exit)),
        _ => format!(
            "command running for {}",
            age(now.saturating_sub(row.opened))
        ),
    };
    let mut status = vec![
        Span::raw(" "),
        Span::styled(
            format!("{} {}", sign(condition), condition.name()),
            theme.condition(condition),
        ),
    ];
    if word != Outcome::Open {
        status.push(Span::raw("  "));
        status.push(Span::styled(
            format!("{} {}", outcome_sign(word), word.name()),
            theme.outcome(word),
        ));
    }
    if let Some(had) = row.past_troubles(now) {
        status.push(Span::raw(format!(", {had}")));
    }
    status.push(Span::raw(format!(
        "   {exit}   lasted {}   opened {}",
        age(row.age(now)),
        time_of_day(state, row.opened)
    )));
    let ends = match (view.peer, view.local) {
        (Some(peer), Some(local)) => format!("{peer} → {local}"),
        _ => "connection not known".to_owned(),
    };
    let server = match view.server_pid {
        0 => "server not known".to_owned(),
        pid => format!("served by {} {pid}", view.server_exe),
    };
    vec![
        Line::styled(
            format!(
                " {}",
                fit(&format!("{} · {ends} · {server}", user(view)), cells - 1)
            ),
            theme.plain(),
        ),
        Line::styled(format!(" {}", fit(&command(view), cells - 1)), theme.bold()),
        Line::from(status),
    ]
}

/// What each stream moved, and lost.
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
        out.push(Line::styled(
            format!(
                " connection to the client meanwhile, encrypted: {} B written by the server, {} B sent, {} B acknowledged",
                carried.queued, carried.sent, carried.acked
            ),
            theme.faint(),
        ));
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
    // What is lost may be told before the last word is.
    let findings = state.log.of(timeline.session.id, now);
    let cut = findings
        .iter()
        .find(|it| it.kind == Kind::Truncated && it.stream == Some(lane.slot));
    let cut = match report.map(|it| it.verdict) {
        Some(Verdict::Truncated(cut)) => Some((cut.bytes, cut.exact)),
        _ => cut.map(|it| (it.bytes, it.exact)),
    };
    let (word, lost, style) = match (cut, report.map(|it| it.verdict)) {
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
            left(&format!("{} {}", outcome_sign(word), word.name()), 12),
            theme.outcome(word),
        ),
        Span::raw(margin),
    ])
}

/// A finding in full: the sentence, who holds what, the fix.
pub fn finding(it: &Arc<Finding>, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let style = theme.finding(it.kind, it.state);
    let label = match it.state {
        Stage::Resolved => format!(" ✓ {} (over) ", it.kind.name()),
        Stage::Open | Stage::Updated => format!(" {} {} ", kind_sign(it.kind), it.kind.name()),
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
    for holder in it.holders.iter().take(8) {
        let label = Span::styled("   holder ", theme.holder());
        out.extend(under(label, &described(holder), theme.plain(), cells));
    }
    if it.holders.len() > 8 {
        let more = format!("   … and {} more", it.holders.len() - 8);
        out.push(Line::styled(more, theme.faint()));
    }
    for (label, part) in it.fix.parts() {
        let label = Span::styled(format!("   {label}: "), theme.good());
        out.extend(under(label, part, theme.bold(), cells));
    }
    out
}

/// A holder: who, what it holds, by which path.
pub fn described(it: &HolderView) -> String {
    let path = it.path.iter().map(ToString::to_string).collect::<Vec<_>>();
    let path = match (it.origin, &it.sender) {
        _ if it.streams.is_empty() => String::new(),
        (Origin::Inherited, _) => format!("   path {}", path.join(" → ")),
        (Origin::Passed, Some(sender)) => format!("   sent by {sender}, not inherited"),
        (Origin::Passed, None) => "   sent over a unix socket, not inherited".to_owned(),
        (Origin::Received, _) => "   received, not inherited".to_owned(),
        (Origin::Unknown, _) => "   path not known".to_owned(),
    };
    let container = match &it.container {
        Some(container) => format!(" in container {}", container.short()),
        None => String::new(),
    };
    format!("{}[{}]{container} {}{path}", it.comm, it.pid, held(it))
}
