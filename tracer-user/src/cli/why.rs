//! `lastbyte why`: what a session that hangs is waiting for, with no history and no daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use tracer_ebpf::{Kind, Record, role};

use super::{Why, live};
use crate::{
    export::Lines,
    model::{Finding, Model, SessionId, SessionView, Update, redact::Redactor},
    probe::{Road, Tracer},
};

impl Why {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let target = Target::parse(&self.target)?;
        // Whoever asks has waited long enough.
        let options = crate::probe::Options {
            grace: 0,
            ..self.trace.options(verbose)
        };
        let mut look = Look {
            redactor: self.trace.redactor()?,
            ..Look::default()
        };
        live::runtime()?.block_on(async {
            Tracer::open(&options)?
                .run(&mut look, live::stop(None)?)
                .await
        })?;

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

#[derive(Clone, Copy)]
enum Target {
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

/// Looks once: the snapshot, and one scan for holders.
#[derive(Default)]
struct Look {
    redactor: Redactor,
    model: Model,
    updates: Vec<Update>,
    /// Members and holders of each session.
    involved: BTreeMap<u64, BTreeSet<u32>>,
    /// Servers' parents.
    servers: BTreeMap<u32, u32>,
    ready: bool,
    looked: bool,
    over: Vec<u64>,
}

impl Look {
    fn involves(&self, session: &SessionView, target: Target) -> bool {
        match target {
            Target::Session(id) => session.id == id,
            Target::Pid(pid) => {
                let members = self.involved.get(&session.id.0);
                pid == session.leader_pid
                    || members.is_some_and(|members| members.contains(&pid))
                    || self.served_by(session.server_pid, pid)
            }
        }
    }

    /// Whether `pid` is the server, its privileged monitor or the listener.
    fn served_by(&self, mut server: u32, pid: u32) -> bool {
        for _ in 0..8 {
            if server == pid {
                return true;
            }
            match self.servers.get(&server) {
                Some(parent) if self.servers.contains_key(parent) => server = *parent,
                _ => return false,
            }
        }
        false
    }

    /// The latest word of each kind.
    fn findings(&self, session: SessionId) -> Vec<&Finding> {
        let mut latest: BTreeMap<_, &Finding> = BTreeMap::new();
        for update in &self.updates {
            if let Update::Finding(finding) = update
                && finding.session.id == session
            {
                latest.insert(finding.kind.name(), finding);
            }
        }
        latest.into_values().collect()
    }

    fn nothing_about(&self, target: &str) -> String {
        let open: Vec<_> = self
            .model
            .sessions()
            .map(|session| session.id.to_string())
            .collect();
        let open = if open.is_empty() {
            "none".to_owned()
        } else {
            open.join(", ")
        };
        format!(
            "{target} is not part of any open SSH session: not a server, a command, one of its processes or a holder \
             of its streams (open sessions on pipes: {open})"
        )
    }
}

impl Road for Look {
    fn record(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let bytes = self.redactor.apply(bytes);
        let record = Record::decode(bytes).context("a record that this version does not know")?;
        match record {
            Record::Process(process) if process.session != 0 => {
                self.involved
                    .entry(process.session)
                    .or_default()
                    .insert(process.proc.pid);
            }
            Record::Process(process) if process.flags & role::SERVER != 0 => {
                self.servers.insert(process.proc.pid, process.parent);
            }
            Record::Holder(holder) => {
                self.involved
                    .entry(holder.session)
                    .or_default()
                    .insert(holder.proc.pid);
            }
            _ => {}
        }
        match Kind::of(record.header().kind) {
            Some(Kind::Ready) => self.ready = true,
            Some(Kind::Tick) if self.ready => self.looked = true,
            _ => {}
        }
        let from = self.updates.len();
        self.model.apply(record, &mut self.updates);
        self.over.extend(
            self.updates[from..]
                .iter()
                .filter_map(|update| match update {
                    Update::Forget { session } => Some(session.0),
                    _ => None,
                }),
        );
        Ok(())
    }

    fn deadline(&self) -> Option<u64> {
        self.model.deadline()
    }

    fn wants_scan(&self) -> bool {
        self.model.needs_scan()
    }

    fn sampled(&mut self) -> Vec<u64> {
        Vec::new()
    }

    fn over(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.over)
    }

    fn finished(&self) -> bool {
        self.looked && !self.model.needs_scan()
    }
}
