//! What the model tells: plain values, complete in themselves, for every subscriber alike.
//!
//! Times are ns of `CLOCK_BOOTTIME`, sizes are bytes. Text from traced processes is [`Visible`].

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use super::escape::Visible;

/// One fact that became known.
#[derive(Clone, Debug, PartialEq)]
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
    /// When it became known; `None` for what is not news.
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
}

/// Names a session for as long as the machine runs. Shown as `PID-START`: the leader's pid and its
/// start in ms since boot, base 36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The leader's pid.
    #[must_use]
    pub const fn pid(self) -> u32 {
        tracer_ebpf::session_pid(self.0)
    }

    /// When the leader started, ms since boot.
    pub(super) const fn start_ms(self) -> u64 {
        self.0 >> 22
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut rest = self.start_ms();
        loop {
            // Below 36, so a digit.
            digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('?'));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        write!(f, "{}-", self.pid())?;
        digits
            .iter()
            .rev()
            .try_for_each(|digit| write!(f, "{digit}"))
    }
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let (pid, start) = text.split_once('-').ok_or(BadSessionId)?;
        let pid: u64 = pid.parse().map_err(|_| BadSessionId)?;
        let start = u64::from_str_radix(start, 36).map_err(|_| BadSessionId)?;
        if pid >= 1 << 22 || start >= 1 << 42 {
            return Err(BadSessionId);
        }
        Ok(Self(start << 22 | pid))
    }
}

/// The text is not the id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSessionId;

impl fmt::Display for BadSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a session id: it looks like 4711-1k2j3")
    }
}

impl std::error::Error for BadSessionId {}

/// Which stream of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// What the command reads.
    Stdin,
    /// What it writes.
    Stdout,
    /// What it complains.
    Stderr,
}

impl Slot {
    /// By descriptor number.
    #[must_use]
    pub const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }

    /// `stdin`, `stdout`, `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Whether the command writes it and the server reads it.
    #[must_use]
    pub fn is_output(self) -> bool {
        self != Self::Stdin
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl ExitStatus {
    /// From the form of wait(2).
    #[must_use]
    pub const fn of_wait(status: u32) -> Self {
        match (status & 0x7f) as u8 {
            0 => Self::Code((status >> 8) as u8),
            signal => Self::Signal(signal),
        }
    }
}

/// Who a session is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Login name, if the user has one.
    pub user: Option<Visible>,
    /// User id; `None` when the session's beginning was not seen.
    pub uid: Option<u32>,
    /// The client's end of the connection.
    pub peer: Option<SocketAddr>,
    /// The server's end of the connection.
    pub local: Option<SocketAddr>,
    /// Base name of the server's executable; empty when not known.
    pub server_exe: Visible,
    /// The server's pid; 0 when not known.
    pub server_pid: u32,
    /// What the leader executed first, in the shell's writing; `None` when it never executed
    /// anything (internal-sftp) or this was not seen.
    pub command: Option<Visible>,
    /// The leader's pid; 0 when not known.
    pub leader_pid: u32,
    /// How the leader ended.
    pub exit: Option<ExitStatus>,
    /// When the leader ended.
    pub exited: Option<u64>,
    /// When the session began, or was first seen.
    pub opened: u64,
    /// Began before the tracer.
    pub preexisting: bool,
}

/// See [`Update::Started`].
#[derive(Clone, Debug, PartialEq)]
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
    pub backend: &'static str,
    /// Host name.
    pub host: Visible,
    /// Kernel release.
    pub kernel: Visible,
    /// Base names of server executables.
    pub servers: Vec<Visible>,
}

/// See [`Update::SessionOpened`].
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// When the session began, or was first seen.
    pub time: u64,
    /// Which.
    pub session: Arc<SessionView>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// New.
    Open,
    /// Its holders are others than before.
    Updated,
    /// No longer so.
    Resolved,
}

impl State {
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

/// Why bytes were lost, or are not moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// The server is not reading.
    ServerNotReading,
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
            Self::ServerNotReading => "server_not_reading",
        }
    }
}

/// See [`Update::Finding`].
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// When it became so.
    pub time: u64,
    /// About what.
    pub kind: Kind,
    /// How far it has come.
    pub state: State,
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
    /// Who keeps the streams open.
    pub holders: Vec<HolderView>,
    /// From the server being told of the leader's death to its last read, ns.
    pub margin_ns: Option<i64>,
    /// One sentence for a person.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// A process with an open session end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// It is a fork that never executed a program of its own: `argv` is its parent's.
    pub forked: bool,
    /// Descriptors, ascending.
    pub fds: Vec<u32>,
    /// Streams held, ascending.
    pub streams: Vec<Slot>,
    /// From the leader to the holder; what is not known is left out.
    pub path: Vec<Step>,
    /// How it came by its copies.
    pub origin: Origin,
}

/// One process of an inheritance path.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It descends from the leader.
    Inherited,
    /// It does not: the copies were handed to it.
    Received,
    /// Not known, as part of the past is.
    Unknown,
}

/// The final word on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// How bad it is: the worst of the streams is the session's.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::NearMiss { .. } => 1,
            Self::Unknown => 2,
            Self::Truncated(_) => 3,
        }
    }
}

/// What a stream lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How much.
    pub bytes: u64,
    /// Exactly so, not at least.
    pub exact: bool,
    /// Why.
    pub cause: Cause,
}

/// The ledger of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    /// Which.
    pub slot: Slot,
    /// What it was made of: `pipe`, `unix`, `pty`.
    pub transport: &'static str,
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

/// See [`Update::SessionClosed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// When its last part ended.
    pub time: u64,
    /// Which.
    pub session: Arc<SessionView>,
    /// The worst of its streams.
    pub verdict: Verdict,
    /// Why evidence is missing; empty when none is.
    pub gaps: Vec<GapReason>,
    /// Its observed streams.
    pub streams: Vec<StreamReport>,
}

/// Why evidence is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The kernel side could not deliver, or not keep, something.
    LostRecords,
    /// The session began before the tracer.
    Preexisting,
    /// None of the session's output is on an object that is observed.
    NotObserved,
    /// A server's end went without being seen to be closed, with bytes unaccounted for.
    CloseNotSeen,
    /// There are more sessions than are kept.
    TooMany,
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
            Self::TooMany => "too_many_sessions",
        }
    }
}

/// See [`Update::Gap`].
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back() {
        for id in [0, 4711, 81_234_567 << 22 | 4711, u64::MAX] {
            let id = SessionId(id);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "4711",
            "4711-",
            "-1k",
            "x-1k",
            "4711-1k-2",
            "4194304-1",
            "1-zzzzzzzzzzzzz",
        ] {
            assert_eq!(bad.parse::<SessionId>(), Err(BadSessionId), "{bad}");
        }
    }

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(ExitStatus::of_wait(0), ExitStatus::Code(0));
        assert_eq!(ExitStatus::of_wait(7 << 8), ExitStatus::Code(7));
        assert_eq!(ExitStatus::of_wait(9), ExitStatus::Signal(9));
        assert_eq!(ExitStatus::of_wait(11 | 0x80), ExitStatus::Signal(11));
    }
}
