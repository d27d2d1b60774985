//! Why something was found.

use serde::{Deserialize, Serialize};

/// Why bytes were lost, are not moving, or a connection is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cause {
    /// Why bytes were lost.
    Loss(LossCause),
    /// Why bytes are not moving.
    Stall(StallCause),
    /// What keeps a connection open.
    Wait(WaitCause),
}

/// Why bytes were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LossCause {
    /// The server closed after the command's end without reading the rest.
    ServerClosedEarly,
    /// The server closed while writers were alive.
    WriterCut,
    /// Someone killed the server.
    ServerKilled,
    /// The terminal was hung up.
    PtyHangup,
    /// The client left first.
    ClientGone,
    /// The server gave up a connection that made no progress.
    Timeout,
    /// The server read more than it sent.
    ServerDropped,
    /// The peer never acknowledged what was sent.
    Undelivered,
    /// A process that is no server read it.
    Taken,
}

/// Why bytes are not moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StallCause {
    /// The server is not reading.
    ServerNotReading,
}

/// What keeps a connection open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WaitCause {
    /// A program uses the X11 display that the connection forwards.
    X11,
    /// A forwarded connection is open.
    Forward,
}

impl Cause {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss(cause) => cause.name(),
            Self::Stall(cause) => cause.name(),
            Self::Wait(cause) => cause.name(),
        }
    }
}

impl LossCause {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerClosedEarly => "server_closed_early",
            Self::WriterCut => "writer_cut",
            Self::ServerKilled => "server_killed",
            Self::PtyHangup => "pty_hangup",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::ServerDropped => "server_dropped",
            Self::Undelivered => "undelivered",
            Self::Taken => "taken",
        }
    }
}

impl StallCause {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerNotReading => "server_not_reading",
        }
    }
}

impl WaitCause {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X11 => "x11",
            Self::Forward => "forward",
        }
    }
}

impl From<LossCause> for Cause {
    fn from(cause: LossCause) -> Self {
        Self::Loss(cause)
    }
}

impl From<StallCause> for Cause {
    fn from(cause: StallCause) -> Self {
        Self::Stall(cause)
    }
}

impl From<WaitCause> for Cause {
    fn from(cause: WaitCause) -> Self {
        Self::Wait(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_stored_as_one_word() {
        for (cause, stored) in [
            (LossCause::Taken.into(), r#""Taken""#),
            (StallCause::ServerNotReading.into(), r#""ServerNotReading""#),
            (WaitCause::X11.into(), r#""X11""#),
        ] {
            assert_eq!(serde_json::to_string::<Cause>(&cause).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Cause>(stored).unwrap(), cause);
        }
    }
}
