//! Clients of a daemon: one that is believed, many that only listen, some that never read, some that
//! are killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use super::truth::Truths;
use crate::daemon::Daemon;
use crate::event::Event;
use crate::procs::{self, Owned};
use crate::sys;

/// One of so many clients never reads, and one is killed again and again.
const OF: usize = 5;

/// See the module.
#[derive(Debug)]
pub struct Clients<'a> {
    daemon: &'a Daemon,
    believed: Owned,
    reader: JoinHandle<()>,
    listeners: Vec<Listener>,
    stuck: Vec<Owned>,
    /// Killed and started anew.
    victims: Mutex<Vec<Owned>>,
    killed: AtomicU64,
}

#[derive(Debug)]
struct Listener {
    process: Owned,
    bytes: JoinHandle<u64>,
}

impl<'a> Clients<'a> {
    /// Starts them all.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(
        daemon: &'a Daemon,
        number: usize,
        truths: Arc<Truths>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let (mut believed, stdout) = watch(daemon, &["--json"])?;
        let (started, begin) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match Event::parse(line) {
                    Ok(event) if event.is("started") => drop(started.send(())),
                    Ok(event) => truths.told(&event),
                    Err(problem) => truths.problem(problem),
                }
            }
        });
        if begin.recv_timeout(patience).is_err() {
            drop(believed.0.kill());
            anyhow::bail!("the daemon tells its client nothing");
        }
        let bad = number / OF;
        let mut listeners = Vec::new();
        for _ in 0..number.saturating_sub(2 * bad + 1) {
            let (process, mut stdout) = watch(daemon, &["--all"])?;
            let bytes = thread::spawn(move || {
                std::io::copy(&mut stdout, &mut std::io::sink()).unwrap_or(0)
            });
            listeners.push(Listener { process, bytes });
        }
        let mut stuck = Vec::new();
        for _ in 0..bad {
            let (mut process, stdout) = watch(daemon, &["--all", "--json"])?;
            // It stays open, and nobody reads from it.
            process.0.stdout = Some(stdout);
            stuck.push(process);
        }
        let clients = Self {
            daemon,
            believed,
            reader,
            listeners,
            stuck,
            victims: Mutex::default(),
            killed: AtomicU64::new(0),
        };
        for _ in 0..bad {
            clients.victim()?;
        }
        Ok(clients)
    }

    fn victim(&self) -> anyhow::Result<()> {
        let (mut process, stdout) = watch(self.daemon, &["--all"])?;
        process.0.stdout = Some(stdout);
        self.victims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(process);
        Ok(())
    }

    /// Kills one that was to be killed and starts another.
    pub fn torment(&self) {
        let mut victims = self.victims.lock().unwrap_or_else(PoisonError::into_inner);
        if victims.is_empty() {
            return;
        }
        // Owned kills it.
        drop(victims.remove(0));
        drop(victims);
        self.killed.fetch_add(1, Ordering::Relaxed);
        drop(self.victim());
    }

    /// Ends them, and tells what was wrong with them.
    pub fn finish(self, patience: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        let mut believed = self.believed;
        if let Ok(Some(status)) = believed.0.try_wait() {
            problems.push(format!("the client that is believed ended: {status}"));
        }
        drop(believed);
        drop(self.reader.join());
        for Listener { mut process, bytes } in self.listeners {
            if let Ok(Some(status)) = process.0.try_wait() {
                problems.push(format!("a client that reads was cut off: {status}"));
            }
            drop(process);
            if bytes.join().unwrap_or(0) == 0 {
                problems.push("a client that reads was told nothing".to_owned());
            }
        }
        for mut process in self.stuck {
            // Once it reads again it is told that it missed something, and how much.
            let missed = last_words(&mut process.0, patience);
            match missed {
                Ok(words) if words.contains("missed") => {}
                Ok(words) => problems.push(format!("a client that was stuck says: {words:?}")),
                Err(error) => problems.push(format!("a client that was stuck: {error:#}")),
            }
        }
        problems
    }
}

fn watch(daemon: &Daemon, args: &[&str]) -> anyhow::Result<(Owned, std::process::ChildStdout)> {
    let mut command = daemon.client(&["watch"]);
    command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Owned(sys::end_with_parent(&mut command).spawn()?);
    let stdout = process.0.stdout.take().context("no stdout")?;
    Ok((process, stdout))
}

/// Reads what a client has to say until it ends.
fn last_words(process: &mut Child, patience: Duration) -> anyhow::Result<String> {
    let mut stdout = process.stdout.take().context("no stdout")?;
    thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    procs::poll(patience, "the end of a client that was stuck", || {
        process.try_wait().transpose()
    })??;
    let mut words = String::new();
    let mut stderr = process.stderr.take().context("no stderr")?;
    stderr.read_to_string(&mut words)?;
    Ok(words)
}
