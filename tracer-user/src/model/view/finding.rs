//! Findings: what is worth an operator's attention.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Cause, Fix, HolderView, LossCause, SessionId, SessionView, Slot, StallCause, WaitCause,
};

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

    /// Whether it is a state that a session is in until it is resolved; else it happens once and is final.
    #[must_use]
    pub const fn is_hang(self) -> bool {
        match self {
            Self::Orphaned | Self::Stalled | Self::Waiting => true,
            Self::Truncated | Self::NearMiss => false,
        }
    }

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

/// What a finding is about, and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum FindingBody {
    /// Written bytes were discarded before they reached the client.
    Truncated {
        /// Which stream.
        stream: Slot,
        /// Bytes lost.
        lost: u64,
        /// Why.
        cause: LossCause,
        /// From the server knowing of the leader's death to its last read, ns.
        margin_ns: Option<i64>,
    },
    /// The leader has exited, others keep its streams open.
    Orphaned {
        /// The first of the streams that are held.
        stream: Option<Slot>,
        /// Bytes written since the leader's exit.
        written: u64,
        /// The processes that hold them; once that is resolved, those that did.
        holders: Vec<HolderView>,
    },
    /// The server does not read what was written.
    Stalled {
        /// Which stream.
        stream: Slot,
        /// Bytes unread.
        unread: u64,
        /// Since when, ns; `None` once it moves again, or where that is not known.
        since: Option<u64>,
    },
    /// Leader and streams are done, the connection stays for another reason.
    Waiting {
        /// What keeps it open.
        cause: WaitCause,
        /// Programs that use the forwarded X11 display; once that is resolved, those that did.
        programs: Vec<HolderView>,
    },
    /// The server knew of the leader's death before it had read everything, and read it later.
    NearMiss {
        /// Which stream.
        stream: Slot,
        /// Bytes unread when the server knew.
        unread: u64,
        /// From then to its last read, ns.
        margin_ns: Option<i64>,
    },
}

/// See [`Update::Finding`](super::Update::Finding).
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// When it became so, ns.
    pub time: u64,
    /// When that was known, and reported, ns; 0 where it was not kept.
    pub known: u64,
    /// How far it has come.
    pub state: State,
    /// The session that it is about.
    pub session: Arc<SessionView>,
    /// What was found.
    pub body: FindingBody,
    /// No gap in its bytes.
    pub exact: bool,
    /// One sentence for a person.
    pub message: String,
    /// What to do about it.
    pub fix: Fix,
    /// A state that may well be ordinary: shown where sessions are listed, but not worth a line.
    pub quiet: bool,
}

/// What makes two findings one that changes: the same session, kind and stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingKey {
    /// Its session.
    pub session: SessionId,
    /// What it is about.
    pub kind: Kind,
    /// Its stream; `None` for what is about the whole session: the stream that is held first changes with
    /// the holders.
    pub stream: Option<Slot>,
}

impl Finding {
    /// What distinguishes it from other findings, however it changes.
    #[must_use]
    pub fn key(&self) -> FindingKey {
        FindingKey {
            session: self.session.id,
            kind: self.kind(),
            stream: match self.body {
                FindingBody::Truncated { stream, .. }
                | FindingBody::Stalled { stream, .. }
                | FindingBody::NearMiss { stream, .. } => Some(stream),
                FindingBody::Orphaned { .. } | FindingBody::Waiting { .. } => None,
            },
        }
    }

    /// Keeps the first `most` holders.
    pub(in crate::model) fn keep_holders(&mut self, most: usize) {
        match &mut self.body {
            FindingBody::Orphaned { holders, .. } => holders.truncate(most),
            FindingBody::Waiting { programs, .. } => programs.truncate(most),
            FindingBody::Truncated { .. }
            | FindingBody::Stalled { .. }
            | FindingBody::NearMiss { .. } => {}
        }
    }

    /// What clients and commands do all day: reported only where everything is asked for.
    #[must_use]
    pub const fn is_routine(&self) -> bool {
        let is_ordinary = matches!(
            self.body,
            FindingBody::NearMiss { .. }
                | FindingBody::Truncated {
                    cause: LossCause::ClientGone,
                    ..
                }
        );
        self.quiet || is_ordinary
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match &self.body {
            FindingBody::Truncated { .. } => Kind::Truncated,
            FindingBody::Orphaned { .. } => Kind::Orphaned,
            FindingBody::Stalled { .. } => Kind::Stalled,
            FindingBody::Waiting { .. } => Kind::Waiting,
            FindingBody::NearMiss { .. } => Kind::NearMiss,
        }
    }

    /// Which stream; of several, the first.
    #[must_use]
    pub const fn stream(&self) -> Option<Slot> {
        match &self.body {
            FindingBody::Truncated { stream, .. }
            | FindingBody::Stalled { stream, .. }
            | FindingBody::NearMiss { stream, .. } => Some(*stream),
            FindingBody::Orphaned { stream, .. } => *stream,
            FindingBody::Waiting { .. } => None,
        }
    }

    /// Bytes lost (truncated), written since the leader's exit (orphaned), unread (stalled), unread when the
    /// server knew of the leader's death (near miss).
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match &self.body {
            FindingBody::Truncated { lost, .. } => *lost,
            FindingBody::Orphaned { written, .. } => *written,
            FindingBody::Stalled { unread, .. } | FindingBody::NearMiss { unread, .. } => *unread,
            FindingBody::Waiting { .. } => 0,
        }
    }

    /// Why.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        match &self.body {
            FindingBody::Truncated { cause, .. } => Some(Cause::Loss(*cause)),
            FindingBody::Stalled { .. } => Some(Cause::Stall(StallCause::ServerNotReading)),
            FindingBody::Waiting { cause, .. } => Some(Cause::Wait(*cause)),
            FindingBody::Orphaned { .. } | FindingBody::NearMiss { .. } => None,
        }
    }

    /// Processes that hold the session open, or did.
    #[must_use]
    pub const fn holders(&self) -> &[HolderView] {
        match &self.body {
            FindingBody::Orphaned { holders, .. } => holders.as_slice(),
            FindingBody::Waiting { programs, .. } => programs.as_slice(),
            FindingBody::Truncated { .. }
            | FindingBody::Stalled { .. }
            | FindingBody::NearMiss { .. } => &[],
        }
    }

    /// From the server knowing of the leader's death to its last read, ns.
    #[must_use]
    pub const fn margin_ns(&self) -> Option<i64> {
        match &self.body {
            FindingBody::Truncated { margin_ns, .. } | FindingBody::NearMiss { margin_ns, .. } => {
                *margin_ns
            }
            FindingBody::Orphaned { .. }
            | FindingBody::Stalled { .. }
            | FindingBody::Waiting { .. } => None,
        }
    }

    /// Since when a stream stands still, ns; `None` once it moves again.
    #[must_use]
    pub const fn since(&self) -> Option<u64> {
        match &self.body {
            FindingBody::Stalled { since, .. } => *since,
            FindingBody::Truncated { .. }
            | FindingBody::Orphaned { .. }
            | FindingBody::Waiting { .. }
            | FindingBody::NearMiss { .. } => None,
        }
    }
}
