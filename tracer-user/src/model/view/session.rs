//! Who a session is.

use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};

use tracer_ebpf::{SessionStart, chld};

use super::{Visible, addresses};

/// Names a session for as long as the machine runs. Shown as `PID-START`: the leader's pid and its
/// start in ms since boot, base 36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The leader's pid.
    #[must_use]
    pub const fn pid(self) -> u32 {
        tracer_ebpf::session_pid(self.0)
    }

    /// When the leader started, ms since boot.
    pub const fn start_ms(self) -> u64 {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// What the command reads.
    Stdin,
    /// What it writes.
    Stdout,
    /// What it complains.
    Stderr,
}

impl Slot {
    /// Every one of them, by descriptor number.
    pub const ALL: [Self; 3] = [Self::Stdin, Self::Stdout, Self::Stderr];

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

/// How far the news of a leader's death has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// SIGCHLD was generated.
    Generated,
    /// SIGCHLD was delivered to the server.
    Delivered,
    /// The server reaped the leader.
    Reaped,
}

impl Stage {
    /// Every one of them, in the order in which they happen.
    pub const ALL: [Self; 3] = [Self::Generated, Self::Delivered, Self::Reaped];

    /// The first of these that happened is when the server knew. Delivery counts; a server that waits on a
    /// signalfd or in wait(2) is never delivered a signal.
    pub(in crate::model) const BY_WEIGHT: [Self; 3] =
        [Self::Delivered, Self::Reaped, Self::Generated];

    /// As a record names it.
    pub(in crate::model) const fn of(stage: u32) -> Option<Self> {
        Some(match stage {
            chld::GENERATED => Self::Generated,
            chld::DELIVERED => Self::Delivered,
            chld::REAPED => Self::Reaped,
            _ => return None,
        })
    }

    /// In a sentence's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generated => "SIGCHLD generated",
            Self::Delivered => "SIGCHLD delivered",
            Self::Reaped => "leader reaped",
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl SessionView {
    /// Whether the command was running when this was known; `None` when it is not known which it was.
    #[must_use]
    pub fn is_running(&self) -> Option<bool> {
        match (
            self.exited.is_some() || self.exit.is_some(),
            self.leader_pid,
        ) {
            (true, _) => Some(false),
            (false, 0) => None,
            (false, _) => Some(true),
        }
    }
}

/// Who a session is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Whom the server's executable file belongs to, when that is not root: it is a server of that
    /// user's own, whatever it is called.
    pub server_owner: Option<u32>,
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

impl SessionView {
    /// What the start of a session tells of it.
    pub(in crate::model) fn of(record: &SessionStart) -> Self {
        let preexisting = record.preexisting != 0;
        let addresses = addresses(&record.conn);
        Self {
            id: SessionId(record.session),
            user: None,
            uid: Some(record.uid),
            peer: addresses.map(|(peer, _)| peer),
            local: addresses.map(|(_, local)| local),
            server_exe: Visible::field(&record.exe),
            server_owner: Some(record.owner).filter(|uid| *uid != 0),
            server_pid: record.server.pid,
            command: None,
            leader_pid: record.leader.pid,
            exit: None,
            exited: None,
            opened: if preexisting && record.leader.start != 0 {
                record.leader.start
            } else {
                record.header.time
            },
            preexisting,
        }
    }
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
