//! The findings view: the list, newest first, and the selected finding below it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    Theme, heading, left, line, lines, select, session, sessions, text::fit, theme::kind_sign,
    time_of_day,
};
use crate::{
    model::{Kind, State as Stage, message::who},
    tui::state::{State, Viewport, findings::LoggedFinding, row::Outcome},
};

const KINDS: [Kind; 5] = [
    Kind::Truncated,
    Kind::Orphaned,
    Kind::Stalled,
    Kind::Waiting,
    Kind::NearMiss,
];

pub fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) -> Viewport {
    let cells = usize::from(area.width);
    let shown = state.shown_findings();
    let selected = state.selected_finding(&shown).unwrap_or(0);
    line(buffer, area, 0, &kinds(state, theme));
    let mut detail = Vec::new();
    if let Some(finding) = state.finding() {
        detail.push(heading(&who(&finding.session), cells, theme));
        detail.extend(session::finding(&finding, state, cells, theme));
        if let Some(row) = state.rows.get(&finding.session.id.0) {
            detail.push(Line::default());
            detail.push(Line::styled(
                format!(" {}", fit(&session::who(row), cells - 1)),
                theme.faint(),
            ));
        }
    }
    let most = usize::from(area.height).saturating_sub(1);
    let pane = detail.len().min(most / 2);
    let page = most - pane;
    let list = Rect {
        y: area.y + 1,
        height: page as u16,
        ..area
    };
    let first = sessions::first(state.viewport.first, selected, shown.len(), page);
    for (at, logged) in shown.iter().enumerate().skip(first).take(page) {
        let y = (at - first) as u16;
        line(buffer, list, y, &one(logged, state, cells, theme));
        if at == selected {
            select(buffer, list, y, theme);
        }
    }
    if shown.is_empty() {
        line(
            buffer,
            list,
            1,
            &Line::styled(
                match state.kind {
                    Some(_) => "  no findings of this kind",
                    None => "  no findings",
                },
                theme.faint(),
            ),
        );
    }
    let below = Rect {
        y: list.y + list.height,
        height: pane as u16,
        ..area
    };
    lines(buffer, below, &detail, 0);
    Viewport {
        page,
        lines: shown.len(),
        first,
        top: list.y,
    }
}

/// The kinds, which of them is shown, and the number of findings of each.
fn kinds(state: &State, theme: Theme) -> Line<'static> {
    let all = match state.routine {
        true => " all + near misses ",
        false => " all findings ",
    };
    let shown = |is: bool| if is { theme.selected() } else { theme.faint() };
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(all, shown(state.kind.is_none())),
    ];
    for kind in KINDS {
        let style = shown(state.kind == Some(kind));
        spans.push(Span::raw(" "));
        spans.push(Span::styled(
            format!(" {} {} ", label(kind), state.count_of(kind)),
            style,
        ));
    }
    Line::from(spans)
}

/// The word for a kind on the screen.
fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::NearMiss => Outcome::NearMiss.name(),
        kind => kind.name(),
    }
}

fn one(logged: &LoggedFinding, state: &State, cells: usize, theme: Theme) -> Line<'static> {
    let now = state.clock.now();
    let Some(finding) = logged.at(now) else {
        return Line::default();
    };
    let kind = label(finding.kind());
    let kind = match finding.state {
        Stage::Resolved => format!("✓ {kind}, resolved"),
        Stage::Open | Stage::Updated => format!("{} {kind}", kind_sign(finding.kind())),
    };
    let before = format!(
        " {} {}  ",
        if logged.unread { "●" } else { " " },
        time_of_day(state, logged.began)
    );
    let kind = left(&kind, 20);
    let room = cells.saturating_sub(super::width(&before) + 21);
    Line::from(vec![
        Span::styled(
            before,
            if logged.unread {
                theme.bold()
            } else {
                theme.plain()
            },
        ),
        Span::styled(
            format!("{kind} "),
            theme.finding(finding.kind(), finding.state),
        ),
        Span::raw(fit(&state.sentence(finding), room).into_owned()),
    ])
}
