//! One client connection: authentication, channels, and which request starts what.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;

use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};

use super::command::Command;
use super::{Mode, Streams};

/// Channels that were opened but not told what to run yet.
pub(super) struct Connection {
    mode: Mode,
    streams: Streams,
    socket: Arc<TcpStream>,
    idle: HashMap<ChannelId, Idle>,
}

impl Connection {
    /// One client, on a copy of its socket.
    pub(super) fn new(mode: Mode, streams: Streams, socket: TcpStream) -> Self {
        Self {
            mode,
            streams,
            socket: Arc::new(socket),
            idle: HashMap::new(),
        }
    }
}

struct Idle {
    channel: Channel<Msg>,
    environment: Vec<(String, String)>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.idle.insert(
            channel.id(),
            Idle {
                channel,
                environment: Vec::new(),
            },
        );
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.idle.get_mut(&channel) {
            Some(idle) if name.starts_with("LB_") => {
                idle.environment.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(idle) = self.idle.remove(&channel) else {
            return session.channel_failure(channel);
        };
        match Command::start(data, idle.environment, self.streams) {
            Ok(command) => {
                session.channel_success(channel)?;
                tokio::spawn(command.run(self.mode, idle.channel, self.socket.clone()));
                Ok(())
            }
            Err(error) => {
                eprintln!("cannot start {}: {error}", String::from_utf8_lossy(data));
                session.channel_failure(channel)
            }
        }
    }
}
