//! `lastbyte ls`.

use std::{cmp::Reverse, process::ExitCode};

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

use super::{Ls, look::Look, printer::Printer, recorded};
use crate::{
    daemon::{
        Board, Sees,
        client::Client,
        protocol::{Frame, Reply, Request},
    },
    export::{self, Zone},
    model::{Filter, Listed, Verdict},
};

impl Ls {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let filter = self.filter();
        let sessions = match &self.file {
            Some(file) => recorded::list(file, &filter)?,
            None => self.sessions(&filter, verbose)?,
        };
        if sessions.is_empty() && !self.json {
            eprintln!("{}", nothing(&filter, &Zone::local()));
            return Ok(ExitCode::SUCCESS);
        }
        let (sessions, more) = ordered(sessions, self.limit);
        let mut out = Printer::new(self.json, self.bytes);
        if self.json {
            for session in &sessions {
                out.line(&export::listed(session))?;
            }
        } else {
            let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
            out.table(&export::table(&sessions, now, &Zone::local(), self.bytes))?;
        }
        out.flush()?;
        if more && !self.json {
            eprintln!("{}", not_all(sessions.len(), "sessions"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sessions(&self, filter: &Filter, verbose: bool) -> anyhow::Result<Vec<Listed>> {
        let client = match self.trace.is_chosen() {
            true => None,
            false => self.daemon_target.ask(&Request::List(filter.clone()))?,
        };
        match client {
            Some(client) => from_daemon(client, filter),
            None => self.open_now(filter, verbose),
        }
    }

    fn filter(&self) -> Filter {
        Filter {
            user: self.user.clone(),
            peer: self.peer.clone(),
            state: self.state.clone(),
            had: self.had.clone(),
            command: self.command.clone(),
            since: self.period.since,
            until: self.period.until,
            at: self.period.at,
            open: match (self.open, self.closed) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            limit: one_more(self.limit),
        }
    }

    /// Without a daemon: what is open now.
    fn open_now(&self, filter: &Filter, verbose: bool) -> anyhow::Result<Vec<Listed>> {
        let look = Look::now(&self.trace, verbose)?;
        let mut board = Board::default();
        look.updates.iter().for_each(|update| board.apply(update));
        let mut sessions = board.list(Sees::Everything);
        sessions.retain(|session| filter.wants(session));
        Ok(sessions)
    }
}

/// The sessions that a daemon lists.
fn from_daemon(mut client: Client, filter: &Filter) -> anyhow::Result<Vec<Listed>> {
    let mut sessions = Vec::new();
    while let Some(frame) = client.reply()? {
        if let Frame::Message(Reply::Listed(session)) = frame {
            sessions.push(*session);
        }
    }
    // An older daemon ignores the parts of the filter that it does not know.
    sessions.retain(|session| filter.wants(session));
    Ok(sessions)
}

/// Open sessions first, as they can still be helped, each part with the newest first; and whether there
/// are more than the `limit`, 0 for none.
fn ordered(mut sessions: Vec<Listed>, limit: u64) -> (Vec<Listed>, bool) {
    let opened = |it: &Listed| it.session.opened.wrapping_add(it.wall_offset);
    sessions.sort_by_key(|it| (it.end.is_some(), Reverse(opened(it))));
    let more = cut(&mut sessions, limit);
    (sessions, more)
}

/// What to request so that it shows whether there are more than the `limit`, 0 for none.
pub(super) fn one_more(limit: u64) -> Option<u64> {
    (limit != 0).then_some(limit.saturating_add(1))
}

/// Drops what is beyond the `limit`, 0 for none; whether there was anything.
pub(super) fn cut<T>(rows: &mut Vec<T>, limit: u64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = limit != 0 && rows.len() > limit;
    if more {
        rows.truncate(limit);
    }
    more
}

/// Says that a list is not whole.
pub(super) fn not_all(shown: usize, what: &str) -> String {
    format!("the newest {shown} {what}; there are more: -n 0 shows all")
}

/// Says why a list is empty.
fn nothing(filter: &Filter, zone: &Zone) -> String {
    let time = |time: u64| zone.date_and_time(time);
    let wanted = [
        filter.user.as_ref().map(|user| format!("user {user}")),
        filter.peer.as_ref().map(|peer| format!("from {peer}")),
        filter.state.as_ref().map(|state| format!("state {state}")),
        filter.had.as_ref().map(|kind| format!("ever {kind}")),
        filter
            .command
            .as_ref()
            .map(|part| format!("`{part}` in the command")),
        filter
            .since
            .map(|at| format!("opened at {} or later", time(at))),
        filter.until.map(|at| format!("opened before {}", time(at))),
        filter.at.map(|at| format!("open at {}", time(at))),
        filter.open.map(|open| match open {
            true => "open".to_owned(),
            false => "closed".to_owned(),
        }),
    ];
    let wanted: Vec<String> = wanted.into_iter().flatten().collect();
    match wanted.as_slice() {
        [] => "no sessions".to_owned(),
        wanted => format!("no sessions match: {}", wanted.join(", ")),
    }
}

/// The states and verdicts of sessions.
pub(super) fn states() -> PossibleValuesParser {
    let over = Verdict::WORDS
        .into_iter()
        .filter(|word| !Listed::WORDS.contains(word));
    PossibleValuesParser::new(Listed::WORDS.into_iter().chain(over))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{End, History, SessionId, SessionView, Visible};

    fn listed(pid: u32, opened: u64, closed: bool) -> Listed {
        Listed {
            name: pid.to_string(),
            host: String::new(),
            wall_offset: 0,
            session: SessionView {
                id: SessionId(u64::from(pid)),
                user: None,
                uid: None,
                peer: None,
                local: None,
                server_exe: Visible::default(),
                server_owner: None,
                server_pid: 1,
                command: None,
                leader_pid: pid,
                exit: None,
                exited: None,
                opened,
                preexisting: false,
            }
            .into(),
            findings: Vec::new(),
            had: History::default(),
            written: 0,
            end: closed.then_some(End {
                time: opened + 1,
                verdict: Verdict::Clean,
                gaps: Vec::new(),
            }),
        }
    }

    #[test]
    fn open_sessions_come_first_and_then_the_newest() {
        let all = || {
            vec![
                listed(1, 10, true),
                listed(2, 20, false),
                listed(3, 30, true),
                listed(4, 40, false),
            ]
        };
        let names = |limit| {
            let (sessions, more) = ordered(all(), limit);
            let names: Vec<_> = sessions.into_iter().map(|it| it.name).collect();
            (names.join(" "), more)
        };
        assert_eq!(names(0), ("4 2 3 1".to_owned(), false));
        assert_eq!(names(4), ("4 2 3 1".to_owned(), false));
        assert_eq!(names(3), ("4 2 3".to_owned(), true));
    }

    #[test]
    fn a_list_that_is_cut_says_so() {
        assert_eq!(one_more(50), Some(51));
        assert_eq!(one_more(0), None);
        assert_eq!(
            not_all(50, "sessions"),
            "the newest 50 sessions; there are more: -n 0 shows all"
        );
    }
}
