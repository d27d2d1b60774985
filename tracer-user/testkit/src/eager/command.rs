//! One command of a client: its process, its streams, and the moment they are closed.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Mode, Streams};

/// Bytes taken from a stream by one read.
const CHUNK: usize = 8 * 1024;

/// SSH's number for stderr in extended data (RFC 4254, 5.2).
const EXTENDED_STDERR: u32 = 1;

/// An end of a stream that the server reads, closed the moment it is taken out.
type Slot = Arc<Mutex<Option<Box<dyn AsyncRead + Send + Unpin>>>>;

/// A started command and the server ends of its streams.
pub(super) struct Command {
    child: Child,
    /// Every change of a child's state; the wait happens only after one of these.
    child_signals: Signal,
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    stdout: Slot,
    stderr: Slot,
}

impl Command {
    /// Starts `bash -c LINE`.
    pub(super) fn start(
        line: &[u8],
        environment: Vec<(String, String)>,
        streams: Streams,
    ) -> io::Result<Self> {
        // Before the spawn, so that no exit can slip by unnoticed.
        let child_signals = signal(SignalKind::child())?;
        let mut command = std::process::Command::new("bash");
        command
            .arg("-c")
            .arg(OsStr::from_bytes(line))
            .envs(environment);
        match streams {
            Streams::Pipe => {
                command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                let mut child = command.spawn()?;
                let taken = || io::Error::other("a piped stream is missing");
                let stdin: OwnedFd = child.stdin.take().ok_or_else(taken)?.into();
                let stdout: OwnedFd = child.stdout.take().ok_or_else(taken)?.into();
                let stderr: OwnedFd = child.stderr.take().ok_or_else(taken)?.into();
                Ok(Self {
                    child,
                    child_signals,
                    stdin: Box::new(pipe::Sender::from_owned_fd(stdin)?),
                    stdout: slot(pipe::Receiver::from_owned_fd(stdout)?),
                    stderr: slot(pipe::Receiver::from_owned_fd(stderr)?),
                })
            }
            Streams::NoStdin => {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                let mut child = command.spawn()?;
                let taken = || io::Error::other("a piped stream is missing");
                let stdout: OwnedFd = child.stdout.take().ok_or_else(taken)?.into();
                let stderr: OwnedFd = child.stderr.take().ok_or_else(taken)?.into();
                Ok(Self {
                    child,
                    child_signals,
                    stdin: Box::new(tokio::io::sink()),
                    stdout: slot(pipe::Receiver::from_owned_fd(stdout)?),
                    stderr: slot(pipe::Receiver::from_owned_fd(stderr)?),
                })
            }
            Streams::OnePipe => {
                let (server_output, child_output) = io::pipe()?;
                command
                    .stdin(Stdio::null())
                    .stdout(child_output.try_clone()?)
                    .stderr(child_output);
                let child = command.spawn()?;
                // The command owns the child's ends until dropped; a kept copy would hide its EOF.
                drop(command);
                Ok(Self {
                    child,
                    child_signals,
                    stdin: Box::new(tokio::io::sink()),
                    stdout: slot(pipe::Receiver::from_owned_fd(server_output.into())?),
                    stderr: slot(tokio::io::empty()),
                })
            }
            Streams::Socketpair => {
                let (server_inout, child_inout) = std::os::unix::net::UnixStream::pair()?;
                let (server_error, child_error) = std::os::unix::net::UnixStream::pair()?;
                let child_inout = OwnedFd::from(child_inout);
                command
                    .stdin(Stdio::from(child_inout.try_clone()?))
                    .stdout(Stdio::from(child_inout))
                    .stderr(Stdio::from(OwnedFd::from(child_error)));
                let child = command.spawn()?;
                // The command owns the child's ends until dropped; a kept copy would hide its EOF.
                drop(command);
                let (stdout, stdin) = unix(server_inout)?.into_split();
                Ok(Self {
                    child,
                    child_signals,
                    stdin: Box::new(stdin),
                    stdout: slot(stdout),
                    stderr: slot(unix(server_error)?),
                })
            }
        }
    }

