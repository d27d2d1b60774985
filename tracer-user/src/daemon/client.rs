//! The client's side of the socket: blocking, one request a connection.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    access::Sees,
    protocol::{self, BadFrame, Frame, Hello, Reply, Request, Welcome},
};

/// Where the daemon listens unless configured otherwise.
pub const SOCKET: &str = "/run/lastbyte/lastbyte.sock";

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon answers on {0}: {1}")]
    NoDaemon(PathBuf, io::Error),
    /// It refuses the client.
    #[error("the daemon on {0} refuses: {1}")]
    Refused(PathBuf, String),
    /// The request failed.
    #[error("the daemon: {0}")]
    Failed(String),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] io::Error),
    /// The answer is not whole.
    #[error("the daemon closed the connection before its answer was complete; see its log")]
    Incomplete,
    /// The reply is not of the protocol.
    #[error("unexpected reply of the daemon: {0}")]
    Nonsense(#[from] BadFrame),
}

/// A connection on which a request has been made.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// What the daemon shows us.
    pub sees: Sees,
    /// The daemon has said that nothing follows.
    complete: bool,
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
            complete: false,
        };
        let hello = Hello {
            protocol: protocol::VERSION,
            client: format!("lastbyte {}", env!("CARGO_PKG_VERSION")),
        };
        // One that refuses says so without waiting for this.
        let said = client.say(&hello);
        match receive::<Welcome>(&mut client.stream)? {
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
    /// [`ClientError::Failed`] when that is what it says; [`ClientError::Incomplete`] when the connection
    /// ends before the daemon has said that it is done.
    pub fn reply(&mut self) -> Result<Option<Frame<Reply>>, ClientError> {
        if self.complete {
            return Ok(None);
        }
        match receive(&mut self.stream)? {
            Some(Frame::Message(Reply::Failed { reason })) => Err(ClientError::Failed(reason)),
            Some(Frame::Message(Reply::Done)) => {
                self.complete = true;
                Ok(None)
            }
            Some(reply) => {
                self.complete = matches!(reply, Frame::Message(Reply::Bye | Reply::Missed { .. }));
                Ok(Some(reply))
            }
            None => Err(ClientError::Incomplete),
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
}

/// Reads a message; `None` when the other side has closed the connection.
///
/// # Errors
/// [`ClientError::Broken`] when the connection ends within a message, [`ClientError::Nonsense`].
pub(super) fn receive<T: DeserializeOwned>(
    from: &mut impl io::Read,
) -> Result<Option<Frame<T>>, ClientError> {
    // The kind, then what the parts hold.
    let mut message = vec![0];
    loop {
        let mut length = [0; 4];
        match from.read_exact(&mut length[..1]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && message.len() == 1 => {
                return Ok(None);
            }
            other => other?,
        }
        from.read_exact(&mut length[1..])?;
        let body = match u32::from_be_bytes(length) as usize {
            length if (1..=protocol::MAX_FRAME + 1).contains(&length) => length - 1,
            length => return Err(BadFrame::Kind(length).into()),
        };
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        let at = message.len();
        message.resize(at + body, 0);
        from.read_exact(&mut message[at..])?;
        if kind != [protocol::PART] {
            message[0] = kind[0];
            return Ok(Some(protocol::read(Bytes::from(message))?));
        }
    }
}
