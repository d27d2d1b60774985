//! Last words: on a stream, on a session.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};

use super::{History, LossCause, SessionView, Slot};

/// The final word on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The server read everything that was written.
    Clean,
    /// The same, but some of it only after it was told of the leader's death.
    NearMiss {
        /// Bytes that were unread then.
        unread: u64,
    },
    /// There is a gap.
    Unknown,
    /// Written bytes were discarded.
    Truncated(Cut),
}

impl Verdict {
    /// All the words.
    pub const WORDS: [&str; 4] = ["clean", "near_miss", "unknown", "truncated"];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::NearMiss { .. } => "near_miss",
            Self::Unknown => "unknown",
            Self::Truncated(_) => "truncated",
        }
    }

    /// The words for a person: what a client did not want is nothing that was truncated.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NearMiss { .. } => "near miss",
            gone if gone.is_clients_choice() => "client gone",
            other => other.name(),
        }
    }

    /// How bad it is: the worst of the streams is the session's.
    pub(in crate::model) const fn rank(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::NearMiss { .. } => 1,
            Self::Unknown => 2,
            Self::Truncated(_) if self.is_clients_choice() => 3,
            Self::Truncated(_) => 4,
        }
    }

    /// The client left or wanted no more: what it did not get is nobody's loss.
    #[must_use]
    pub const fn is_clients_choice(self) -> bool {
        matches!(
            self,
            Self::Truncated(Cut {
                cause: LossCause::ClientGone,
                ..
            })
        )
    }
}

/// What a stream lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// How much.
    pub bytes: u64,
    /// Exactly so, not at least.
    pub exact: bool,
    /// Why.
    pub cause: LossCause,
}

/// The ledger of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Which.
    pub slot: Slot,
    /// What it was made of: `pipe`, `unix`, `pty`.
    pub transport: Cow<'static, str>,
    /// Inode number of the object.
    pub object: u64,
    /// The final word.
    pub verdict: Verdict,
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes in the object when the reader's end was released.
    pub unread: u64,
    /// No gap in `unread`.
    pub exact: bool,
    /// From the server being told of the leader's death to its last read, ns; negative when it had
    /// read everything before.
    pub margin_ns: Option<i64>,
    /// What else is to be known.
    pub note: Option<String>,
}

/// See [`Update::SessionClosed`](crate::model::Update::SessionClosed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When its last part ended.
    pub time: u64,
    /// When the verdict was known, and reported: some time later, as a write may yet fail. 0 where it was
    /// not kept.
    #[serde(default)]
    pub known: u64,
    /// Which.
    pub session: Arc<SessionView>,
    /// The worst of its streams.
    pub verdict: Verdict,
    /// Why evidence is missing; empty when none is.
    pub gaps: Vec<GapReason>,
    /// Its observed streams.
    pub streams: Vec<StreamReport>,
    /// What its connection carried to the client meanwhile; `None` when that is not known.
    pub carried: Option<Carried>,
    /// What it went through.
    #[serde(default)]
    pub had: History,
}

/// What a server sent to its client while a session lasted, in bytes of TCP payload: what SSH made of
/// the session's data, and of everything else on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Given to the kernel by the server.
    pub queued: u64,
    /// Put on the network, once at least.
    pub sent: u64,
    /// Acknowledged by the client's kernel.
    pub acked: u64,
}

/// Why evidence is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GapReason {
    /// The kernel side could not deliver, or not keep, something.
    LostRecords,
    /// The session began before the tracer.
    Preexisting,
    /// None of the session's output is on an object that is observed.
    NotObserved,
    /// A server's end went without being seen to be closed, with bytes unaccounted for.
    CloseNotSeen,
    /// What the server sent last was acknowledged in part only, or is still on its way.
    NotAcknowledged,
    /// More was written than the server is known to have read: packets, and too little room.
    Unaccounted,
    /// There are more sessions than are kept.
    TooMany,
    /// No tracer ran for a while, or none went on where it had come to.
    Interrupted,
}

impl GapReason {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostRecords => "lost_records",
            Self::Preexisting => "preexisting",
            Self::NotObserved => "not_observed",
            Self::CloseNotSeen => "close_not_seen",
            Self::NotAcknowledged => "not_acknowledged",
            Self::Unaccounted => "unaccounted",
            Self::TooMany => "too_many_sessions",
            Self::Interrupted => "interrupted",
        }
    }
}