    /// Carries the streams until the session is over, as `mode` says, then closes the channel.
    pub(super) async fn run(self, mode: Mode, channel: Channel<Msg>, socket: Arc<TcpStream>) {
        let Self {
            mut child,
            mut child_signals,
            stdin,
            stdout,
            stderr,
        } = self;
        let (from_client, to_client) = channel.split();
        let sends = mode != Mode::Forget;
        let mut input = tokio::spawn(feed(from_client, stdin));
        let mut output = Box::pin(async {
            tokio::join!(
                carry(&stdout, sends.then_some(&to_client), None),
                carry(&stderr, sends.then_some(&to_client), Some(EXTENDED_STDERR)),
            )
        });

        let mut drained = false;
        let status = loop {
            tokio::select! {
                biased;
                status = reaped(&mut child, &mut child_signals), if mode == Mode::Eager || drained => break status,
                _ = &mut output, if !drained => drained = true,
                _ = &mut input => {
                    // The client is gone, or has closed the channel: nobody reads any more.
                    close(&stdout);
                    close(&stderr);
                    drop(reaped(&mut child, &mut child_signals).await);
                    return;
                }
            }
        };
        close(&stdout);
        close(&stderr);
        if !sends {
            // The client may have left before.
            drop(socket.shutdown(Shutdown::Both));
            return;
        }
        // The task owns stdin; for a socketpair this also gives up the write half of stdout's socket.
        input.abort();
        drop(input.await);
        if !drained {
            // What had been read is still sent; the closed ends then look like EOF.
            output.await;
        }
        drop(finish(&to_client, status).await);
    }
}

fn slot(end: impl AsyncRead + Send + Unpin + 'static) -> Slot {
    Arc::new(Mutex::new(Some(Box::new(end))))
}

fn unix(end: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    end.set_nonblocking(true)?;
    UnixStream::from_std(end)
}

/// Calls close(2) on the end, now.
fn close(slot: &Slot) {
    drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Waits for SIGCHLD and asks whether it was about this child.
async fn reaped(child: &mut Child, signals: &mut Signal) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals.recv().await.is_none() {
            return Err(io::Error::other("no more signals"));
        }
    }
}

/// Sends what the command writes until EOF, or until the slot is emptied; only reads it when there is
/// nobody to send it to.
async fn carry(slot: &Slot, to_client: Option<&ChannelWriteHalf<Msg>>, extended: Option<u32>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = read(slot, &mut buffer).await;
        if length == 0 {
            close(slot);
            return;
        }
        let Some(to_client) = to_client else { continue };
        let data = Bytes::copy_from_slice(&buffer[..length]);
        let sent = match extended {
            None => to_client.data_bytes(data).await,
            Some(code) => to_client.extended_data_bytes(code, data).await,
        };
        if sent.is_err() {
            close(slot);
            return;
        }
    }
}

/// Bytes read; 0 at EOF, on error, and once the slot is empty.
async fn read(slot: &Slot, buffer: &mut [u8]) -> usize {
    poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = slot.as_mut() else {
            return Poll::Ready(0);
        };
        let mut filled = ReadBuf::new(buffer);
        match Pin::new(end).poll_read(context, &mut filled) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(filled.filled().len()),
            Poll::Ready(Err(_)) => Poll::Ready(0),
        }
    })
    .await
}

/// Writes the client's data to stdin; returns when the client closes the channel or leaves.
async fn feed(mut from_client: ChannelReadHalf, stdin: Box<dyn AsyncWrite + Send + Unpin>) {
    let mut stdin = Some(stdin);
    while let Some(message) = from_client.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(end) = stdin.as_mut()
                    && end.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            ChannelMsg::Eof => {
                if let Some(mut end) = stdin.take() {
                    // A socket needs the half-close; a pipe is closed by the drop.
                    drop(end.shutdown().await);
                }
            }
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Tells the client how the command ended and closes the channel.
async fn finish(
    to_client: &ChannelWriteHalf<Msg>,
    status: io::Result<ExitStatus>,
) -> Result<(), russh::Error> {
    if let Ok(status) = status {
        // What a shell reports for a process that a signal ended.
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        to_client.exit_status(code.unsigned_abs()).await?;
    }
    to_client.eof().await?;
    to_client.close().await
}
