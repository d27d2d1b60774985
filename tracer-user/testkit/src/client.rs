//! Real SSH clients with nothing of the machine's own configuration, and what arrived at them.

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::netns;
use crate::procs::{self, MARK, Owned};
use crate::terminal::{self, Window};

/// First bytes of each output that are kept for error messages and small comparisons.
const HEAD: usize = 64 * 1024;

/// How often a client's end is waited for again since something has arrived.
const TURNS: u32 = 10;

/// Where to log in, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Network namespace that the client runs in, if not this one.
    pub netns: Option<String>,
    /// Login name.
    pub user: String,
    /// Private key that the server accepts.
    pub key: PathBuf,
}

impl Target {
    fn options(&self, command: &mut Command, marker: &str) {
        command.args(["-F", "none", "-i"]).arg(&self.key);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "PreferredAuthentications=publickey",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("SetEnv={MARK}={marker}")]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    /// `ssh` to this target up to the host name; the remote command is still to be added.
    #[must_use]
    pub fn ssh(&self, marker: &str) -> Command {
        let mut command = match &self.netns {
            None => Command::new("ssh"),
            Some(netns) => netns::inside(netns, "ssh"),
        };
        self.options(&mut command, marker);
        command.args(["-p", &self.port.to_string(), "-l", &self.user, &self.host]);
        command
    }

    /// `scp` or `sftp` with this target's port and key; operands are still to be added.
    #[must_use]
    pub fn copy_tool(&self, tool: &str, marker: &str) -> Command {
        let mut command = Command::new(tool);
        self.options(&mut command, marker);
        command.args(["-q", "-P", &self.port.to_string()]);
        command
    }

    /// `ssh` to this target without the host, as one string for programs that add the host themselves.
    #[must_use]
    pub fn shell(&self, marker: &str) -> String {
        let ssh = self.ssh(marker);
        let words = std::iter::once(ssh.get_program()).chain(ssh.get_args());
        let words = words.filter(|word| *word != self.host.as_str());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    /// `rsync` over this target's `ssh`; operands are still to be added.
    #[must_use]
    pub fn rsync(&self, marker: &str) -> Command {
        let mut command = Command::new("rsync");
        command.args(["-e", &self.shell(marker)]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `user@host:path` for the copy tools.
    #[must_use]
    pub fn remote(&self, path: &str) -> String {
        format!("{}@{}:{path}", self.user, self.host)
    }
}

/// What has arrived so far on one of the client's outputs.
#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    head: Mutex<Vec<u8>>,
    first: Mutex<Option<Instant>>,
}

fn count(mut from: impl Read + Send + 'static, into: Arc<Counted>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => &buffer[..read],
            };
            into.first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(Instant::now);
            let mut head = into.head.lock().unwrap_or_else(PoisonError::into_inner);
            let room = HEAD.saturating_sub(head.len()).min(read.len());
            head.extend_from_slice(&read[..room]);
            drop(head);
            into.bytes.fetch_add(read.len() as u64, Ordering::Release);
        }
    })
}

/// A client that has been started.
#[derive(Debug)]
pub struct Client {
    child: Owned,
    stdout: Arc<Counted>,
    stderr: Arc<Counted>,
    readers: Vec<JoinHandle<()>>,
    tool: String,
    /// The terminal that it runs in, if it runs in one.
    window: Option<Window>,
}

/// What a client got from its session.
#[derive(Debug)]
pub struct Arrived {
    /// How the client ended.
    pub status: ExitStatus,
    /// Bytes on its stdout.
    pub stdout: u64,
    /// Bytes on its stderr.
    pub stderr: u64,
    /// The beginning of its stdout.
    pub stdout_head: String,
    /// The beginning of its stderr.
    pub stderr_head: String,
    /// When the first byte of stdout arrived.
    pub first_stdout: Option<Instant>,
}

