//! `lastbyte why`: what a session that hangs is waiting for, with no history and no daemon.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::{Why, look::Look};
use crate::{
    export::Lines,
    model::{SessionId, SessionView, Update},
};

impl Why {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let target = Target::parse(&self.target)?;
        let look = Look::now(&self.trace, verbose)?;

        let sessions: Vec<_> = look
            .model
            .sessions()
            .filter(|session| look.involves(session, target))
            .collect();
        anyhow::ensure!(!sessions.is_empty(), "{}", look.nothing_about(&self.target));
        let mut printer = Lines::new(self.json, true);
        let mut lines = Vec::new();
        for update in look
            .updates
            .iter()
            .filter(|update| matches!(update, Update::Started(_)))
        {
            printer.of(update, &mut Vec::new());
        }
        for session in sessions {
            let findings = look.findings(session.id);
            for finding in &findings {
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
