//! The daemon: traces for as long as the machine runs, and tells clients over a unix socket.
//!
//! Two threads, and the flight recorder's: the tracer's has the road from the kernel to the model and
//! waits for nobody; the server's has the socket, the clients and what is so now ([`Board`]).

mod access;
mod board;
pub mod client;
mod codec;
pub mod config;
pub mod hooks;
mod hub;
mod past;
mod past_findings;
mod past_updates;
pub mod privileges;
pub mod protocol;
mod restart;
mod server;
mod socket;
mod told;

use std::{
    fs::DirBuilder,
    future::Future,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use log::LevelFilter;
use nix::unistd::User;
use tokio::sync::{mpsc, watch};

pub use self::{
    access::{Rules, Sees},
    board::Board,
    past::Past,
    server::{News, Server},
};
use self::{config::Config, restart::Restarted, socket::Socket, told::Told};
use crate::{
    probe::{Host, Tracer},
    store::{self, Policy, Recorder},
};

/// What a daemon is started with.
#[derive(Debug)]
pub struct Setup {
    /// What it is to do.
    pub config: Config,
    /// Where that came from, to be read again; the default place if none.
    pub file: Option<PathBuf>,
    /// The kernel side's own messages are wanted.
    pub verbose: bool,
}

/// Traces and serves until `stop` is.
///
/// # Errors
/// When the socket or the probes cannot be had, and when tracing fails.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Setup {
        config,
        file,
        verbose,
    } = setup;
    log::set_max_level(log_level(&config, verbose));
    warn_of_programs(&config);
    let socket = Socket::open(
        &config.socket.path,
        &config.socket.group,
        config.socket.allow_own,
    )?;
    // Before anything is attached that would stay so.
    let user = privileges::user(&config.user)?;
    let mut tracer = Tracer::open(&config.options(verbose))?;
    state_directory(&config.store.dir, &user)?;
    privileges::drop_to(&user)?;
    let boot = Host::read().boot;
    let (recorder, left) = Recorder::open(store::Options {
        directory: config.store.dir.clone(),
        policy: policy(&config),
        boot: boot.clone(),
    });
    let past = Past::new(config.store.dir.clone(), boot, recorder.flusher());
    let restarted = Restarted::new(recorder, left);
    let (tell, news) = mpsc::unbounded_channel();
    let (ask, asks) = std::sync::mpsc::channel();
    let (change, config) = watch::channel(Arc::new(config));
    let mut road = Told::by_road(&tracer.probes, restarted, tell, asks, config.clone())?;
    let server = Server {
        listener: socket.listener.try_clone().context("the socket")?,
        news,
        asks: ask,
        config,
        change,
        file,
        verbose,
        past,
    };
    let server = thread::Builder::new()
        .name("lastbyte-socket".to_owned())
        .spawn(move || server.serve())
        .context("starting the server's thread")?;
    let result = tracer.run(&mut road, stop).await;
    log::info!(
        "the daemon ends: {} sessions closed, {} open",
        road.model.closed(),
        road.model.open()
    );
    road.subscriber.finish();
    // The server ends when it has told everybody what is queued.
    match server.join() {
        Ok(served) => result.and(served),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Makes the state directory where systemd has not (`StateDirectory=`, systemd.exec(5)).
fn state_directory(path: &Path, owner: &User) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())))
        .with_context(|| format!("making the state directory {}", path.display()))
}

/// A hook that cannot work is better known before it is needed.
fn warn_of_programs(config: &Config) {
    for problem in config.programs_missing() {
        log::warn!("{problem}");
    }
}

/// How much is logged.
fn log_level(config: &Config, verbose: bool) -> LevelFilter {
    match verbose {
        true => config.log.max(LevelFilter::Debug),
        false => config.log,
    }
}

/// How much the flight recorder keeps.
fn policy(config: &Config) -> Policy {
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Policy {
        max_age: ns(config.store.max_age),
        findings_max_age: ns(config.store.findings_max_age),
        max_bytes: config.store.max_bytes,
    }
}
