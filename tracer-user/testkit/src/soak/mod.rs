//! A daemon under load for a long time: many sessions a second, many clients, some of them bad.
//!
//! Sessions are real ones on connections that stay ([`Mux`]), so that a machine of two processors can
//! have fifty of them in a second. What each lost and who held it is known from its client's end.

mod clients;
mod memory;
mod mux;
mod truth;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use self::clients::Clients;
use self::memory::Memory;
use self::mux::Mux;
use self::truth::{Shape, Truth, Truths};
use crate::procs::{self, Owned};
use crate::random::Rng;
use crate::sshd::{Sftp, Sshd};
use crate::sys;
use crate::world::{Server, World};

/// How long, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long sessions are begun.
    pub time: Duration,
    /// Sessions a second.
    pub rate: u32,
    /// Clients of the daemon, bad ones included.
    pub clients: usize,
    /// Determines the sessions.
    pub seed: u64,
    /// How much the daemon's memory may grow after a sixth of the time, per cent.
    pub growth: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Sessions that ran.
    pub sessions: u64,
    /// Of these, those that lost bytes.
    pub truncated: u64,
    /// Of these, those that hung.
    pub orphaned: u64,
    /// The daemon's own memory after a sixth of the time, and the most after that, bytes.
    pub memory: (u64, u64),
    /// Processor time of the daemon by time that passed.
    pub load: f64,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

/// Connections to each server.
const MASTERS: usize = 4;
/// Sessions under way at once, at most.
const WORKERS: usize = 64;

/// Runs the load against a daemon of its own.
///
/// # Errors
/// When something cannot be started.
pub fn run(
    lastbyte: &Path,
    world: &World,
    load: Load,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let daemon = Daemon::start(lastbyte, world.dir(), patience)?;
    let sshd = Sshd::start(
        world.dir(),
        "sshd-soak",
        Sftp::External,
        &["MaxSessions 10000", "MaxStartups 100"],
    )?;
    let good = world.at(sshd.port);
    let eager = world.target(Server::Eager)?;
    let mut masters = Vec::new();
    for number in 0..MASTERS {
        masters.push((
            Mux::open(&good, world.dir(), &format!("good-{number}"), patience)?,
            Mux::open(&eager, world.dir(), &format!("eager-{number}"), patience)?,
        ));
    }
    let truths = Arc::new(Truths::default());
    let clients = Clients::start(&daemon, load.clients, Arc::clone(&truths), patience)?;
    let mut memory = Memory::of(daemon.pid(), load.time / 6);

    let next = AtomicU64::new(0);
    let began = Instant::now();
    let every = Duration::from_secs(1) / load.rate;
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = every * u32::try_from(number).unwrap_or(u32::MAX);
                    if due >= load.time || daemon.check_alive().is_err() {
                        return;
                    }
                    // The sessions come at their times, whatever becomes of the others.
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    let mut rng = Rng::new(load.seed, number);
                    let shape = Shape::draw(&mut rng);
                    let (good, eager) = &masters[rng.below(MASTERS as u64) as usize];
                    let mux = if shape.on_eager() { eager } else { good };
                    let marker = format!("soak{number}");
                    match mux.session(&shape.command(&marker), patience) {
                        Ok(received) => truths.know(marker, Truth { shape, received }),
                        Err(error) => truths.problem(format!("{marker} {shape:?}: {error:#}")),
                    }
                }
            });
        }
        scope.spawn(|| {
            while began.elapsed() < load.time {
                memory.look();
                clients.torment();
                thread::sleep(Duration::from_secs(1));
            }
        });
    });
    let sessions = next.load(Ordering::Relaxed).saturating_sub(WORKERS as u64);
    truths.settle(patience);
    let load_share = daemon.processor_time()?.as_secs_f64() / began.elapsed().as_secs_f64();
    let mut problems = truths.problems();
    problems.extend(daemon.kept(sessions)?);
    problems.extend(clients.finish(patience));
    let (early, late) = memory.result();
    let growth = 100.0 * (late as f64 / early as f64 - 1.0);
    if growth > load.growth {
        problems.push(format!(
            "the daemon's memory grew by {growth:.1} %, from {early} B to {late} B"
        ));
    }
    drop(masters);
    problems.extend(daemon.stop(patience)?);
    Ok(Outcome {
        sessions,
        truncated: truths.truncated(),
        orphaned: truths.orphaned(),
        memory: (early, late),
        load: load_share,
        problems,
    })
}

/// A daemon with a socket and a store of its own.
#[derive(Debug)]
pub struct Daemon {
    process: Owned,
    lastbyte: std::path::PathBuf,
    socket: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Daemon {
    /// Starts it and waits until it traces.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn start(lastbyte: &Path, dir: &Path, patience: Duration) -> anyhow::Result<Self> {
        let socket = dir.join("daemon.sock");
        let config = dir.join("daemon.toml");
        std::fs::write(
            &config,
            format!(
                "user = \"root\"\n[tracing]\nservers = [\"eager\"]\n[socket]\npath = {socket:?}\n[store]\ndir = {:?}\n",
                dir.join("state")
            ),
        )?;
        let log = dir.join("daemon.log");
        let mut command = Command::new(lastbyte);
        command
            .arg("daemon")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        let process = Owned(sys::end_with_parent(&mut command).spawn()?);
        let mut daemon = Self {
            process,
            lastbyte: lastbyte.to_owned(),
            socket,
            log,
        };
        let traces = |daemon: &mut Self| -> anyhow::Result<bool> {
            if let Some(status) = daemon.process.0.try_wait()? {
                anyhow::bail!("the daemon ended: {status}: {}", daemon.log());
            }
            let ls = daemon.client(&["ls", "--json"]).output()?;
            Ok(ls.status.success())
        };
        let ready = procs::poll(4 * patience, "the daemon", || match traces(&mut daemon) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        ready.with_context(|| daemon.log())??;
        Ok(daemon)
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.lastbyte);
        command
            .args(args)
            .arg("--socket")
            .arg(&self.socket)
            .stdin(Stdio::null());
        command
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn check_alive(&self) -> anyhow::Result<()> {
        ensure!(
            procs::Process::now(self.pid()).is_some_and(|it| it.alive()),
            "the daemon has ended: {}",
            self.log()
        );
        Ok(())
    }

    fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
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

    /// Whether every session is in its store.
    fn kept(&self, sessions: u64) -> anyhow::Result<Option<String>> {
        let ls = self
            .client(&[
                "ls",
                "--closed",
                "--json",
                "--limit",
                "0",
                "--command",
                ": soak",
            ])
            .output()?;
        ensure!(
            ls.status.success(),
            "ls failed: {}",
            String::from_utf8_lossy(&ls.stderr)
        );
        let kept = ls.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok((kept != sessions)
            .then(|| format!("{sessions} sessions ran, {kept} of them are in the store")))
    }

    /// Ends it as systemd would, and tells what it complained of.
    fn stop(mut self, patience: Duration) -> anyhow::Result<Option<String>> {
        sys::kill(self.pid(), libc::SIGTERM)?;
        let status = procs::poll(patience, "the daemon's end", || {
            self.process.0.try_wait().transpose()
        })??;
        let log = self.log();
        let complaints = log.contains("ERROR") || log.contains("panicked");
        Ok((!status.success() || complaints).then(|| format!("the daemon: {status}: {log}")))
    }
}
