//! The list of sessions, and below it what is to be said of the selected one.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    Theme, gantt, left, line, lines, right, select, session,
    text::{age, count, spark},
    theme::{sign, word_sign},
};
use crate::model::message::without_command;
use crate::tui::{
    feed::Phase,
    state::{
        Drawn, State,
        list::{Group, Item, Sort, peer, user},
        row::{Condition, Row, Word},
    },
};

/// How wide each column is.
struct Columns {
    user: usize,
    peer: usize,
    pid: usize,
    command: usize,
    rate: usize,
    rates: usize,
}

/// Cells of the columns that are always as wide.
const STATE: usize = 10;
const AGE: usize = 5;
const BYTES: usize = 6;
const VERDICT: usize = 11;

impl Columns {
    fn of(cells: usize) -> Self {
        let (user, peer, pid, rate, rates) = match cells {
            0..100 => (7, 12, 0, 0, 8),
            100..160 => (10, 15, 7, 5, 16),
            _ => (14, 26, 7, 5, 40),
        };
        let columns = [STATE, AGE, BYTES, VERDICT, user, peer, pid, rate, rates];
        // With a gap after each, the command's too, and one before the first.
        let shown = columns.iter().filter(|cells| **cells > 0);
        let used: usize = shown.map(|cells| cells + 1).sum::<usize>() + 2;
        Self {
            user,
            peer,
            pid,
            rate,
            rates,
            command: cells.saturating_sub(used),
        }
    }
}

pub fn draw(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) -> Drawn {
    let items = state.items();
    let selected = state.item(&items);
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
    let first = first(state.drawn.first, selected.unwrap_or(0), items.len(), page);
    let now = state.clock.now();
    for (at, item) in items.iter().enumerate().skip(first).take(page) {
        let y = (at - first) as u16;
        match item {
            Item::Head {
                name,
                sessions,
                open,
                bad,
            } => line(
                buffer,
                list,
                y,
                &head(name, [*sessions, *open, *bad], state, theme),
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
    Drawn {
        page,
        lines: items.len(),
        first,
        top: list.y,
    }
}

/// The first item that is shown, so that the selected one is, and as little as possible moves.
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
            "no session is like `{}`: Esc shows all",
            state.list.filter
        )];
    }
    match &state.phase {
        Phase::Preparing(what) => vec![format!("{what} …")],
        _ if !state.setup.live || !state.clock.is_newest() => vec![
            "no session had begun by then".to_owned(),
            ". steps to what happened next, n to the next finding, space plays".to_owned(),
        ],
        _ => vec![
            "no session yet".to_owned(),
            "try, from anywhere: ssh thishost 'sleep 20 &'".to_owned(),
        ],
    }
}

fn heads(state: &State, columns: &Columns, theme: Theme) -> Line<'static> {
    let head = |sort: Sort, name: &str| match sort == state.list.sort {
        true if state.list.reverse => format!("{}▴", name.to_uppercase()),
        true => format!("{}▾", name.to_uppercase()),
        false => name.to_uppercase(),
    };
    let mut text = format!(
        " {} {} {} ",
        left(&head(Sort::State, "state"), STATE),
        left(&head(Sort::User, "user"), columns.user),
        left(&head(Sort::Peer, "peer"), columns.peer),
    );
    if columns.pid > 0 {
        text.push_str(&format!("{} ", right("PID", columns.pid)));
    }
    text.push_str(&format!(
        "{} {} {} {} ",
        left(&head(Sort::Command, "command"), columns.command),
        right(&head(Sort::Age, "age"), AGE),
        right(&head(Sort::Bytes, "bytes"), BYTES),
        left(&head(Sort::Verdict, "verdict"), VERDICT),
    ));
    let rate = head(Sort::Rate, "rate");
    if columns.rate > 0 {
        text.push_str(&format!("{} by the second", right(&rate, columns.rate)));
    } else {
        text.push_str(&rate);
    }
    Line::styled(text, theme.heading())
}

fn head(
    name: &str,
    [sessions, open, bad]: [usize; 3],
    state: &State,
    theme: Theme,
) -> Line<'static> {
    let bad = if bad > 0 {
        format!(", {bad} want attention")
    } else {
        String::new()
    };
    let of = match state.list.group {
        Group::Peer => "from ",
        Group::None | Group::User | Group::Verdict => "",
    };
    Line::from(vec![
        Span::styled(format!(" ▸ {of}{name}"), theme.bold()),
        Span::styled(
            format!("  {sessions} sessions, {open} open{bad}"),
            theme.faint(),
        ),
    ])
}

fn one(row: &Row, now: u64, columns: &Columns, theme: Theme) -> Line<'static> {
    let condition = row.condition(now);
    let word = row.word(now);
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
        Span::styled(format!(" {} ", left(&user(row), columns.user)), rest),
        Span::styled(format!("{} ", left(&peer(row), columns.peer)), rest),
    ];
    if columns.pid > 0 {
        let pid = row.view.leader_pid;
        spans.push(Span::styled(
            format!("{} ", right(&pid.to_string(), columns.pid)),
            rest,
        ));
    }
    let bytes = row.flow.until(now);
    let rates = row.flow.rates(now, columns.rates);
    let rate = row.flow.rate(now);
    let shown = |n: u64| if n == 0 { "–".to_owned() } else { count(n) };
    spans.extend([
        Span::styled(left(command, columns.command), rest),
        Span::styled(format!(" {} ", right(&age(row.age(now)), AGE)), rest),
        Span::styled(format!("{} ", right(&shown(bytes), BYTES)), rest),
        verdict(word, condition, row.had(now).is_some(), theme),
        Span::raw(" "),
    ]);
    if columns.rate > 0 {
        let rate = right(&shown(rate), columns.rate);
        spans.push(Span::styled(format!("{rate} "), rest));
    }
    spans.push(Span::styled(spark(&rates), theme.written()));
    Line::from(spans)
}

/// What a shell was told to run, where that is all there is to a command.
fn script(command: &str) -> &str {
    let inner = command
        .split_once(" -c ")
        .filter(|(shell, _)| !shell.contains(' ') && shell.ends_with("sh"))
        .map(|(_, script)| script);
    let quoted = inner.and_then(|it| it.strip_prefix('\'')?.strip_suffix('\''));
    let one = |it: &&str| !it.contains('\'') && (quoted.is_some() || !it.contains(' '));
    quoted.or(inner).filter(one).unwrap_or(command)
}

fn verdict(word: Word, condition: Condition, had: bool, theme: Theme) -> Span<'static> {
    let text = match (word, condition) {
        (Word::Open, Condition::Closed) => String::new(),
        (Word::Open, _) => "–".to_owned(),
        // What it went through is said where there is room: below, and in its own view.
        _ if had => format!("{} {} ▲", word_sign(word), word.name()),
        _ => format!("{} {}", word_sign(word), word.name()),
    };
    let style: Style = theme.word(word);
    Span::styled(left(&text, VERDICT), style)
}

/// What is to be said of the selected session.
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
