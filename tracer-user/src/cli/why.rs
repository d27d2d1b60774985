//! `lastbyte why`: what a session that hangs is waiting for; also with no history and no daemon.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::{Why, look::Look};
use crate::{
    daemon::{
        client::Client,
        protocol::{Frame, Reply, Request},
    },
    export::{Lines, Zone},
    model::{Finding, SessionId, SessionView, Update},
};

impl Why {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let target = Target::parse(&self.target)?;
        if !self.trace.is_chosen()
            && let Some(client) = self.attach.ask(&Request::Now)?
        {
            let told = Told::by(client)?;
            let sessions = told.involving(target);
            // A member of a session, or a server's parent: a daemon does not tell of all of them.
            if !sessions.is_empty() {
                return self.print(&told.updates, &sessions);
            }
        }
        let look = Look::now(&self.trace, verbose)?;
        let sessions: Vec<_> = look
            .model
            .sessions()
            .filter(|session| look.involves(session, target))
            .map(|session| (session, look.findings(session.id)))
            .collect();
        anyhow::ensure!(!sessions.is_empty(), "{}", look.nothing_about(&self.target));
        self.print(&look.updates, &sessions)
    }

    fn print(
        &self,
        updates: &[Update],
        sessions: &[(&SessionView, Vec<&Finding>)],
    ) -> anyhow::Result<ExitCode> {
        let mut printer = Lines::new(self.json, true).in_zone(Zone::local());
        let mut lines = Vec::new();
        for update in updates {
            if matches!(update, Update::Started(_)) {
                printer.of(update, &mut Vec::new());
            }
        }
        for (session, findings) in sessions {
            for finding in findings {
                printer.of(&Update::Finding((*finding).clone()), &mut lines);
            }
            if findings.is_empty() && !self.json {
                lines.push(healthy(session));
            }
        }
        let mut out = io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a daemon says is so now.
struct Told {
    updates: Vec<Update>,
}

impl Told {
    fn by(mut client: Client) -> anyhow::Result<Self> {
        let mut updates = Vec::new();
        while let Some(frame) = client.reply()? {
            if let Frame::Message(Reply::State(update)) = frame {
                updates.push(update);
            }
        }
        Ok(Self { updates })
    }

    fn involving(&self, target: Target) -> Vec<(&SessionView, Vec<&Finding>)> {
        let sessions = self.updates.iter().filter_map(|update| match update {
            Update::SessionOpened(it) => Some(&*it.session),
            _ => None,
        });
        let of = |session: &SessionView| -> Vec<&Finding> {
            let findings = self.updates.iter().filter_map(|update| match update {
                Update::Finding(it) if it.session.id == session.id => Some(it),
                _ => None,
            });
            findings.collect()
        };
        sessions
            .map(|session| (session, of(session)))
            .filter(|(session, findings)| match target {
                Target::Session(id) => session.id == id,
                Target::Pid(pid) => {
                    let mut holders = findings.iter().flat_map(|finding| &finding.holders);
                    [session.leader_pid, session.server_pid].contains(&pid)
                        || holders.any(|holder| holder.pid == pid)
                }
            })
            .collect()
    }
}

/// What a session without a finding is doing.
fn healthy(session: &SessionView) -> String {
    let command = session
        .command
        .as_ref()
        .map_or("a command that is not known", |command| command.as_str());
    let server = format!("{} {}", session.server_exe, session.server_pid);
    if session.leader_pid == 0 || session.exit.is_some() {
        format!(
            "session {}: its command ({command}) has exited and no process holds its stdout or stderr: {server} has \
             everything it needs to close it; if it does not, it waits for its client or for a forward",
            session.id
        )
    } else {
        format!(
            "session {}: nothing is wrong with it, its command is still running: {command}, pid {}, served by {server}",
            session.id, session.leader_pid
        )
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
pub enum Target {
    Pid(u32),
    Session(SessionId),
}

impl Target {
    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Pid(pid));
        }
        text.parse().map(Self::Session).map_err(|_| {
            anyhow::anyhow!("`{text}` is neither a pid nor a session id such as 4711-1k2j3")
        })
    }
}
