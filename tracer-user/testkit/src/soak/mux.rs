//! A connection that stays, with sessions on it (ssh_config(5), `ControlMaster`).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::client::Target;
use crate::procs::{self, Owned};
use crate::sys;

/// See the module.
#[derive(Debug)]
pub struct Mux {
    _master: Owned,
    socket: PathBuf,
    host: String,
}

impl Mux {
    /// Connects.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub fn open(
        target: &Target,
        dir: &Path,
        name: &str,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let socket = dir.join(format!("mux-{name}"));
        let mut master = target.ssh(name);
        // The options go before the host, which is the last word.
        let words: Vec<_> = master.get_args().map(ToOwned::to_owned).collect();
        let (host, options) = words.split_last().context("no host")?;
        let mut command = Command::new(master.get_program());
        command
            .args(options)
            .args(["-M", "-N", "-S"])
            .arg(&socket)
            .arg(host)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        master.stdin(Stdio::null());
        let mut master = Owned(sys::end_with_parent(&mut command).spawn()?);
        procs::poll(patience, "the connection of a master", || {
            if let Ok(Some(status)) = master.0.try_wait() {
                return Some(Err(anyhow::anyhow!("the master ended: {status}")));
            }
            socket.exists().then_some(Ok(()))
        })??;
        Ok(Self {
            _master: master,
            socket,
            host: target.host.clone(),
        })
    }

    /// Runs a command in a session and gives the number of bytes that arrive on stdout.
    ///
    /// # Errors
    /// When it takes longer than `patience`.
    pub fn session(&self, command: &str, patience: Duration) -> anyhow::Result<u64> {
        let began = Instant::now();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            // Without its master it shall fail, not connect by itself.
            .args(["-o", "ProxyCommand=false", "-S"])
            .arg(&self.socket)
            .arg(&self.host)
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = Owned(sys::end_with_parent(&mut ssh).spawn()?);
        let mut stdout = client.0.stdout.take().context("no stdout")?;
        let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match stdout.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
            ensure!(began.elapsed() < patience, "it goes on after {patience:?}");
        }
        let status = procs::poll(patience, "the end of a session's client", || {
            client.0.try_wait().transpose()
        })??;
        ensure!(status.code() != Some(255), "its client failed");
        Ok(bytes)
    }
}
