//! `lastbyte ls`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::builder::PossibleValuesParser;
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Ls, look::Look};
use crate::{
    daemon::{
        Board, Sees,
        client::Client,
        protocol::{Frame, Reply, Request},
    },
    export,
    model::{Filter, Listed, Verdict},
};

impl Ls {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let filter = self.filter();
        let client = match self.trace.is_chosen() {
            true => None,
            false => self.attach.ask(&Request::List(filter.clone()))?,
        };
        let sessions = match client {
            Some(client) => told(client)?,
            None => self.seen(&filter, verbose)?,
        };
        let mut out = io::stdout().lock();
        if self.json {
            for session in &sessions {
                writeln!(out, "{}", export::listed(session))?;
            }
        } else {
            let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
            for line in export::table(&sessions, now) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn filter(&self) -> Filter {
        Filter {
            user: self.user.clone(),
            peer: self.peer.clone(),
            state: self.state.clone(),
            command: self.command.clone(),
            since: self.since,
            until: self.until,
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
fn told(mut client: Client) -> anyhow::Result<Vec<Listed>> {
    let mut sessions = Vec::new();
    while let Some(frame) = client.reply()? {
        if let Frame::Message(Reply::Listed(session)) = frame {
            sessions.push(*session);
        }
    }
    Ok(sessions)
}

/// The words for how a session may be, open or over.
pub(super) fn states() -> PossibleValuesParser {
    let over = Verdict::WORDS
        .into_iter()
        .filter(|word| !Listed::WORDS.contains(word));
    PossibleValuesParser::new(Listed::WORDS.into_iter().chain(over))
}

/// Reads a moment: a date, a date and time (UTC), or how long ago. Gives ns since 1970.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let utc = |at: civil::DateTime| at.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
    let at = text
        .parse::<Timestamp>()
        .or_else(|_| utc(text.parse::<civil::DateTime>()?))
        .or_else(|_| Timestamp::now().checked_sub(text.parse::<jiff::SignedDuration>()?));
    let at = at.map_err(|_: jiff::Error| {
        "expected a time such as 2026-11-24T12:00Z, a date (UTC), or how long ago, such as 90m or 36h"
            .to_owned()
    })?;
    u64::try_from(at.as_nanosecond()).map_err(|_| "that is before 1970".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_times_or_how_long_ago() {
        let day = 86_400_000_000_000;
        assert_eq!(moment("1970-01-02"), Ok(day));
        assert_eq!(moment("1970-01-02T00:00:01"), Ok(day + 1_000_000_000));
        assert_eq!(moment("1970-01-02T02:00:00+02:00"), Ok(day));
        let now = moment("0s").unwrap();
        let hour = now - moment("1h").unwrap();
        assert!((3_599_000_000_000..=3_600_000_000_000).contains(&hour));
        assert!(moment("yesterday").is_err());
        assert!(moment("1960-01-01").is_err());
    }
}
