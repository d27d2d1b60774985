//! One client connection: authentication, channels, and which request starts what.

use std::collections::HashMap;
use std::net::SocketAddr;

use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Server, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};

use super::command::Command;
use super::{Mode, Streams};

/// Makes a [`Connection`] for each accepted client.
pub(super) struct Listener {
    pub(super) mode: Mode,
    pub(super) streams: Streams,
}

impl Server for Listener {
    type Handler = Connection;

    fn new_client(&mut self, _peer: Option<SocketAddr>) -> Connection {
        Connection {
            mode: self.mode,
            streams: self.streams,
            idle: HashMap::new(),
        }
    }
}

/// Channels that were opened but not told what to run yet.
pub(super) struct Connection {
    mode: Mode,
    streams: Streams,
    idle: HashMap<ChannelId, Idle>,
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
                tokio::spawn(command.run(self.mode, idle.channel));
                Ok(())
            }
            Err(error) => {
                eprintln!("cannot start {}: {error}", String::from_utf8_lossy(data));
                session.channel_failure(channel)
            }
        }
    }
}
