//! What the model tells: plain values, complete in themselves, for every subscriber alike.
//!
//! Times are ns of `CLOCK_BOOTTIME`, sizes are bytes. Text from traced processes is [`Visible`].

use serde::{Deserialize, Serialize};
mod address;
mod cause;
mod container;
mod episode;
mod finding;
mod fix;
mod found;
mod holder;
mod listed;
mod session;
mod stored;
mod verdict;
mod visible;

use std::{borrow::Cow, sync::Arc};

pub(in crate::model) use self::{address::addresses, visible::until_nul};
pub use self::{
    cause::{Cause, LossCause, StallCause, WaitCause},
    container::Container,
    episode::{Episode, History},
    finding::{Finding, FindingBody, FindingKey, Kind, State},
    fix::Fix,
    found::{FindingFilter, Found},
    holder::{HolderView, Origin, Step},
    listed::{End, Filter, Listed, Told},
    session::{BadSessionId, ExitStatus, SessionId, SessionView, Slot, Stage},
    verdict::{Carried, Closed, Cut, GapReason, StreamReport, Verdict},
    visible::Visible,
};

/// One fact that became known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Update {
    /// The start-up snapshot is complete: from here on everything is seen.
    Started(Started),
    /// A session is there.
    SessionOpened(Opened),
    /// Something worth an operator's attention began, changed or ended.
    Finding(Finding),
    /// The last word on a session.
    SessionClosed(Closed),
    /// Evidence is missing.
    Gap(Gap),
    /// A member of a session executed a program.
    ProcessExec(Process),
    /// A member of a session exited.
    ProcessExit(Process),
    /// A stream's reader was told end-of-file.
    StreamEof(StreamNews),
    /// A stream's counters at one moment.
    Sample(StreamNews),
    /// Nothing more will be told about this session: the kernel side's tables may drop it.
    Forget {
        /// The session.
        session: SessionId,
    },
}

impl Update {
    /// When it was reported: not before it happened. `None` for what is not news.
    #[must_use]
    pub fn reported(&self) -> Option<u64> {
        let known = match self {
            Self::Finding(it) => it.known,
            Self::SessionClosed(it) => it.known,
            _ => 0,
        };
        self.time().map(|time| time.max(known))
    }

    /// When it happened; `None` for what is not news.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        Some(match self {
            Self::Started(it) => it.time,
            Self::SessionOpened(it) => it.time,
            Self::Finding(it) => it.time,
            Self::SessionClosed(it) => it.time,
            Self::Gap(it) => it.time,
            Self::ProcessExec(it) | Self::ProcessExit(it) => it.time,
            Self::StreamEof(it) | Self::Sample(it) => it.time,
            Self::Forget { .. } => return None,
        })
    }

    /// Whose it is; `None` for what is about the machine.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<SessionView>> {
        match self {
            Self::SessionOpened(it) => Some(&it.session),
            Self::Finding(it) => Some(&it.session),
            Self::SessionClosed(it) => Some(&it.session),
            Self::ProcessExec(it) | Self::ProcessExit(it) => Some(&it.session),
            Self::StreamEof(it) | Self::Sample(it) => Some(&it.session),
            Self::Started(_) | Self::Gap(_) | Self::Forget { .. } => None,
        }
    }
}

/// See [`Update::Started`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// When.
    pub time: u64,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub wall_offset: u64,
    /// How long a leader must be dead before its holders are told, ns.
    pub grace: u64,
    /// Pid of the tracer.
    pub tracer_pid: u32,
    /// `fentry`, `kprobe` or `syscall`.
    pub backend: Cow<'static, str>,
    /// Host name.
    pub host: Visible,
    /// Kernel release.
    pub kernel: Visible,
    /// Base names of server executables.
    pub servers: Vec<Visible>,
}

/// See [`Update::SessionOpened`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// When the session began, or was first seen.
    pub time: u64,
    /// Which.
    pub session: Arc<SessionView>,
    /// What it went through before whoever reads this began to listen.
    #[serde(default)]
    pub had: History,
}

/// See [`Update::Gap`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// When it was noticed.
    pub time: u64,
    /// Why.
    pub reason: GapReason,
    /// Records, or table entries, that are missing.
    pub lost: u64,
    /// One sentence for a person.
    pub message: String,
}

/// See [`Update::ProcessExec`] and [`Update::ProcessExit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// When.
    pub time: u64,
    /// Its session.
    pub session: Arc<SessionView>,
    /// Its pid.
    pub pid: u32,
    /// When it started.
    pub start: u64,
    /// Its name; empty when not known.
    pub comm: Visible,
    /// What it executed; empty when it exits.
    pub argv: Vec<Visible>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
}

/// See [`Update::StreamEof`] and [`Update::Sample`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamNews {
    /// When.
    pub time: u64,
    /// Its session.
    pub session: Arc<SessionView>,
    /// Which.
    pub slot: Slot,
    /// Bytes written so far.
    pub written: u64,
    /// Bytes read so far.
    pub read: u64,
    /// Bytes not yet read.
    pub unread: u64,
}
