//! `lastbyte ls`.

use std::process::ExitCode;

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
        let mut sessions = sessions;
        // What is open can still be helped. The rest stays in its order.
        sessions.sort_by_key(|session| session.end.is_some());
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
        Ok(ExitCode::SUCCESS)
    }

    fn sessions(&self, filter: &Filter, verbose: bool) -> anyhow::Result<Vec<Listed>> {
        let client = match self.trace.is_chosen() {
            true => None,
            false => self.attach.ask(&Request::List(filter.clone()))?,
        };
        match client {
            Some(client) => told(client, filter),
            None => self.seen(filter, verbose),
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
            limit: (self.limit != 0).then_some(self.limit),
        }
    }

    /// Without a daemon: what is open now.
    fn seen(&self, filter: &Filter, verbose: bool) -> anyhow::Result<Vec<Listed>> {
        let look = Look::now(&self.trace, verbose)?;
        let mut board = Board::default();
        look.updates.iter().for_each(|update| board.apply(update));
        let mut sessions = board.list(Sees::Everything);
        sessions.retain(|session| filter.wants(session));
        Ok(sessions)
    }
}

/// What a daemon lists.
fn told(mut client: Client, filter: &Filter) -> anyhow::Result<Vec<Listed>> {
    let mut sessions = Vec::new();
    while let Some(frame) = client.reply()? {
        if let Frame::Message(Reply::Listed(session)) = frame {
            sessions.push(*session);
        }
    }
    // An older daemon passes over what it does not know of the filter.
    sessions.retain(|session| filter.wants(session));
    Ok(sessions)
}

/// What an empty list is for want of.
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
            .map(|at| format!("begun at {} or later", time(at))),
        filter.until.map(|at| format!("begun before {}", time(at))),
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

/// The words for how a session may be, open or over.
pub(super) fn states() -> PossibleValuesParser {
    let over = Verdict::WORDS
        .into_iter()
        .filter(|word| !Listed::WORDS.contains(word));
    PossibleValuesParser::new(Listed::WORDS.into_iter().chain(over))
}
