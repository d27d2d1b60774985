//! `lastbyte doctor`: does tracing work here, how, and what can it not see?

use std::{fmt::Write as _, process::ExitCode};

use serde::Serialize;

use super::Doctor;
use crate::{
    daemon::{
        client::Client,
        hooks::HookCounts,
        protocol::{Frame, Reply, Request, Status},
    },
    export,
    model::message::counted,
    probe::{Backend, Host, LoadError, Lockdown, Missing, NEEDED, Probes},
};

/// Everything that a bug report should begin with.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    architecture: &'static str,
    btf_bytes: Option<u64>,
    lockdown: &'static str,
    capabilities: Vec<Capability>,
    backends: Vec<BackendReport>,
    attached: Vec<String>,
    missing: Vec<MissingReport>,
    servers: Vec<String>,
    works: bool,
    problem: Option<String>,
    /// How the daemon is, where one answers.
    daemon: Option<Status>,
    /// Why none answers.
    daemon_problem: Option<String>,
}

#[derive(Serialize)]
struct Capability {
    name: &'static str,
    held: bool,
    purpose: &'static str,
}

#[derive(Serialize)]
struct BackendReport {
    name: String,
    state: State,
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Chosen,
    Refused,
    NotNeeded,
}

#[derive(Serialize)]
struct MissingReport {
    field: String,
    cost: &'static str,
    reason: String,
}

/// What a backend costs and cannot see, in a user's words.
const fn character(backend: Backend) -> &'static str {
    match backend {
        Backend::Fentry => {
            "exact: every release of a stream is seen, other system calls cost nothing"
        }
        Backend::Kprobe => {
            "as exact as fentry, but each use of any pipe, unix socket or tty takes longer; the kernel follows 4096 \
             calls of a function at once in all processes, and what it could not follow of a session is reported as a gap"
        }
        Backend::Syscall => {
            "each system call of any process takes some 0.15 to 0.3 µs longer; what goes around read(2), write(2) and \
             close(2) (splice, io_uring) is not counted, verdicts then say \"at least\" or unknown"
        }
    }
}

