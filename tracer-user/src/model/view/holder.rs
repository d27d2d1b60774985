//! Processes that hold a session open.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Container, Slot, Visible};

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
