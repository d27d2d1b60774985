//! A daemon under load for a long time: many sessions a second, many clients, some of them bad.
//!
//! Sessions are real ones on connections that stay (`Mux`), so that a machine of two processors can
//! have fifty of them in a second. What each lost and who held it is known from its client's end.

mod clients;
mod memory;
mod mux;
mod truth;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::clients::Clients;
use self::memory::Memory;
use self::mux::Mux;
use self::truth::{Shape, Truth, Truths};
use crate::daemon::{Conf, Daemon};
use crate::random::Rng;
use crate::sshd::{Sftp, Sshd};
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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = self.memory;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} sessions: {} truncated, {} orphaned; the daemon took {:.1} % of a processor and {:.1} MiB at \
             first, {:.1} MiB later; {} problems",
            self.sessions,
            self.truncated,
            self.orphaned,
            100.0 * self.load,
            mib(early),
            mib(late),
            self.problems.len()
        )
    }
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
    backend: Option<&str>,
    load: Load,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let daemon = Daemon::start(
        lastbyte,
        &world.dir().join("soak"),
        Conf::new(backend),
        patience,
    )?;
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
    let mut memory = Memory::of(daemon.pid(), load.time);

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
    problems.extend(kept(&daemon, sessions)?);
    problems.extend(clients.finish(patience));
    let (early, late) = memory.result();
    let growth = 100.0 * (late as f64 / early as f64 - 1.0);
    if growth > load.growth {
        problems.push(format!(
            "the daemon's memory grew by {growth:.1} %; the most in each part of the time, B: {:?}",
            memory.most()
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

/// Whether every session is in the daemon's store; if not, also which it takes for open.
fn kept(daemon: &Daemon, sessions: u64) -> anyhow::Result<Vec<String>> {
    let all = ["--limit", "0", "--command", ": soak"];
    let kept = daemon.ls(&[&["--closed"], &all[..]].concat())?.len() as u64;
    if kept == sessions {
        return Ok(Vec::new());
    }
    let mut problems = vec![format!(
        "{sessions} sessions ran, {kept} of them are in the store"
    )];
    for session in daemon.ls(&[&["--open"], &all[..]].concat())? {
        problems.push(format!("still open: {session}"));
    }
    Ok(problems)
}
