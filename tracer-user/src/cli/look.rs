//! One look at the machine, with no history and no daemon: the snapshot, and one scan for holders.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::{Record, role};

use super::{Trace, live, why::Target};
use crate::{
    model::{Finding, Model, SessionId, SessionView, Update},
    pipeline::{Pipeline, Subscriber, Taken},
    probe::{Options, Tracer},
};

/// See the module.
pub struct Look {
    pub model: Model,
    pub updates: Vec<Update>,
    /// Members and holders of each session.
    involved: BTreeMap<u64, BTreeSet<u32>>,
    /// Servers' parents.
    servers: BTreeMap<u32, u32>,
}

/// A look that is under way.
#[derive(Default)]
struct Looking {
    updates: Vec<Update>,
    involved: BTreeMap<u64, BTreeSet<u32>>,
    servers: BTreeMap<u32, u32>,
    ready: bool,
    looked: bool,
}

impl Look {
    /// Loads the probes, looks, and unloads them.
    pub fn now(trace: &Trace, verbose: bool) -> anyhow::Result<Self> {
        // Whoever asks has waited long enough.
        let options = Options {
            grace: 0,
            stall_after: 0,
            ..trace.options(verbose)
        };
        let mut pipeline = Pipeline::new(trace.redactor()?, Model::new(), Looking::default());
        live::runtime()?.block_on(async {
            Tracer::open(&options)?
                .run(&mut pipeline, live::stop(None)?)
                .await
        })?;
        let Looking {
            updates,
            involved,
            servers,
            ..
        } = pipeline.subscriber;
        Ok(Self {
            model: pipeline.model,
            updates,
            involved,
            servers,
        })
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

    /// Processes of a session, and those that hold its streams.
    pub fn members(&self, session: SessionId) -> impl Iterator<Item = u32> {
        self.involved.get(&session.0).into_iter().flatten().copied()
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
                latest.insert(finding.kind().name(), finding);
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

impl Subscriber for Looking {
    fn record(&mut self, taken: &Taken<'_>, updates: &mut Vec<Update>) -> anyhow::Result<()> {
        match &taken.record {
            Record::Process(process) if process.session != 0 => {
                self.involve(process.session, process.proc.pid);
            }
            Record::Process(process) if process.flags & role::SERVER != 0 => {
                self.servers.insert(process.proc.pid, process.parent);
            }
            Record::Holder(holder) => self.involve(holder.session, holder.proc.pid),
            Record::Ready(_) => self.ready = true,
            Record::Tick(_) if self.ready => self.looked = true,
            _ => {}
        }
        self.updates.append(updates);
        Ok(())
    }

    fn finished(&self, model: &Model) -> bool {
        self.looked && !model.needs_scan()
    }
}

impl Looking {
    fn involve(&mut self, session: u64, pid: u32) {
        self.involved.entry(session).or_default().insert(pid);
    }
}
