//! What must be said about a session, and by whom that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::world::Server;

/// An output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// fd 1 of the leader.
    Stdout,
    /// fd 2 of the leader.
    Stderr,
}

impl Stream {
    /// Its name in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many bytes a finding may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// This many, and the finding must say that the count is exact.
    Exactly(u64),
    /// This many, though the tracer need not be sure of it.
    Equal(u64),
    /// From the first to the second, both included.
    Within(u64, u64),
}

impl Bytes {
    /// Whether a finding's count agrees.
    #[must_use]
    pub fn agrees(self, bytes: Option<u64>, exact: bool) -> bool {
        match (self, bytes) {
            (_, None) => false,
            (Self::Exactly(wanted), Some(bytes)) => exact && bytes == wanted,
            (Self::Equal(wanted), Some(bytes)) => bytes == wanted,
            (Self::Within(least, most), Some(bytes)) => (least..=most).contains(&bytes),
        }
    }
}

/// A loss that must be reported.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Where.
    pub stream: Stream,
    /// Any of these names is right.
    pub causes: &'static [&'static str],
    /// How much.
    pub bytes: Bytes,
    /// Whether the loss is certain; otherwise it may just as well not be reported.
    pub certain: bool,
}

/// Holders and their descriptors, as seen in /proc while the session hung.
pub type Holders = BTreeMap<u32, BTreeSet<i32>>;

/// Bytes on a stream, known from outside.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// Where.
    pub stream: Stream,
    /// Bytes that the session wrote.
    pub written: Option<u64>,
    /// Bytes that reached the client, hence were read by the server.
    pub read: Option<u64>,
}

/// Which session is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The one whose command contains this text.
    Marked(String),
    /// The next one that no marker names (subsystems carry none).
    Unmarked,
}

impl Who {
    /// The text, if there is one.
    #[must_use]
    pub fn marker(&self) -> Option<&str> {
        match self {
            Self::Marked(marker) => Some(marker),
            Self::Unmarked => None,
        }
    }
}

/// Everything that may and must be said about one session.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Which session.
    pub who: Who,
    /// Where it ran.
    pub server: Server,
    /// The client's address.
    pub peer: &'static str,
    /// Losses; nothing else may be reported lost.
    pub cuts: Vec<Cut>,
    /// Holders that must be reported, and nobody else.
    pub holders: Option<Holders>,
    /// Live findings that may be reported.
    pub tolerated: &'static [&'static str],
    /// Live findings that must be reported, and resolved in the end.
    pub required: &'static [&'static str],
    /// The leader's exit: `{"code":n}` or `{"signal":n}`.
    pub exit: Option<(&'static str, i64)>,
    /// So much goes on that evidence may be lost: then `unknown` is right.
    pub may_lack: bool,
    /// Byte counts that must be found in the last word.
    pub ledgers: Vec<Ledger>,
}

impl Expect {
    /// A session about which nothing may be reported.
    #[must_use]
    pub fn clean(who: Who, server: Server) -> Self {
        Self {
            who,
            server,
            peer: "127.0.0.1",
            cuts: Vec::new(),
            holders: None,
            tolerated: &[],
            required: &[],
            exit: None,
            may_lack: false,
            ledgers: Vec::new(),
        }
    }

    /// A session whose client left, or which was ended by a person: bytes may be left behind in it, but
    /// nothing may be reported that `watch` prints unless it is asked for everything.
    #[must_use]
    pub fn quiet(who: Who, server: Server) -> Self {
        const GONE: &[&str] = &["client_gone"];
        let any = Bytes::Within(0, u64::MAX);
        // A client that stands still for a moment is listed, not reported.
        Self::clean(who, server)
            .tolerate(&["stalled"])
            .may_cut(Stream::Stdout, GONE, any)
            .may_cut(Stream::Stderr, GONE, any)
    }

    /// Adds a certain loss.
    #[must_use]
    pub fn cut(mut self, stream: Stream, causes: &'static [&'static str], bytes: Bytes) -> Self {
        self.cuts.push(Cut {
            stream,
            causes,
            bytes,
            certain: true,
        });
        self
    }

    /// Adds a loss that need not happen.
    #[must_use]
    pub fn may_cut(
        mut self,
        stream: Stream,
        causes: &'static [&'static str],
        bytes: Bytes,
    ) -> Self {
        self.cuts.push(Cut {
            stream,
            causes,
            bytes,
            certain: false,
        });
        self
    }

    /// Sets the client's address.
    #[must_use]
    pub fn from(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }

    /// Whether it is certain that bytes were lost by another's fault than the client's.
    #[must_use]
    pub fn accuses(&self) -> bool {
        let fault = |cut: &Cut| cut.certain && cut.causes.iter().any(|&one| one != "client_gone");
        self.cuts.iter().any(fault)
    }

    /// Allows `unknown` where a gap was told.
    #[must_use]
    pub fn lacking(mut self) -> Self {
        self.may_lack = true;
        self
    }

    /// Sets the holders.
    #[must_use]
    pub fn held_by(mut self, holders: Holders) -> Self {
        self.holders = Some(holders);
        self
    }

    /// Allows live findings of these kinds.
    #[must_use]
    pub fn tolerate(mut self, kinds: &'static [&'static str]) -> Self {
        self.tolerated = kinds;
        self
    }

    /// Demands live findings of these kinds.
    #[must_use]
    pub fn require(mut self, kinds: &'static [&'static str]) -> Self {
        self.required = kinds;
        self
    }

    /// Sets the leader's exit code.
    #[must_use]
    pub fn exits(mut self, code: i64) -> Self {
        self.exit = Some(("code", code));
        self
    }

    /// Sets the signal that ended the leader.
    #[must_use]
    pub fn signalled(mut self, signal: i64) -> Self {
        self.exit = Some(("signal", signal));
        self
    }

    /// Adds byte counts.
    #[must_use]
    pub fn counts(mut self, stream: Stream, written: Option<u64>, read: Option<u64>) -> Self {
        self.ledgers.push(Ledger {
            stream,
            written,
            read,
        });
        self
    }
}
