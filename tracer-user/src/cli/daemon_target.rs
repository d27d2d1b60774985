//! Whether a daemon is asked, or the probes are loaded here.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::daemon::{
    client::{Client, ClientError, SOCKET},
    protocol::Request,
};

/// Which daemon to ask.
#[derive(Clone, Debug, Default, Args)]
pub struct DaemonTarget {
    /// Socket of the daemon; fails if nothing listens there [default: /run/lastbyte/lastbyte.sock]
    // No conflict with --no-daemon: the variable may well be set for all commands.
    #[arg(long, value_name = "PATH", env = "LASTBYTE_SOCKET")]
    socket: Option<PathBuf>,
    /// Trace locally, even if a daemon answers
    #[arg(long)]
    no_daemon: bool,
}

impl DaemonTarget {
    /// Where the daemon listens.
    pub fn path(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(SOCKET))
    }

    /// Whether the daemon must not be asked.
    pub const fn is_local(&self) -> bool {
        self.no_daemon
    }

    /// Asks the daemon, which must answer.
    pub fn insist(&self, request: &Request) -> Result<Client, ClientError> {
        Client::ask(self.path(), request)
    }

    /// Asks the daemon; `None` when none answers and none was named.
    pub fn ask(&self, request: &Request) -> Result<Option<Client>, ClientError> {
        if self.no_daemon {
            return Ok(None);
        }
        match self.insist(request) {
            Ok(client) => Ok(Some(client)),
            Err(ClientError::NoDaemon(path, error)) if self.socket.is_none() => {
                log::debug!("no daemon on {}: {error}", path.display());
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable may be set for all commands: that alone is no wish for the daemon.
    #[test]
    fn no_daemon_wins_over_a_socket_from_the_environment() {
        let nowhere = Some(PathBuf::from("/nonexistent/lastbyte.sock"));
        let named = |no_daemon| DaemonTarget {
            socket: nowhere.clone(),
            no_daemon,
        };
        assert!(matches!(named(true).ask(&Request::Status), Ok(None)));
        assert!(matches!(
            named(false).ask(&Request::Status),
            Err(ClientError::NoDaemon(..))
        ));
    }
}
