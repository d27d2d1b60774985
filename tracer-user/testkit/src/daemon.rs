//! A `lastbyte daemon` with a socket, a store and pins of its own, and its clients.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::procs::{self, Owned};
use crate::sys;

/// See the module.
#[derive(Debug)]
pub struct Daemon {
    /// What it is to do from its next start on, or when it reads this again.
    pub conf: Conf,
    process: Owned,
    lastbyte: PathBuf,
    dir: PathBuf,
}

/// What a daemon is configured to do.
#[derive(Clone, Debug)]
pub struct Conf {
    /// How it traces.
    pub backend: Option<String>,
    /// Servers beside the usual ones.
    pub servers: Vec<&'static str>,
    /// The user that it becomes.
    pub user: &'static str,
    /// Whether anything outlives it.
    pub pins: bool,
    /// Whether users see their own sessions.
    pub allow_own: bool,
    /// What there is to say of the store.
    pub store: String,
    /// Further sections.
    pub more: String,
}

impl Conf {
    /// With this backend.
    #[must_use]
    pub fn new(backend: Option<&str>) -> Self {
        Self {
            backend: backend.map(str::to_owned),
            servers: vec!["eager"],
            user: "root",
            pins: true,
            allow_own: false,
            store: String::new(),
            more: String::new(),
        }
    }

    /// With these further sections.
    #[must_use]
    pub fn more(mut self, more: &str) -> Self {
        more.clone_into(&mut self.more);
        self
    }
}

impl Daemon {
    /// Starts it with everything in `dir`, which is made, and waits until it traces.
    ///
    /// # Errors
    /// When it does not trace in time.
    pub fn start(
        lastbyte: &Path,
        dir: &Path,
        conf: Conf,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let pins = dir.join("bpf");
        fs::create_dir_all(&pins)?;
        sys::mount_bpffs(&pins).with_context(|| format!("cannot mount {}", pins.display()))?;
        conf.write(dir)?;
        let mut daemon = Self {
            conf,
            process: spawn(lastbyte, dir, &[])?,
            lastbyte: lastbyte.to_owned(),
            dir: dir.to_owned(),
        };
        daemon.await_tracing(patience)?;
        Ok(daemon)
    }

    /// The same again, on what the one before left.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn again(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.again_with(&[], patience)
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn again_with(&mut self, more: &[(&str, &str)], patience: Duration) -> anyhow::Result<()> {
        self.conf.write(&self.dir)?;
        self.process = spawn(&self.lastbyte, &self.dir, more)?;
        self.await_tracing(patience)
    }

