//! Whether a daemon is asked, or the probes are loaded here.

use std::path::PathBuf;

use clap::Args;

use crate::daemon::{
    client::{Client, ClientError, SOCKET},
    protocol::Request,
};

/// Which daemon to ask.
#[derive(Clone, Debug, Args)]
pub struct Attach {
    /// Where the daemon listens
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "LASTBYTE_SOCKET")]
    pub socket: PathBuf,
    /// Trace here and now, even if a daemon answers
    #[arg(long)]
    pub no_daemon: bool,
}

impl Attach {
    /// Asks the daemon; `None` when none answers and the user did not insist on one.
    pub fn ask(&self, request: &Request) -> Result<Option<Client>, ClientError> {
        if self.no_daemon {
            return Ok(None);
        }
        match Client::ask(&self.socket, request) {
            Ok(client) => Ok(Some(client)),
            // Root has another way; everybody else is told why this one is closed.
            Err(ClientError::NoDaemon(path, error)) => {
                log::debug!("no daemon on {}: {error}", path.display());
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}
