//! One look at the machine, with no history and no daemon: the snapshot, and one scan for holders.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tracer_ebpf::{Kind, Record, role};

use super::{Trace, live, why::Target};
use crate::{
    model::{Finding, Model, SessionId, SessionView, Update, redact::Redactor},
    probe::{Options, Road, Tracer},
};

/// See the module.
#[derive(Default)]
pub struct Look {
    redactor: Redactor,
    pub model: Model,
    pub updates: Vec<Update>,
    /// Members and holders of each session.
    involved: BTreeMap<u64, BTreeSet<u32>>,
    /// Servers' parents.
    servers: BTreeMap<u32, u32>,
    ready: bool,
    looked: bool,
    over: Vec<u64>,
}

impl Look {
    /// Loads the probes, looks, and unloads them.
    pub fn now(trace: &Trace, verbose: bool) -> anyhow::Result<Self> {
        // Whoever asks has waited long enough.
        let options = Options {
            grace: 0,
            ..trace.options(verbose)
        };
        let mut look = Self {
            redactor: trace.redactor()?,
            ..Self::default()
        };
        live::runtime()?.block_on(async {
            Tracer::open(&options)?
                .run(&mut look, live::stop(None)?)
                .await
        })?;
        Ok(look)
    }

    pub fn involves(&self, session: &SessionView, target: Target) -> bool {
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
    pub fn findings(&self, session: SessionId) -> Vec<&Finding> {
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

    pub fn nothing_about(&self, target: &str) -> String {
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