    /// Lets it read its configuration again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.conf.write(&self.dir)?;
        Ok(sys::kill(self.pid(), libc::SIGHUP)?)
    }

    /// Waits until it traces.
    fn await_tracing(&mut self, patience: Duration) -> anyhow::Result<()> {
        let traces = |daemon: &mut Self| -> anyhow::Result<bool> {
            if let Some(status) = daemon.process.0.try_wait()? {
                anyhow::bail!("the daemon ended: {status}: {}", daemon.log());
            }
            let status = daemon.client(&["doctor", "--daemon", "--json"]).output()?;
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            Ok(status["traces"] == true)
        };
        // The kernel's verifier takes an emulated processor longer than any session does.
        let ready = procs::poll_every(
            Duration::from_millis(50),
            4 * patience,
            "the daemon",
            || match traces(self) {
                Ok(false) => None,
                Ok(true) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            },
        );
        ready.with_context(|| self.log())?
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.lastbyte);
        command
            .args(args)
            .arg("--socket")
            .arg(self.socket())
            .stdin(Stdio::null());
        command
    }

    /// What a client prints.
    ///
    /// # Errors
    /// When the client fails.
    pub fn says(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.client(args).output()?;
        ensure!(
            output.status.success(),
            "{args:?} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `ls` lists.
    ///
    /// # Errors
    /// When it fails, or prints what is no JSON.
    pub fn ls(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        let text = self.says(&[&["ls", "--json"], args].concat())?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// The one session whose command has `marker` in it.
    ///
    /// # Errors
    /// When there is none, or there are several.
    pub fn session(&self, marker: &str) -> anyhow::Result<Value> {
        let mut found = self.ls(&["--command", marker])?;
        ensure!(
            found.len() == 1,
            "{} sessions with {marker}: {found:?}",
            found.len()
        );
        Ok(found.remove(0))
    }

    /// Waits until that session is in `state`.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn await_state(
        &self,
        marker: &str,
        state: &str,
        patience: Duration,
    ) -> anyhow::Result<Value> {
        let mut last = String::new();
        let found = procs::poll_every(
            Duration::from_millis(100),
            patience,
            &format!("{marker} to be {state}"),
            || match self.session(marker) {
                Ok(session) if session["state"] == state => Some(session),
                Ok(session) => {
                    last = session.to_string();
                    None
                }
                Err(error) => {
                    last = error.to_string();
                    None
                }
            },
        );
        found.with_context(|| format!("it is {last}; {}", self.log()))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Starts another with the same pins and waits for its end; with a socket and a store of its own unless it
    /// only takes the pins away (`more`).
    ///
    /// # Errors
    /// When it cannot be started, or goes on.
    pub fn rival(&self, more: &[&str], patience: Duration) -> anyhow::Result<Output> {
        let rival = self.dir.join("rival");
        fs::create_dir_all(&rival)?;
        let own = fs::read_to_string(self.dir.join("config.toml"))?;
        let of = |dir: &Path, name: &str| format!("{:?}", dir.join(name).display().to_string());
        let conf = ["sock", "state"].iter().fold(own, |conf, name| {
            conf.replace(&of(&self.dir, name), &of(&rival, name))
        });
        let path = rival.join("config.toml");
        fs::write(&path, conf)?;
        let mut command = Command::new(&self.lastbyte);
        command
            .args(["daemon", "--config"])
            .arg(path)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Owned(sys::end_with_parent(&mut command).spawn()?);
        let status = procs::poll(4 * patience, "the end of a second daemon", || {
            child.0.try_wait().transpose()
        })??;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut said = child.0.stdout.take().context("it has no stdout")?;
        said.read_to_end(&mut stdout)?;
        let mut said = child.0.stderr.take().context("it has no stderr")?;
        said.read_to_end(&mut stderr)?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Where clients find it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// Where its store is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The directory with everything of it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// With its log.
    pub fn check_alive(&self) -> anyhow::Result<()> {
        ensure!(
            procs::Process::now(self.pid()).is_some_and(|it| it.alive()),
            "the daemon has ended: {}",
            self.log()
        );
        Ok(())
    }

    /// Processor time that it took so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .context("no fields in stat")?
            .1
            .split(' ')
            .collect();
        // utime and stime of proc(5), in ticks of 10 ms (`USER_HZ`).
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Errors
    /// When it goes on.
    pub fn end(&mut self, signal: i32, patience: Duration) -> anyhow::Result<ExitStatus> {
        sys::kill(self.pid(), signal)?;
        procs::poll(patience, "the daemon's end", || {
            self.process.0.try_wait().transpose()
        })?
        .map_err(Into::into)
    }

    /// Ends it as systemd would, and tells what it complained of.
    ///
    /// # Errors
    /// When it goes on.
    pub fn stop(mut self, patience: Duration) -> anyhow::Result<Option<String>> {
        let status = self.end(libc::SIGTERM, patience)?;
        let log = self.log();
        let complaints = log.contains("ERROR") || log.contains("panicked");
        Ok((!status.success() || complaints).then(|| format!("the daemon: {status}: {log}")))
    }
}

impl Drop for Daemon {
    /// What is pinned stays attached otherwise.
    fn drop(&mut self) {
        drop(self.process.0.kill());
        drop(self.process.0.wait());
        drop(sys::unmount(&self.dir.join("bpf")));
    }
}

impl Conf {
    fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let of = |name: &str| dir.join(name).display().to_string();
        let pins = match self.pins {
            true => of("bpf/lastbyte"),
            false => String::new(),
        };
        let text = format!(
            "user = {:?}\n\
             [socket]\npath = {:?}\ngroup = \"root\"\nallow_own = {}\n\
             [store]\ndir = {:?}\n{}\
             [tracing]\nservers = {:?}\npins = {pins:?}\nbackend = {:?}\n{}\n",
            self.user,
            of("sock"),
            self.allow_own,
            of("state"),
            self.store,
            self.servers,
            self.backend.as_deref().unwrap_or("auto"),
            self.more,
        );
        fs::write(dir.join("config.toml"), text)?;
        Ok(())
    }
}

/// Starts it without waiting.
fn spawn(lastbyte: &Path, dir: &Path, more: &[(&str, &str)]) -> anyhow::Result<Owned> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let mut command = Command::new(lastbyte);
    command
        .arg("daemon")
        .arg("--config")
        .arg(dir.join("config.toml"))
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(Owned(sys::end_with_parent(&mut command).spawn()?))
}
