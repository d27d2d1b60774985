//! The client's side of the socket: blocking, one request a connection.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    access::Sees,
    protocol::{self, BadFrame, Frame, Hello, Reply, Request, Welcome},
};

/// Where the daemon listens unless it was told otherwise.
pub const SOCKET: &str = "/run/lastbyte/lastbyte.sock";

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon answers on {0}: {1}")]
    NoDaemon(PathBuf, io::Error),
    /// It does not want us.
    #[error("the daemon on {0} refuses: {1}")]
    Refused(PathBuf, String),
    /// The request failed.
    #[error("the daemon: {0}")]
    Failed(String),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] io::Error),
    /// It said something that is not understood.
    #[error("the daemon said {0}")]
    Nonsense(#[from] BadFrame),
}

/// A connection on which a request has been made.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// What the daemon shows us.
    pub sees: Sees,
}

impl Client {
    /// Connects and makes the request.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NoDaemon`] when nobody listens there.
    pub fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|error| ClientError::NoDaemon(path.to_owned(), error))?;
        let mut client = Self {
            stream,
            sees: Sees::Own(u32::MAX),
        };
        let hello = Hello {
            protocol: protocol::VERSION,
            client: format!("lastbyte {}", env!("CARGO_PKG_VERSION")),
        };
        // One that refuses says so without waiting for this.
        let said = client.say(&hello);
        match client.hear::<Welcome>()? {
            Some(Frame::Message(Welcome::Welcome { sees, .. })) => client.sees = sees,
            Some(Frame::Message(Welcome::Refused { reason })) => {
                return Err(ClientError::Refused(path.to_owned(), reason));
            }
            Some(Frame::Records(_)) | None => {
                said?;
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        client.say(request)?;
        Ok(client)
    }

    /// The next reply; `None` when the daemon has said everything.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when that is what it says.
    pub fn reply(&mut self) -> Result<Option<Frame<Reply>>, ClientError> {
        match self.hear()? {
            Some(Frame::Message(Reply::Failed { reason })) => Err(ClientError::Failed(reason)),
            other => Ok(other),
        }
    }

    /// A handle that ends the connection, from another thread too.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn closer(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let frame = protocol::json(message);
        // A message of ours has far less than 4 GiB.
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        self.stream.write_all(&bytes)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, ClientError> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > protocol::MAX_REPLY {
            return Err(BadFrame::Kind(length).into());
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(protocol::read(Bytes::from(frame))?))
    }
}
