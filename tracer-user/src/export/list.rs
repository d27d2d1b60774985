//! Sessions as a table for people.

use bytesize::ByteSize;
use unicode_width::UnicodeWidthStr as _;

use super::Clock;
use crate::model::{Kind, Listed, message::duration};

const HEAD: [&str; 8] = [
    "ID", "USER", "FROM", "OPENED", "TOOK", "STATE", "WRITTEN", "COMMAND",
];
/// Columns of numbers.
const RIGHT: [usize; 2] = [4, 6];

/// Lines of a table of the sessions, the first of them its head. Times are UTC. `now` is wall clock, ns
/// since 1970: how long an open session has been so.
#[must_use]
pub fn table(sessions: &[Listed], now: u64) -> Vec<String> {
    let rows: Vec<[String; 8]> = sessions.iter().map(|it| row(it, now)).collect();
    let head = HEAD.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]);
        cells.map(|row| row[column].width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let room = " ".repeat(widths[column] - cell.width());
            if column == HEAD.len() - 1 {
                line.push_str(cell);
            } else if RIGHT.contains(&column) {
                line.push_str(&format!("{room}{cell}  "));
            } else {
                line.push_str(&format!("{cell}{room}  "));
            }
        }
        line.trim_end().to_owned()
    };
    [line(&head)]
        .into_iter()
        .chain(rows.iter().map(line))
        .collect()
}

fn row(it: &Listed, now: u64) -> [String; 8] {
    let clock = Clock {
        offset: it.wall_offset,
    };
    let session = &it.session;
    let end = match &it.end {
        Some(end) => end.time,
        None => now.wrapping_sub(it.wall_offset),
    };
    let user = session.user.as_deref().map(str::to_owned);
    [
        it.name.clone(),
        user.or_else(|| session.uid.map(|uid| uid.to_string()))
            .unwrap_or_else(|| "?".to_owned()),
        session
            .peer
            .map_or_else(|| "?".to_owned(), |peer| peer.ip().to_string()),
        opened(&clock, session.opened, now),
        duration(end.saturating_sub(session.opened)),
        state(it),
        written(it.written, session.preexisting),
        session.command.as_deref().unwrap_or("-").to_owned(),
    ]
}

/// Of a session that began before the tracer only what it wrote since is known.
fn written(bytes: u64, preexisting: bool) -> String {
    let least = if preexisting { "≥ " } else { "" };
    format!("{least}{}", ByteSize(bytes))
}

/// The time of day, with the date when that is not today.
fn opened(clock: &Clock, time: u64, now: u64) -> String {
    let text = clock.rfc3339(time);
    let today = Clock { offset: 0 }.rfc3339(now);
    let (date, of_day) = text.split_once('T').unwrap_or(("", &text));
    let of_day = of_day.split('.').next().unwrap_or(of_day);
    match today.starts_with(date) {
        true => of_day.to_owned(),
        false => format!("{date} {of_day}"),
    }
}

/// One word, and why.
fn state(it: &Listed) -> String {
    let state = it.state();
    let cause = it
        .findings
        .iter()
        .find(|told| told.kind.name() == state)
        .and_then(|told| told.cause)
        .map(|cause| cause.name());
    let gap = it
        .end
        .iter()
        .flat_map(|end| &end.gaps)
        .map(|reason| reason.name())
        .next();
    let hung = || {
        let orphaned = it.findings.iter().any(|told| told.kind == Kind::Orphaned);
        (orphaned && it.end.is_some()).then_some("was orphaned")
    };
    match cause.or(gap).or_else(hung) {
        Some(why) => format!("{state} ({why})"),
        None => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_tracer_is_not_called_nothing() {
        assert_eq!(written(0, false), "0 B");
        assert_eq!(written(0, true), "≥ 0 B");
    }

    #[test]
    fn yesterday_has_a_date() {
        let clock = Clock { offset: 0 };
        let day = 86_400_000_000_000;
        assert_eq!(opened(&clock, day + 1, day + 5), "00:00:00");
        assert_eq!(opened(&clock, day - 1, day + 5), "1970-01-01 23:59:59");
    }
}
