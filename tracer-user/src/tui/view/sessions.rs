//! The sessions view: the list, and the selected session below it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    Theme, gantt, left, line, lines, right, select, session,
    text::{age, bytes, spark},
    theme::{outcome_sign, sign},
};
use crate::model::message::without_command;
use crate::tui::{
    feed::Phase,
    state::{
        State, Viewport,
        list::{Group, Item, Sort, peer, user},
        row::{Condition, Outcome, Row},
    },
};

/// Width of each column; 0 if it is hidden.
struct Columns {
    user: usize,
    peer: usize,
    pid: usize,
    command: usize,
    age: usize,
    bytes: usize,
    verdict: usize,
    rate: usize,
    rates: usize,
}

/// Width of the columns whose width is fixed.
const STATE: usize = 10;
const AGE: usize = 5;
const BYTES: usize = 6;
const VERDICT: usize = 11;
/// Minimum width of a command: with less, commands look the same.
const COMMAND: usize = 20;

impl Columns {
    fn of(cells: usize) -> Self {
        let (user, peer, rate, rates) = match cells {
            0..100 => (7, 12, 0, 8),
            100..160 => (10, 15, 5, 16),
            _ => (14, 26, 5, 40),
        };
        let mut it = Self {
            user,
            peer,
            pid: 7,
            command: 0,
            age: AGE,
            bytes: BYTES,
            verdict: VERDICT,
            rate,
            rates,
        };
        // The least important column is hidden first; the pane below shows all of the selected session.
        let mut narrower: [fn(&mut Self); 5] = [
            |it| (it.rate, it.rates) = (0, 0),
            |it| it.bytes = 0,
            |it| it.peer = 0,
            |it| it.verdict = 0,
            |it| it.age = 0,
        ];
        for narrow in &mut narrower {
            if cells >= it.used() + COMMAND {
                break;
            }
            narrow(&mut it);
        }
        it.command = cells.saturating_sub(it.used()).max(COMMAND);
        it
    }

    /// Width of all columns except the command's, with the gaps before, between and after them.
    fn used(&self) -> usize {
        let columns = [
            STATE,
            self.age,
            self.bytes,
            self.verdict,
            self.user,
            self.peer,
            self.pid,
            self.rate,
            self.rates,
        ];
        let shown = columns.iter().filter(|cells| **cells > 0);
        shown.map(|cells| cells + 1).sum::<usize>() + 2
    }
}

/// A column's text and the gap after it; nothing if the column is hidden.
fn column(text: String, cells: usize) -> String {
    match cells {
        0 => String::new(),
        _ => format!("{text} "),
    }
}

pub fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) -> Viewport {
    let items = state.items();
    let selected = state.selected_item(&items);
    let detail = detail(state, area, theme);
    let most = usize::from(area.height).saturating_sub(1);
    let pane = detail.len().min(most * 3 / 5);
    let list = Rect {
        y: area.y + 1,
        height: (most - pane) as u16,
        ..area
    };
    let columns = Columns::of(usize::from(area.width));
    line(buffer, area, 0, &heads(state, &columns, theme));
    let page = usize::from(list.height);
    let first = first(
        state.viewport.first,
        selected.unwrap_or(0),
        items.len(),
        page,
    );
    let now = state.clock.now();
    for (at, item) in items.iter().enumerate().skip(first).take(page) {
        let y = (at - first) as u16;
        match item {
            Item::Group {
                name,
                sessions,
                open,
                attention,
            } => line(
                buffer,
                list,
                y,
                &head(name, [*sessions, *open, *attention], state, theme),
            ),
            Item::Session(id) => {
                if let Some(row) = state.rows.get(&id.0) {
                    line(buffer, list, y, &one(row, now, &columns, theme));
                }
                if Some(at) == selected {
                    select(buffer, list, y, theme);
                }
            }
        }
    }
    if items.is_empty() {
        for (at, text) in nothing(state).iter().enumerate() {
            line(
                buffer,
                list,
                at as u16 + 1,
                &Line::styled(format!("  {text}"), theme.faint()),
            );
        }
    }
    let below = Rect {
        y: list.y + list.height,
        height: pane as u16,
        ..area
    };
    lines(buffer, below, &detail, 0);
    Viewport {
        page,
        lines: items.len(),
        first,
        top: list.y,
    }
}

/// Index of the first visible item, so that the selected one is visible and the list moves little.
pub fn first(before: usize, selected: usize, items: usize, page: usize) -> usize {
    let most = items.saturating_sub(page);
    before
        .min(selected)
        .max((selected + 1).saturating_sub(page))
        .min(most)
}

fn nothing(state: &State) -> Vec<String> {
    if !state.list.filter.is_empty() {
        return vec![format!(
            "no session matches `{}`; Esc clears the filter",
            state.list.filter
        )];
    }
    match &state.phase {
        Phase::Preparing(what) => vec![format!("{what} …")],
        _ if !state.setup.live || !state.clock.is_latest() => vec![
            "no sessions at this time".to_owned(),
            "press . for the next event, n for the next finding, space to play".to_owned(),
        ],
        _ => vec![
            "no sessions yet".to_owned(),
            "to see one, run elsewhere: ssh <this host> 'sleep 20 &'".to_owned(),
        ],
    }
}

