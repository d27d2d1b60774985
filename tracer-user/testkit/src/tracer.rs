//! A running `lastbyte` whose output can be waited for.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::event::Event;
use crate::procs::{self, Owned};
use crate::sys;

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    /// Lines that were no events.
    garbage: Vec<String>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    more: Condvar,
    stderr: Mutex<String>,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stderr(&self) -> MutexGuard<'_, String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tracer that prints JSON lines.
#[derive(Debug)]
pub struct Tracer {
    process: Mutex<Owned>,
    pid: u32,
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

impl Tracer {
    /// Starts `lastbyte ARGS --json --all --server eager …` and waits until it sees everything.
    ///
    /// # Errors
    /// When it cannot be started or ends before its `started` line.
    pub fn start(
        lastbyte: &Path,
        backend: Option<&str>,
        args: &[&str],
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(lastbyte);
        command
            .args(args)
            .args(["--json", "--all", "--server", "eager", "--grace", "1s"]);
        if let Some(backend) = backend {
            command.args(["--backend", backend]);
        }
        let tracer = Self::spawn(command)?;
        // The kernel's verifier takes an emulated processor longer than any session does.
        let loading = 4 * patience;
        tracer.wait_for(0, loading, "`started`", |events| {
            events.iter().any(|event| event.is("started")).then_some(())
        })?;
        Ok(tracer)
    }

    /// Starts any command that prints JSON lines; does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = sys::end_with_parent(&mut command)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let mut process = Owned(child);
        let pid = process.0.id();
        let stdout = process
            .0
            .stdout
            .take()
            .context("the tracer has no stdout")?;
        let mut stderr = process
            .0
            .stderr
            .take()
            .context("the tracer has no stderr")?;
        let shared = Arc::new(Shared::default());
        let (lines, errors) = (Arc::clone(&shared), Arc::clone(&shared));
        let readers = vec![
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let event = Event::parse(line);
                    let mut log = lines.log();
                    match event {
                        Ok(event) => log.events.push(event),
                        Err(line) => log.garbage.push(line),
                    }
                    drop(log);
                    lines.more.notify_all();
                }
                lines.log().ended = true;
                lines.more.notify_all();
            }),
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stderr.read(&mut buffer) {
                    errors
                        .stderr()
                        .push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
            }),
        ];
        Ok(Self {
            process: Mutex::new(process),
            pid,
            shared,
            readers,
        })
    }

    /// Process id of the tracer.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The backend it runs with, from its `started` line.
    #[must_use]
    pub fn backend(&self) -> String {
        let log = self.shared.log();
        let started = log.events.iter().find(|event| event.is("started"));
        let backend = started.and_then(|event| event.value["backend"].as_str());
        backend.unwrap_or("").to_owned()
    }

    /// A place in the output: everything so far lies before it.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.log().events.len()
    }

    /// What `look` makes of all events so far; no copy of them is made.
    pub fn look<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.shared.log().events)
    }

    /// The events since `mark`.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<Event> {
        self.shared.log().events[mark..].to_vec()
    }

    /// Lines of stdout that were no JSON events.
    #[must_use]
    pub fn garbage(&self) -> Vec<String> {
        self.shared.log().garbage.clone()
    }

    /// Everything it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.shared.stderr().clone()
    }

    /// Waits until `find` finds what it wants among the events since `mark`; woken by each line.
    ///
    /// # Errors
    /// When `patience` is over first, or the tracer has ended; the message names `what`.
    pub fn wait_for<T>(
        &self,
        mark: usize,
        patience: Duration,
        what: &str,
        mut find: impl FnMut(&[Event]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        let mut log = self.shared.log();
        loop {
            if let Some(found) = find(&log.events[mark..]) {
                return Ok(found);
            }
            if log.ended {
                drop(log);
                bail!("the tracer ended before {what}; {}", self.last_words());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "waited {:.0} s in vain for {what}; {}",
                    patience.as_secs_f32(),
                    told(&log.events[mark..])
                );
            }
            log = self
                .shared
                .more
                .wait_timeout(log, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Fails if the tracer has ended.
    ///
    /// # Errors
    /// With its exit status and stderr.
    pub fn check_alive(&self) -> anyhow::Result<()> {
        if self.shared.log().ended {
            bail!("the tracer has ended; {}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let status = procs::poll(Duration::from_secs(2), "its exit", || {
            process.0.try_wait().ok()?
        });
        let status =
            status.map_or_else(|_| "still running".to_owned(), |status| status.to_string());
        format!("{status}, stderr: {}", self.stderr().trim_end())
    }

    /// Asks it to end as a user would (SIGINT) and collects the rest of its output.
    ///
    /// # Errors
    /// When it does not end within `patience`.
    pub fn stop(mut self, patience: Duration) -> anyhow::Result<(ExitStatus, Vec<Event>)> {
        // It may have ended by itself.
        drop(sys::kill(self.pid, libc::SIGINT));
        let status = {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            procs::poll(patience, "the tracer's end", || {
                process.0.try_wait().transpose()
            })??
        };
        for reader in self.readers.drain(..) {
            // A reader only fills the log; it has nothing to report.
            drop(reader.join());
        }
        Ok((status, self.since(0)))
    }
}

/// What was told instead of what was waited for: every gap, and the last few events.
fn told(events: &[Event]) -> String {
    /// Events that are shown, and bytes of each.
    const LAST: usize = 3;
    const WIDTH: usize = 300;
    let (gaps, others): (Vec<&Event>, Vec<&Event>) =
        events.iter().partition(|event| event.is("gap"));
    let last = &others[others.len().saturating_sub(LAST)..];
    let mut text = format!("{} events, {} gaps", events.len(), gaps.len());
    for event in gaps.iter().chain(last) {
        let cut = event.raw.floor_char_boundary(WIDTH.min(event.raw.len()));
        text.push_str("\n  ");
        text.push_str(&event.raw[..cut]);
    }
    text
}
