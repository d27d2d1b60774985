//! An SSH server for tests that can be told to end a session too early.
//!
//! It speaks the real protocol to the real `ssh` client, accepts every public key, and listens on
//! the loopback address only. All connections live in one process, as in servers written in Go or
//! Python.

mod command;
mod connection;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};
use russh::server::{Config, run_stream};
use russh::{MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};

use connection::Connection;

/// What the server does when it learns that the command has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Close its ends at once, whatever is still in them (early OpenSSH).
    Eager,
    /// Read stdout and stderr to their end first.
    Drain,
    /// Read them to their end, send nothing of it, and hang up.
    Forget,
}

/// What connects the server with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Streams {
    /// Three pipes.
    Pipe,
    /// One unix socketpair for stdin and stdout, another for stderr (OpenSSH before 2008).
    Socketpair,
    /// No stdin, and two pipes (Go's `exec.Command` without `Stdin`).
    NoStdin,
    /// No stdin, and one pipe for both outputs (Go's `CombinedOutput`).
    OnePipe,
}

/// Command line of the `eager` binary.
#[derive(Debug, Parser)]
#[command(about = "SSH server for tests: accepts every key, may lose the last bytes on purpose")]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// When to close the command's streams after it exited
    #[arg(long, value_enum, default_value_t = Mode::Eager)]
    pub mode: Mode,
    /// How the command is connected
    #[arg(long, value_enum, default_value_t = Streams::Pipe)]
    pub streams: Streams,
    /// Private host key; without it a new ed25519 key is made
    #[arg(long)]
    pub host_key: Option<PathBuf>,
}

/// Serves until the process is killed; prints `listening ADDRESS` on stdout once it can be reached.
///
/// # Errors
/// When the host key cannot be read or the port not be bound.
pub async fn serve(options: Options) -> anyhow::Result<()> {
    let key = match &options.host_key {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read host key {}", path.display()))?;
            decode_secret_key(&text, None)
                .with_context(|| format!("{} is no private key", path.display()))?
        }
        None => PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .context("cannot make a host key")?,
    };
    let config = Config {
        keys: vec![key],
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        inactivity_timeout: None,
        // The less is under way inside the server, the more is left in the pipe at the exit.
        event_buffer_size: 1,
        ..Config::default()
    };
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{}", options.port))?;
    println!("listening {}", socket.local_addr()?);
    let config = Arc::new(config);
    loop {
        let (stream, _) = socket.accept().await.context("accepting failed")?;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let connection = Connection::new(options.mode, options.streams, stream.try_clone()?);
        let session = run_stream(config.clone(), TcpStream::from_std(stream)?, connection);
        // Its end, however it comes about, is the client's business.
        tokio::spawn(async move {
            drop(session.await?.await);
            Ok::<_, russh::Error>(())
        });
    }
}
