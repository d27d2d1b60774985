//! `lastbyte findings`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

use super::{Findings, ls, printer::Printer, recorded};
use crate::{
    daemon::{
        client::Client,
        protocol::{Frame, Reply, Request},
    },
    export::{self, Zone},
    model::{FindingFilter, Found, Kind},
};

impl Findings {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let filter = self.filter();
        let mut found = match &self.file {
            Some(file) => recorded::findings(file, &filter)?,
            None => {
                let client = self
                    .daemon_target
                    .insist(&Request::Findings(filter.clone()));
                from_daemon(client.context(
                    "cannot list findings; the daemon keeps them, or use --file RECORDING",
                )?)?
            }
        };
        let zone = Zone::local();
        if found.is_empty() && !self.json {
            eprintln!("{}", nothing(&filter, &zone));
            return Ok(ExitCode::SUCCESS);
        }
        // The oldest first, of which the newest are wanted.
        found.reverse();
        let more = ls::cut(&mut found, self.limit);
        found.reverse();
        let mut out = Printer::new(self.json, self.bytes);
        if self.json {
            for found in &found {
                out.line(&export::found(found))?;
            }
        } else {
            let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
            out.table(&export::findings_table(&found, now, &zone, self.bytes))?;
        }
        out.flush()?;
        if more && !self.json {
            eprintln!("{}", ls::not_all(found.len(), "findings"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn filter(&self) -> FindingFilter {
        FindingFilter {
            kind: self.kind.clone(),
            user: self.user.clone(),
            peer: self.peer.clone(),
            command: self.command.clone(),
            since: self.period.since,
            until: self.period.until,
            at: self.period.at,
            all: self.all,
            limit: ls::one_more(self.limit),
        }
    }
}

/// The findings that a daemon lists.
fn from_daemon(mut client: Client) -> anyhow::Result<Vec<Found>> {
    let mut all = Vec::new();
    while let Some(frame) = client.reply()? {
        if let Frame::Message(Reply::Found(found)) = frame {
            all.push(*found);
        }
    }
    Ok(all)
}

/// Says why a list is empty.
fn nothing(filter: &FindingFilter, zone: &Zone) -> String {
    let time = |time: u64| zone.date_and_time(time);
    let wanted = [
        filter.kind.as_ref().map(|kind| format!("kind {kind}")),
        filter.user.as_ref().map(|user| format!("user {user}")),
        filter.peer.as_ref().map(|peer| format!("from {peer}")),
        filter
            .command
            .as_ref()
            .map(|part| format!("`{part}` in the command")),
        filter
            .since
            .map(|at| format!("opened at {} or later", time(at))),
        filter.until.map(|at| format!("opened before {}", time(at))),
        filter.at.map(|at| format!("open at {}", time(at))),
    ];
    let wanted: Vec<String> = wanted.into_iter().flatten().collect();
    match wanted.as_slice() {
        [] => "no findings".to_owned(),
        wanted => format!("no findings match: {}", wanted.join(", ")),
    }
}

/// The words for kinds of findings.
pub(super) fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name))
}
