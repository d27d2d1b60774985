//! Findings, and the processes they name.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

use super::{Fix, SessionView, Slot};
use crate::model::{Container, Visible};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Written bytes were discarded before they reached the client.
    Truncated,
    /// The leader has exited, others keep its streams open.
    Orphaned,
    /// The server does not read what was written.
    Stalled,
    /// Leader and streams are done, the connection stays for another reason.
    Waiting,
    /// The server was told of the leader's death before it had read everything, and read it later.
    NearMiss,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::Truncated,
        Self::Orphaned,
        Self::Stalled,
        Self::Waiting,
        Self::NearMiss,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Orphaned => "orphaned",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::NearMiss => "near_miss",
        }
    }
}

/// How far a finding has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// New.
    Open,
    /// Its holders are others than before.
    Updated,
    /// No longer so.
    Resolved,
}

impl State {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Updated, Self::Resolved];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
        }
    }
}

/// Why bytes were lost or are not moving, or what keeps a connection open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
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
    /// The server is not reading.
    ServerNotReading,
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
            Self::ServerClosedEarly => "server_closed_early",
            Self::WriterCut => "writer_cut",
            Self::ServerKilled => "server_killed",
            Self::PtyHangup => "pty_hangup",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::ServerDropped => "server_dropped",
            Self::Undelivered => "undelivered",
            Self::Taken => "taken",
            Self::ServerNotReading => "server_not_reading",
            Self::X11 => "x11",
            Self::Forward => "forward",
        }
    }
}

/// See [`Update::Finding`](crate::model::Update::Finding).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// When it became so.
    pub time: u64,
    /// When that was known, and reported; 0 where it was not kept.
    #[serde(default)]
    pub known: u64,
    /// About what.
    pub kind: Kind,
    /// How far it has come.
    pub state: State,
    /// Since when it has been so, where the sentence says for how long.
    #[serde(default)]
    pub since: Option<u64>,
    /// Whose.
    pub session: Arc<SessionView>,
    /// Which stream; of several, the first.
    pub stream: Option<Slot>,
    /// Bytes lost (truncated), written since the leader's exit (orphaned), unread (stalled), unread
    /// when the server was told of the leader's death (near miss).
    pub bytes: u64,
    /// No gap in `bytes`.
    pub exact: bool,
    /// Why.
    pub cause: Option<Cause>,
    /// Who keeps the streams (orphaned) or the forwarded X11 display (waiting) open; who did, when that
    /// is resolved.
    pub holders: Vec<HolderView>,
    /// From the server being told of the leader's death to its last read, ns.
    pub margin_ns: Option<i64>,
    /// One sentence for a person.
    pub message: String,
    /// What to do about it.
    pub fix: Fix,
    /// A state that may well be ordinary: shown where sessions are listed, but not worth a line.
    #[serde(default)]
    pub quiet: bool,
}

impl Finding {
    /// What clients and commands do all day: reported only where everything is asked for.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        self.quiet || self.kind == Kind::NearMiss || self.cause == Some(Cause::ClientGone)
    }
}

/// A process with an open session end of a stream, or a connection to a forwarded X11 display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// Its pid.
    pub pid: u32,
    /// Its pid in its own namespace.
    pub ns_pid: u32,
    /// When it started.
    pub start: u64,
    /// Real user id.
    pub uid: u32,
    /// Its name.
    pub comm: Visible,
    /// Its arguments; empty when not known.
    pub argv: Vec<Visible>,
    /// The arguments were longer than what was kept.
    pub argv_cut: bool,
    /// The arguments hold nothing that had to be made visible: they can be given to a shell.
    #[serde(default)]
    pub argv_verbatim: bool,
    /// What stood before its arguments when it was started, such as `nohup` or `sudo -u app`.
    #[serde(default)]
    pub launcher: Vec<Visible>,
    /// It is a fork that never executed a program of its own: `argv` is its parent's.
    pub forked: bool,
    /// Descriptors, ascending.
    pub fds: Vec<u32>,
    /// Its unix sockets in whose queues an end waits to be received, ascending.
    pub sockets: Vec<u32>,
    /// Its io_urings that an end is registered with, ascending.
    pub rings: Vec<u32>,
    /// Pids of younger processes that have the same descriptor table, ascending.
    pub shared_with: Vec<u32>,
    /// Streams held, ascending; none when it is the display that is held.
    pub streams: Vec<Slot>,
    /// From the leader to the holder; what is not known is left out, and the middle of a long one.
    pub path: Vec<Step>,
    /// How it came by its copies.
    pub origin: Origin,
    /// Who passed them to it, where only one can have done so.
    pub sender: Option<Step>,
    /// The container that it runs in.
    pub container: Option<Container>,
}

impl HolderView {
    /// All that it has waits to be received from its unix sockets.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        !self.sockets.is_empty() && self.fds.is_empty() && self.rings.is_empty()
    }
}

impl HolderView {
    /// Start and pid: its process.
    pub(in crate::model) const fn identity(&self) -> (u64, u32) {
        (self.start, self.pid)
    }
}

/// One process of an inheritance path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub comm: Visible,
    /// Its pid.
    pub pid: u32,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.comm, self.pid)
    }
}

/// How a holder came by its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It descends from the leader.
    Inherited,
    /// The copies were sent over a unix socket.
    Passed,
    /// It does not descend from the leader: the copies were handed to it in some way.
    Received,
    /// Not known, as part of the past is.
    Unknown,
}
