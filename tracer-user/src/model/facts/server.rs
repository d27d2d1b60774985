//! The server of one session: which process it is, and how it ended.

use tracer_ebpf::{COMM_LEN, Exit, Proc, Signal};

use crate::model::view::ExitStatus;

/// A server that outlives a signal by this was not ended by it, ns.
const SIGNAL_KILLS_WITHIN: u64 = 10_000_000_000;
const SIGPIPE: u32 = 13;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::model) struct Server {
    proc: Proc,
    killer: Option<Killer>,
    /// When it exited, and its status as of wait(2).
    exit: Option<(u64, u32)>,
}

/// Someone sent the server a signal that ends processes.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Killer {
    /// When, ns.
    pub time: u64,
    /// The signal's number.
    pub signal: u32,
    /// Pid of the sender; 0 when not known.
    pub pid: u32,
    /// The sender's name.
    pub comm: [u8; COMM_LEN],
}

impl Server {
    pub const fn new(proc: Proc) -> Self {
        Self {
            proc,
            killer: None,
            exit: None,
        }
    }

    pub(super) const fn signalled(&mut self, record: &Signal) {
        // Writing to a client that left is an error to servers, not their end.
        if record.signal != SIGPIPE {
            self.killer = Some(Killer {
                time: record.header.time,
                signal: record.signal,
                pid: record.sender,
                comm: record.comm,
            });
        }
    }

    pub(super) fn exited(&mut self, record: &Exit) {
        self.exit.get_or_insert((record.header.time, record.status));
    }

    pub const fn proc(&self) -> Proc {
        self.proc
    }

    pub const fn pid(&self) -> u32 {
        self.proc.pid
    }

    /// When it exited.
    pub fn exit_time(&self) -> Option<u64> {
        self.exit.map(|(time, _)| time)
    }

    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.exit.map(|(_, status)| ExitStatus::of_wait(status))
    }

    /// Who ended the server that ended at `time`, if a signal did.
    pub fn killed_before(&self, time: u64) -> Option<Killer> {
        let sent = self
            .killer
            .filter(|killer| killer.time <= time && time - killer.time <= SIGNAL_KILLS_WITHIN);
        sent.or_else(|| match self.exit_status()? {
            ExitStatus::Signal(signal) => Some(Killer {
                time,
                signal: u32::from(signal),
                pid: 0,
                comm: Default::default(),
            }),
            ExitStatus::Code(_) => None,
        })
    }
}
