//! The daemon: traces as long as the machine runs, and serves clients over a unix socket.
//!
//! The tracer's thread runs the pipeline from the kernel to the model and waits for nobody. The server's
//! thread has the socket, the clients and the current state ([`Board`]). The flight recorder's thread
//! writes the database.

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
mod subscriber;

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
    server::{Server, TracerMessage},
    subscriber::TracerRequest,
};
use self::{config::Config, restart::Restarted, socket::Socket, subscriber::DaemonSubscriber};
use crate::{
    probe::{Host, Tracer},
    store::{self, Policy, Recorder},
};

/// What a daemon is started with.
#[derive(Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The configuration's file, which SIGHUP reads again; `None` for the default one.
    pub file: Option<PathBuf>,
    /// Log the eBPF programs' own messages.
    pub verbose: bool,
}

/// Traces and serves until `stop` completes.
///
/// # Errors
/// If the socket cannot be opened, the probes cannot be loaded, or tracing fails.
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
    // Before programs are pinned, which would stay attached if this fails.
    let user = privileges::user(&config.user)?;
    let mut tracer = Tracer::open(&config.options(verbose))?;
    state_directory(&config.store.dir, &user)?;
    privileges::drop_to(&user)?;
    let boot = Host::read().boot;
    let (recorder, unfinished) = Recorder::open(store::Options {
        directory: config.store.dir.clone(),
        policy: policy(&config),
        boot: boot.clone(),
    });
    let past = Past::new(config.store.dir.clone(), boot, recorder.flusher());
    let restarted = Restarted::new(recorder, unfinished);
    let (to_server, from_tracer) = mpsc::unbounded_channel();
    let (to_tracer, requests) = std::sync::mpsc::channel();
    let (change, config) = watch::channel(Arc::new(config));
    let mut pipeline = DaemonSubscriber::pipeline(
        &tracer.probes,
        restarted,
        to_server,
        requests,
        config.clone(),
    )?;
    let server = Server {
        listener: socket
            .listener
            .try_clone()
            .context("cannot duplicate the socket")?,
        from_tracer,
        requests: to_tracer,
        config,
        change,
        file,
        verbose,
        past,
    };
    let server = thread::Builder::new()
        .name("lastbyte-socket".to_owned())
        .spawn(move || server.serve())
        .context("cannot start the server's thread")?;
    let result = tracer.run(&mut pipeline, stop).await;
    log::info!(
        "stopping: {} sessions closed, {} open",
        pipeline.model.closed(),
        pipeline.model.open()
    );
    pipeline.subscriber.finish();
    // The server ends when every client has got what is queued for it.
    match server.join() {
        Ok(served) => result.and(served),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Creates the state directory if systemd has not (`StateDirectory=`, systemd.exec(5)).
fn state_directory(path: &Path, owner: &User) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())))
        .with_context(|| format!("cannot create the state directory {}", path.display()))
}

/// Warns of hooks whose programs cannot run, before they are needed.
fn warn_of_programs(config: &Config) {
    for problem in config.programs_missing() {
        log::warn!("{problem}");
    }
}

/// The level to log with.
fn log_level(config: &Config, verbose: bool) -> LevelFilter {
    match verbose {
        true => config.log.max(LevelFilter::Debug),
        false => config.log,
    }
}

/// How much the flight recorder keeps, as configured.
fn policy(config: &Config) -> Policy {
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Policy {
        max_age: ns(config.store.max_age),
        findings_max_age: ns(config.store.findings_max_age),
        max_bytes: config.store.max_bytes,
    }
}
