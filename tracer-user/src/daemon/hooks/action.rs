//! What a hook does with one finding.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use crate::daemon::config::{Action, Hook};

/// Where a command finds other programs; nothing of our own environment is for it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Does what a hook is for.
pub(super) struct Doer {
    action: Action,
    timeout: Duration,
    agent: Agent,
}

impl Doer {
    pub fn new(hook: &Hook) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .build();
        let agent = Agent::config_builder()
            .timeout_global(Some(hook.timeout))
            .user_agent(concat!("lastbyte/", env!("CARGO_PKG_VERSION")))
            // A finding goes where the configuration says, and nowhere else.
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .new_agent();
        Self {
            action: hook.action.clone(),
            timeout: hook.timeout,
            agent,
        }
    }

    /// Tells `json`, one line.
    pub fn act(&mut self, json: &[u8]) -> anyhow::Result<()> {
        match &self.action {
            Action::Command(words) => run(words, json, self.timeout),
            Action::Post(url) => {
                let request = self.agent.post(url).content_type("application/json");
                let response = request.send(json)?;
                let status = response.status();
                anyhow::ensure!(status.is_success(), "the server answered {status}");
                Ok(())
            }
        }
    }
}

fn run(words: &[String], json: &[u8], timeout: Duration) -> anyhow::Result<()> {
    let [program, arguments @ ..] = words else {
        bail!("there is no command");
    };
    let until = Instant::now() + timeout;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(file_of(json).context("cannot keep the finding for the command")?)
        .stdout(Stdio::null())
        // To be killed with all that it starts.
        .process_group(0)
        .spawn()
        .context("cannot be started")?;
    let ended = has_ended(&child, until);
    if !matches!(ended, Ok(true)) {
        kill(&mut child);
    }
    let status = child.wait().context("cannot be waited for")?;
    if !ended.context("cannot be waited for")? {
        bail!("was killed after {timeout:?}: it had not ended");
    }
    anyhow::ensure!(status.success(), "ended with {status}");
    Ok(())
}

/// A file that is nowhere: a pipe would make us wait for who does not read it.
fn file_of(bytes: &[u8]) -> anyhow::Result<File> {
    let mut file = File::from(memfd_create("finding", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Waits until it has; false when it is `until` before.
fn has_ended(child: &Child, until: Instant) -> anyhow::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().try_into()?,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

fn kill(child: &mut Child) {
    // Neither fails but for a process that is gone.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.kill();
}