impl Client {
    /// Starts the command; takes whichever of its outputs are pipes.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let tool = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {tool}"))?;
        let mut child = Owned(child);
        let (stdout, stderr) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
        let mut readers = Vec::new();
        if let Some(from) = child.0.stdout.take() {
            readers.push(count(from, Arc::clone(&stdout)));
        }
        if let Some(from) = child.0.stderr.take() {
            readers.push(count(from, Arc::clone(&stderr)));
        }
        Ok(Self {
            child,
            stdout,
            stderr,
            readers,
            tool,
            window: None,
        })
    }

    /// Starts the command in a terminal window of its own, whose screen counts as its stdout.
    ///
    /// # Errors
    /// When the program cannot be started, or there is no terminal.
    pub fn start_in_window(mut command: Command) -> anyhow::Result<Self> {
        let (window, screen) = terminal::open(&mut command)?;
        let mut client = Self::start(command)?;
        let reader = count(screen, Arc::clone(&client.stdout));
        client.readers.push(reader);
        client.window = Some(window);
        Ok(client)
    }

    /// Closes the window that the client runs in, if it runs in one.
    pub fn close_window(&mut self) {
        drop(self.window.take());
        for reader in self.readers.drain(..) {
            // The window is closed once its screen is; a reader has nothing to report.
            drop(reader.join());
        }
    }

    /// Process id of the client.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Bytes of stdout so far.
    #[must_use]
    pub fn stdout_so_far(&self) -> u64 {
        self.stdout.bytes.load(Ordering::Acquire)
    }

    /// The beginning of stdout so far.
    #[must_use]
    pub fn stdout_head(&self) -> String {
        text(&self.stdout)
    }

    /// Writes to the client's stdin.
    ///
    /// # Errors
    /// When that is neither a pipe nor a window, or the client has closed it.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        if let Some(window) = &mut self.window {
            return Ok(window.press(text)?);
        }
        let stdin = self.child.0.stdin.as_mut();
        let stdin = stdin.context("the client's stdin is no pipe")?;
        Ok(stdin.write_all(text.as_bytes())?)
    }

    /// Closes the client's stdin, if it is a pipe.
    pub fn end_input(&mut self) {
        drop(self.child.0.stdin.take());
    }

    /// Waits for the client's end: for as long as something still arrives, since how long a transfer
    /// takes says nothing on a busy machine.
    ///
    /// # Errors
    /// When it neither ends nor gets anything within `patience`, or gets something `TURNS` times; it
    /// is killed then.
    pub fn finish(mut self, patience: Duration) -> anyhow::Result<Arrived> {
        let what = format!("the end of {}", self.tool);
        let mut turn = 1;
        let status = loop {
            let before = self.received();
            let ended = procs::poll(patience, &what, || self.child.0.try_wait().transpose());
            match ended {
                Ok(status) => break status?,
                Err(_) if turn < TURNS && self.received() > before => turn += 1,
                Err(error) => return Err(error.context(self.so_far())),
            }
        };
        for reader in self.readers.drain(..) {
            // A reader only counts; it has nothing to report.
            drop(reader.join());
        }
        Ok(Arrived {
            status,
            stdout: self.stdout.bytes.load(Ordering::Acquire),
            stderr: self.stderr.bytes.load(Ordering::Acquire),
            stdout_head: text(&self.stdout),
            stderr_head: text(&self.stderr),
            first_stdout: *self
                .stdout
                .first
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn received(&self) -> u64 {
        let bytes = |of: &Counted| of.bytes.load(Ordering::Acquire);
        bytes(&self.stdout) + bytes(&self.stderr)
    }

    fn so_far(&self) -> String {
        format!(
            "{} has {} B of stdout, and on stderr: {}",
            self.tool,
            self.stdout_so_far(),
            text(&self.stderr).trim_end()
        )
    }
}

fn text(counted: &Counted) -> String {
    let head = counted.head.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&head).into_owned()
}