fn heads(state: &State, columns: &Columns, theme: Theme) -> Line<'static> {
    let head = |sort: Sort, name: &str| match sort == state.list.sort {
        true if state.list.reverse => format!("{}▴", name.to_uppercase()),
        true => format!("{}▾", name.to_uppercase()),
        false => name.to_uppercase(),
    };
    let cut = |sort, name, cells| column(left(&head(sort, name), cells), cells);
    let number = |sort, name, cells| column(right(&head(sort, name), cells), cells);
    let mut text = [
        " ".to_owned(),
        cut(Sort::State, "state", STATE),
        cut(Sort::User, "user", columns.user),
        cut(Sort::Peer, "peer", columns.peer),
        column(right("PID", columns.pid), columns.pid),
        cut(Sort::Command, "command", columns.command),
        number(Sort::Age, "age", columns.age),
        number(Sort::Bytes, "bytes", columns.bytes),
        cut(Sort::Verdict, "verdict", columns.verdict),
    ]
    .concat();
    let rate = head(Sort::Rate, "rate");
    if columns.rate > 0 {
        text.push_str(&format!(
            "{} last {} s",
            right(&rate, columns.rate),
            columns.rates
        ));
    } else if columns.rates > 0 {
        text.push_str(&rate);
    }
    Line::styled(text, theme.heading())
}

fn head(
    name: &str,
    [sessions, open, attention]: [usize; 3],
    state: &State,
    theme: Theme,
) -> Line<'static> {
    let attention = match attention {
        0 => String::new(),
        1 => ", 1 needs attention".to_owned(),
        n => format!(", {n} need attention"),
    };
    let noun = if sessions == 1 { "session" } else { "sessions" };
    let of = match state.list.group {
        Group::Peer => "from ",
        Group::None | Group::User | Group::Verdict => "",
    };
    Line::from(vec![
        Span::styled(format!(" ▸ {of}{name}"), theme.bold()),
        Span::styled(
            format!("  {sessions} {noun}, {open} open{attention}"),
            theme.faint(),
        ),
    ])
}

fn one(row: &Row, now: u64, columns: &Columns, theme: Theme) -> Line<'static> {
    let condition = row.condition(now);
    let rest = match condition {
        Condition::Closed => theme.faint(),
        _ => theme.plain(),
    };
    let command = match &row.view.command {
        Some(command) => script(command),
        None => without_command(&row.view),
    };
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(
            left(&format!("{} {}", sign(condition), condition.name()), STATE),
            theme.condition(condition),
        ),
        Span::raw(" "),
        Span::styled(column(left(&user(row), columns.user), columns.user), rest),
        Span::styled(column(left(&peer(row), columns.peer), columns.peer), rest),
    ];
    let pid = row.view.leader_pid.to_string();
    let total = row.throughput.total_at(now);
    let rate = row.throughput.rate(now);
    let shown = |n: u64| if n == 0 { "–".to_owned() } else { bytes(n) };
    let number = |text: &str, cells| Span::styled(column(right(text, cells), cells), rest);
    spans.extend([
        number(&pid, columns.pid),
        Span::styled(left(command, columns.command), rest),
        Span::raw(" "),
        number(&age(row.age(now)), columns.age),
        number(&shown(total), columns.bytes),
    ]);
    if columns.verdict > 0 {
        let had_troubles = row.past_troubles(now).is_some();
        spans.extend([
            verdict(row.outcome(now), condition, had_troubles, theme),
            Span::raw(" "),
        ]);
    }
    if columns.rate > 0 {
        let rate = right(&shown(rate), columns.rate);
        spans.push(Span::styled(format!("{rate} "), rest));
    }
    if columns.rates > 0 {
        let rates = row.throughput.rates(now, columns.rates);
        spans.push(Span::styled(spark(&rates), theme.written()));
    }
    Line::from(spans)
}

/// The script of a command such as `bash -c script`; other commands as they are.
fn script(command: &str) -> &str {
    let inner = command
        .split_once(" -c ")
        .filter(|(shell, _)| !shell.contains(' ') && shell.ends_with("sh"))
        .map(|(_, script)| script);
    let quoted = inner.and_then(|it| it.strip_prefix('\'')?.strip_suffix('\''));
    let one = |it: &&str| !it.contains('\'') && (quoted.is_some() || !it.contains(' '));
    quoted.or(inner).filter(one).unwrap_or(command)
}

fn verdict(
    outcome: Outcome,
    condition: Condition,
    had_troubles: bool,
    theme: Theme,
) -> Span<'static> {
    let text = match (outcome, condition) {
        (Outcome::Open, Condition::Closed) => String::new(),
        (Outcome::Open, _) => "–".to_owned(),
        // Had troubles: the pane below and the session view say which.
        _ if had_troubles => format!("{} {} ▲", outcome_sign(outcome), outcome.name()),
        _ => format!("{} {}", outcome_sign(outcome), outcome.name()),
    };
    let style: Style = theme.outcome(outcome);
    Span::styled(left(&text, VERDICT), style)
}

/// The pane with the selected session.
fn detail(state: &State, area: Rect, theme: Theme) -> Vec<Line<'static>> {
    let cells = usize::from(area.width);
    let Some(row) = state.session().and_then(|id| state.rows.get(&id.0)) else {
        return Vec::new();
    };
    let mut out = vec![super::heading(&session::who(row), cells, theme)];
    let now = state.clock.now();
    let findings = state.log.of(row.view.id, now);
    match findings.first() {
        Some(finding) => out.extend(session::finding(finding, state, cells, theme)),
        None => out.push(Line::styled(
            format!(" {}", session::nothing_found(row, now)),
            theme.faint(),
        )),
    }
    if area.height >= 20
        && let Some(timeline) = state.timeline()
    {
        out.push(Line::default());
        let small = gantt::Size {
            cells,
            full: area.height >= 45,
        };
        out.extend(gantt::draw(timeline, state, small, theme));
    }
    out
}
