//! The daemon: traces for as long as the machine runs, and tells clients over a unix socket.
//!
//! Two threads: the tracer's has the road from the kernel to the model and waits for nobody; the
//! server's has the socket, the clients and what is so now ([`Board`](board::Board)).

mod access;
mod board;
pub mod client;
pub mod config;
pub mod hooks;
mod hub;
pub mod protocol;
mod road;
mod server;
mod socket;

use std::{future::Future, path::PathBuf, thread};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

pub use self::access::{Rules, Sees};
use self::{road::DaemonRoad, server::Settings, socket::Socket};
use crate::probe::{Options, Tracer};

/// What a daemon is started with.
#[derive(Debug)]
pub struct Setup {
    /// How to trace.
    pub options: Options,
    /// Where to listen.
    pub socket: PathBuf,
    /// Who is let in.
    pub rules: Rules,
    /// How many clients at once.
    pub max_clients: usize,
}

/// Traces and serves until `stop` is.
///
/// # Errors
/// When the socket or the probes cannot be had, and when tracing fails.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let socket = Socket::open(&setup.socket, &setup.rules.group, setup.rules.allow_own)?;
    let mut tracer = Tracer::open(&setup.options)?;
    let (tell, news) = mpsc::unbounded_channel();
    let (_settings, settings) = watch::channel(Settings {
        rules: setup.rules,
        max_clients: setup.max_clients,
    });
    let listener = socket.listener.try_clone().context("the socket")?;
    let server = thread::Builder::new()
        .name("lastbyte-socket".to_owned())
        .spawn(move || server::serve(listener, news, settings))
        .context("starting the server's thread")?;
    let mut road = DaemonRoad::new(&tracer.probes, tell);
    let result = tracer.run(&mut road, stop).await;
    // The server ends when it has told everybody what is queued.
    drop(road);
    match server.join() {
        Ok(served) => result.and(served),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
