//! Sessions as a table for people.

use unicode_width::UnicodeWidthStr as _;

use super::{
    clock::{Clock, Zone},
    had,
    size::size,
};
use crate::model::{
    Listed, SessionView,
    message::{duration, without_command},
};

const HEAD: [&str; 8] = [
    "ID", "USER", "FROM", "OPENED", "AGE", "STATE", "WRITTEN", "COMMAND",
];
/// Columns of numbers.
const RIGHT: [usize; 2] = [4, 6];

/// Lines of a table of the sessions, the first of them its head, which says what times are read in.
/// `now` is wall clock, ns since 1970: how long an open session has been so. `exact`: sizes in bytes.
#[must_use]
pub fn table(sessions: &[Listed], now: u64, zone: &Zone, exact: bool) -> Vec<String> {
    let rows: Vec<[String; 8]> = sessions
        .iter()
        .map(|it| row(it, now, zone, exact))
        .collect();
    let head = HEAD.map(|title| match title {
        "OPENED" => format!("OPENED ({})", zone.label(now)),
        other => other.to_owned(),
    });
    lay_out(&head, &rows, &RIGHT)
}

/// Lines with aligned columns, those in `right` at their right.
pub(super) fn lay_out<const N: usize>(
    head: &[String; N],
    rows: &[[String; N]],
    right: &[usize],
) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().chain([head]);
        cells.map(|row| row[column].width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let room = " ".repeat(widths[column] - cell.width());
            if column == N - 1 {
                line.push_str(cell);
            } else if right.contains(&column) {
                line.push_str(&format!("{room}{cell}  "));
            } else {
                line.push_str(&format!("{cell}{room}  "));
            }
        }
        line.trim_end().to_owned()
    };
    [line(head)]
        .into_iter()
        .chain(rows.iter().map(line))
        .collect()
}

fn row(it: &Listed, now: u64, zone: &Zone, exact: bool) -> [String; 8] {
    let clock = Clock {
        offset: it.wall_offset,
        zone: zone.clone(),
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
        clock.recent(session.opened, now),
        duration(end.saturating_sub(session.opened)),
        state(it),
        written(it.written, session.preexisting, exact),
        command(session),
    ]
}

/// What it runs, whole.
pub(super) fn command(session: &SessionView) -> String {
    let command = session.command.as_deref();
    command.unwrap_or(without_command(session)).to_owned()
}

/// Of a session that began before the tracer only what it wrote since is known.
fn written(bytes: u64, preexisting: bool, exact: bool) -> String {
    let least = if preexisting { "≥ " } else { "" };
    format!("{least}{}", size(bytes, exact))
}

/// One word, and why.
fn state(it: &Listed) -> String {
    let gone = it.end.as_ref();
    if let Some(end) = gone.filter(|end| end.verdict.is_clients_choice()) {
        return end.verdict.words().to_owned();
    }
    let state = it.state();
    let cause = it
        .findings
        .iter()
        .find(|it| it.kind.name() == state)
        .and_then(|it| it.cause)
        .map(|cause| cause.name());
    let gap = it
        .end
        .iter()
        .flat_map(|end| &end.gaps)
        .map(|reason| reason.name())
        .next();
    let over = it.end.as_ref().map(|end| end.time);
    let past = it.had.iter().filter(|had| over.or(had.resolved).is_some());
    let had = had::was(past, over.unwrap_or(0), &it.session)
        .map_or_else(String::new, |had| format!(", {had}"));
    match cause.or(gap) {
        Some(why) => format!("{state} ({why}){had}"),
        None => format!("{state}{had}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::tests::session,
        model::{Cut, End, History, LossCause, Verdict, Visible},
    };

    #[test]
    fn a_client_that_left_is_not_called_truncated() {
        let cut = Cut {
            bytes: 0,
            exact: false,
            cause: LossCause::ClientGone,
        };
        let listed = Listed {
            name: "4711-1".to_owned(),
            host: String::new(),
            wall_offset: 0,
            session: session().into(),
            had: History::default(),
            findings: Vec::new(),
            written: 0,
            end: Some(End {
                time: 1,
                verdict: Verdict::Truncated(cut),
                gaps: Vec::new(),
            }),
        };
        let lines = table(&[listed], 0, &Zone::default(), false);
        assert!(lines[1].contains("  client gone  "), "{lines:?}");
        assert!(!lines[1].contains("truncated"), "{lines:?}");
    }

    #[test]
    fn a_leader_that_executes_nothing_is_likely_the_sftp_server_of_openssh() {
        let mut view = session();
        assert_eq!(command(&view), "(no program executed)");
        view.server_exe = Visible::new(b"sshd-session");
        assert_eq!(command(&view), "(probably internal-sftp)");
    }

    #[test]
    fn what_came_before_the_tracer_is_not_called_nothing() {
        assert_eq!(written(0, false, false), "0 B");
        assert_eq!(written(0, true, false), "≥ 0 B");
    }
}