impl Doctor {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        if self.daemon {
            return self.ask();
        }
        let host = Host::read();
        let result = Probes::load(&self.trace.options(verbose), &host);
        let mut report = Report::new(&host, &result);
        if !self.daemon_target.is_local() {
            let asked = self.daemon_target.insist(&Request::Status);
            match asked.map_err(Into::into).and_then(status) {
                Ok(status) => report.daemon = Some(status),
                Err(error) => report.daemon_problem = Some(format!("{error:#}")),
            }
        }
        if self.json {
            println!("{}", object("doctor", &report));
        } else {
            print!("{}", report.text());
        }
        Ok(if report.works {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Doctor {
    /// Only the daemon: good when it traces and keeps everything.
    fn ask(&self) -> anyhow::Result<ExitCode> {
        let status = status(self.daemon_target.insist(&Request::Status)?)?;
        if self.json {
            println!("{}", object("daemon", &status));
        } else {
            print!("{}", daemon(&status).join("\n") + "\n");
        }
        Ok(match status.traces && status.store_good {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// A JSON object about this machine now.
fn object(kind: &str, body: &impl Serialize) -> String {
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    export::object_json(kind, now, &host, body)
}

/// A daemon's status.
fn status(mut client: Client) -> anyhow::Result<Status> {
    match client.reply()? {
        Some(Frame::Message(Reply::Status(status))) => Ok(*status),
        _ => anyhow::bail!("the daemon did not report its status"),
    }
}

/// Lines about a daemon for a person.
fn daemon(it: &Status) -> Vec<String> {
    let uptime = jiff::SignedDuration::from_secs(i64::try_from(it.uptime_s).unwrap_or(i64::MAX));
    let state = match it.traces {
        true => format!("tracing for {uptime:#} ({} backend)", it.backend),
        false => "not tracing yet".to_owned(),
    };
    let held = match it.capabilities.as_slice() {
        [] => "no capabilities".to_owned(),
        held => held.join(", "),
    };
    let mut lines = vec![
        format!(
            "daemon       {} pid {}, user {}, {state}",
            it.version, it.pid, it.user
        ),
        format!("             holds {held}"),
        format!(
            "             {} open, {} closed; {}, {}, {}; {}, {} cut off",
            counted(it.open, "session"),
            it.closed,
            counted(it.records, "record"),
            counted(it.updates, "update"),
            counted(it.gaps, "gap"),
            counted(it.clients, "client"),
            it.cut_off,
        ),
        format!("             {}", it.store),
    ];
    lines.extend(
        it.hooks
            .iter()
            .map(|hook| format!("             {}", one(hook))),
    );
    lines
}

/// How a hook is.
fn one(hook: &HookCounts) -> String {
    let mut line = format!(
        "hook {}: {} ran, {} failed, {} over the rate limit, {} dropped",
        hook.name, hook.told, hook.failed, hook.suppressed, hook.dropped
    );
    if let Some(reason) = &hook.failing {
        line += &format!("; failing: {reason}");
    }
    line
}

/// What a lockdown mode means for tracing.
fn lockdown(mode: &str) -> &str {
    match mode {
        "none" => "none",
        "integrity" => {
            "integrity: tracing works; some kernels refuse fentry or kprobes in this mode"
        }
        "confidentiality" => {
            "confidentiality: programs may not read kernel memory, so nothing can be traced"
        }
        _ => {
            "unknown: securityfs is not mounted; as root: mount -t securityfs securityfs /sys/kernel/security"
        }
    }
}

impl Report {
    fn new(host: &Host, result: &Result<Probes, LoadError>) -> Self {
        let (attempts, missing) = match result {
            Ok(probes) => (probes.attempts.as_slice(), probes.missing.as_slice()),
            Err(LoadError::NoBackend { attempts }) => (attempts.as_slice(), [].as_slice()),
            Err(_) => ([].as_slice(), [].as_slice()),
        };
        let backends = Backend::ALL.iter().map(|backend| {
            let attempt = attempts.iter().find(|attempt| attempt.backend == *backend);
            let (state, reason) = match attempt.map(|attempt| &attempt.refused) {
                Some(None) => (State::Chosen, character(*backend).to_owned()),
                Some(Some(reason)) => (State::Refused, reason.to_string()),
                None if result.is_ok() => (State::NotNeeded, "another is chosen".to_owned()),
                None => (
                    State::Refused,
                    "not tried: see the problem below".to_owned(),
                ),
            };
            BackendReport {
                name: backend.to_string(),
                state,
                reason,
            }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: host.kernel.clone(),
            architecture: std::env::consts::ARCH,
            btf_bytes: host.btf,
            lockdown: match host.lockdown {
                Lockdown::Unknown => "unknown",
                Lockdown::None => "none",
                Lockdown::Integrity => "integrity",
                Lockdown::Confidentiality => "confidentiality",
            },
            capabilities: NEEDED
                .iter()
                .map(|(name, number, purpose)| Capability {
                    name,
                    held: host.has(*number),
                    purpose,
                })
                .collect(),
            backends: backends.collect(),
            attached: result
                .as_ref()
                .map(|probes| probes.attached.clone())
                .unwrap_or_default(),
            missing: missing.iter().map(MissingReport::new).collect(),
            servers: result
                .as_ref()
                .map(|probes| probes.servers.clone())
                .unwrap_or_default(),
            works: result.is_ok(),
            problem: result.as_ref().err().map(ToString::to_string),
            daemon: None,
            daemon_problem: None,
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: &str| {
            let _ = writeln!(out, "{label:<13}{text}");
        };
        line(
            "lastbyte",
            &format!("{} on {}", self.version, self.architecture),
        );
        line(
            "kernel",
            &format!("{} (5.8 or later is needed)", self.kernel),
        );
        line(
            "BTF",
            &self.btf_bytes.map_or_else(
                || "none: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
                |bytes| format!("/sys/kernel/btf/vmlinux, {:.1} MB", bytes as f64 / 1e6),
            ),
        );
        line("lockdown", lockdown(self.lockdown));
        for capability in &self.capabilities {
            let held = if capability.held { "held" } else { "MISSING" };
            line(
                if capability.name == "CAP_BPF" {
                    "privileges"
                } else {
                    ""
                },
                &format!("{held:<8}{:<15} to {}", capability.name, capability.purpose),
            );
        }
        for (i, backend) in self.backends.iter().enumerate() {
            let state = match backend.state {
                State::Chosen => "chosen",
                State::Refused => "refused",
                State::NotNeeded => "unused",
            };
            line(
                if i == 0 { "backends" } else { "" },
                &format!("{:<8}{state:<8} {}", backend.name, backend.reason),
            );
        }
        if self.works {
            line(
                "probes",
                &format!(
                    "{} attached: {}",
                    self.attached.len(),
                    self.attached.join(", ")
                ),
            );
            match self.missing.as_slice() {
                [] => line("fields", "all kernel fields were found"),
                missing => missing.iter().for_each(|field| {
                    line(
                        "fields",
                        &format!("no {} ({}): {}", field.field, field.reason, field.cost),
                    );
                }),
            }
            line("servers", &self.servers.join(" "));
            line("transports", "pipes, unix socketpairs, ptys");
            line("", "tracing works here");
        } else {
            line("problem", self.problem.as_deref().unwrap_or_default());
        }
        if let Some(problem) = &self.daemon_problem {
            line("daemon", &format!("not running: {problem}"));
        }
        for text in self.daemon.iter().flat_map(daemon) {
            out.push_str(&text);
            out.push('\n');
        }
        out
    }
}

impl MissingReport {
    fn new(missing: &Missing) -> Self {
        Self {
            field: missing.field.clone(),
            cost: missing.cost.unwrap_or("nothing works"),
            reason: missing.reason.clone(),
        }
    }
}
