//! What a daemon and its clients say to each other over the unix socket.
//!
//! Frames, in both directions:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the rest, big endian |
//! | 1 | `j`: JSON follows; `r`: records follow, as in a recording without its frames; `p`: the beginning of a message that is longer than a frame may be, which goes on in the next |
//! | n | that |
//!
//! The client begins with a [`Hello`], the daemon answers with a [`Welcome`], the client makes one
//! [`Request`], the daemon sends [`Reply`]s, the last of which is [`Reply::Done`], [`Reply::Failed`],
//! [`Reply::Missed`] or [`Reply::Bye`], and closes: a connection that ends without one of them broke.
//! JSON, so that a client of another version can still read what it knows.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{access::Sees, hooks::HookCounts};
use crate::model::{Filter, FindingFilter, Found, Listed, Update, timeline::Timeline};

/// Changes whenever an older side would misunderstand a newer one.
pub const VERSION: u32 = 2;
/// Longest frame that a client may send, bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Most bytes that follow the kind of a frame that a daemon sends. A longer message is sent in parts.
pub const MAX_FRAME: usize = 1 << 20;

const JSON: u8 = b'j';
const RECORDS: u8 = b'r';
/// Kind of a frame that holds the beginning of a message: the kind of the last frame is that of the whole.
pub(super) const PART: u8 = b'p';

/// First of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its [`VERSION`].
    pub protocol: u32,
    /// What it is, for the log.
    pub client: String,
}

/// The daemon's answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    /// Go on.
    Welcome {
        /// The daemon's [`VERSION`].
        protocol: u32,
        /// Version of its program.
        daemon: String,
        /// What the client is shown.
        sees: Sees,
    },
    /// The connection ends here.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What there is now, then everything that becomes known: [`Reply::State`], [`Reply::Live`],
    /// [`Reply::News`].
    Watch {
        /// Every update, also those that only show a session at work.
        all: bool,
    },
    /// The same without what follows: [`Reply::Live`] is followed by [`Reply::Done`].
    Now,
    /// Sessions, the oldest first: [`Reply::Listed`] for each.
    List(Filter),
    /// A session's course: [`Reply::Listed`], then its records in frames of their own.
    Course {
        /// Its id, the beginning of it, or the pid of its command.
        session: String,
    },
    /// The timeline of an open session: [`Reply::Timeline`], or nothing if the daemon does not have it in
    /// memory; [`Request::Course`] reads it from the database.
    Timeline {
        /// Its id, as `ls` shows it.
        session: String,
    },
    /// How the daemon is: [`Reply::Status`].
    Status,
    /// Findings, the oldest first: [`Reply::Found`] for each.
    Findings(FindingFilter),
    /// What was reported of the latest sessions of this boot and of as many findings, in that order:
    /// [`Reply::State`] for each update.
    Past {
        /// At most so many sessions, and so many findings.
        limit: u64,
    },
}

/// What a daemon tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Something that is so now, or was.
    State(Update),
    /// All that is so now has been told; from here on it is news.
    Live,
    /// Something that became known.
    News(Update),
    /// The client was too slow: so many updates were not sent, and the connection ends.
    Missed {
        /// How many.
        updates: u64,
    },
    /// A session that was asked for.
    Listed(Box<Listed>),
    /// The timeline that was asked for.
    Timeline(Box<Timeline>),
    /// A finding that was asked for.
    Found(Box<Found>),
    /// What follows is not everything.
    Incomplete {
        /// Why.
        reason: String,
    },
    /// How the daemon is.
    Status(Box<Status>),
    /// That was the whole answer.
    Done,
    /// The daemon ends.
    Bye,
    /// The request failed.
    Failed {
        /// What failed, on what, and what to do.
        reason: String,
    },
}

impl Reply {
    /// That a request failed.
    #[must_use]
    pub fn failed(error: &anyhow::Error) -> Self {
        Self::Failed {
            reason: format!("{error:#}"),
        }
    }
}

/// How a daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of its program.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// The system user that it is.
    pub user: String,
    /// The probes are attached and what was there before is known.
    pub traces: bool,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// How stream operations are observed.
    pub backend: String,
    /// `program -> kernel function or tracepoint`.
    pub attached: Vec<String>,
    /// Seconds since it began.
    pub uptime_s: u64,
    /// Sessions that are open.
    pub open: u64,
    /// Sessions that were seen to end.
    pub closed: u64,
    /// Records taken from the ring and added by user space.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// Updates told.
    pub updates: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Clients that are connected.
    pub clients: u64,
    /// Clients that were cut off for being too slow.
    pub cut_off: u64,
    /// What the flight recorder says of itself.
    pub store: String,
    /// It keeps everything.
    pub store_good: bool,
    /// Capabilities that it still holds.
    pub capabilities: Vec<String>,
    /// What became of each hook's findings.
    pub hooks: Vec<HookCounts>,
}

/// A message as a frame, without the length.
#[must_use]
pub fn json(message: &impl Serialize) -> Bytes {
    let mut out = BytesMut::with_capacity(512).writer();
    out.get_mut().put_u8(JSON);
    // Strings, numbers, maps with string keys: nothing that JSON cannot say.
    if let Err(error) = serde_json::to_writer(&mut out, message) {
        unreachable!("a message of the protocol is not JSON: {error}");
    }
    out.into_inner().freeze()
}

/// Records as a frame, without the length.
#[must_use]
pub fn records(records: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(records.len() + 1);
    out.put_u8(RECORDS);
    out.put_slice(records);
    out.freeze()
}

/// What a frame holds.
#[derive(Debug)]
pub enum Frame<T> {
    /// A message.
    Message(T),
    /// Records, one after the other.
    Records(Bytes),
}

/// Why a frame says nothing.
#[derive(Debug, thiserror::Error)]
pub enum BadFrame {
    /// Of no kind.
    #[error("a frame of {0} bytes that is of no known kind")]
    Kind(usize),
    /// Not the message that was expected.
    #[error("a message that is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads a frame without its length.
///
/// # Errors
/// When the other side speaks something else.
pub fn read<T: DeserializeOwned>(frame: Bytes) -> Result<Frame<T>, BadFrame> {
    match frame.first() {
        Some(&JSON) => Ok(Frame::Message(serde_json::from_slice(&frame[1..])?)),
        Some(&RECORDS) => Ok(Frame::Records(frame.slice(1..))),
        _ => Err(BadFrame::Kind(frame.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gap, GapReason};

    #[test]
    fn messages_read_back() {
        let reply = Reply::News(Update::Gap(Gap {
            time: 7,
            reason: GapReason::LostRecords,
            lost: 3,
            message: "evidence was lost".to_owned(),
        }));
        let Frame::Message(back) = read::<Reply>(json(&reply)).unwrap() else {
            panic!("a message")
        };
        assert_eq!(back, reply);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&b""[..], b"x", b"j", b"j{}", b"j{\"watch\":7}", b"\xff\xff"] {
            assert!(
                read::<Request>(Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn what_a_newer_daemon_adds_is_passed_over() {
        let status = br#"j{"status":{"pid":7,"moon":"full"}}"#;
        let Ok(Frame::Message(Reply::Status(status))) = read(Bytes::from_static(status)) else {
            panic!("understood")
        };
        assert_eq!((status.pid, status.version.as_str()), (7, ""));
    }
}
