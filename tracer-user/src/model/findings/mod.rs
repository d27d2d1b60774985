//! Findings: what judgement and schedule make worth reporting, and what has been reported already.
//!
//! A finding is drafted here without its sentence and its fix; the layer above, [`text`](super::text), adds
//! those.

mod close;
mod loss;
mod orphan;
mod stall;
mod waiting;

use tracer_ebpf::{ConnId, STREAMS};

pub(in crate::model) use self::{
    close::{close, near_misses},
    loss::losses,
    orphan::{held_by, released},
    stall::{resolved_stalls, stalls},
    waiting::{kept, kept_no_more},
};
use self::{orphan::OrphanReport, waiting::WaitingReport};
use super::{
    judgement::Stall,
    view::{FindingBody, Slot, State},
};

/// A finding without words.
#[derive(Debug)]
pub(in crate::model) struct Draft {
    /// When it became so, ns.
    pub time: u64,
    /// When that was known, ns.
    pub known: u64,
    pub state: State,
    pub body: FindingBody,
    /// No gap in the bytes of `body`.
    pub exact: bool,
    /// Not worth a line of its own.
    pub quiet: bool,
    /// Of a connection that waits: one of the forwards that keep it, and how many there are.
    pub forwards: Option<(ConnId, usize)>,
}

/// What has been reported of one session.
#[derive(Debug, Default)]
pub(in crate::model) struct Reported {
    opened: bool,
    losses: [bool; STREAMS],
    stalls: [Option<Stall>; STREAMS],
    orphan: OrphanReport,
    waiting: Option<WaitingReport>,
}

impl Reported {
    /// Whether the session itself has been reported.
    pub const fn is_opened(&self) -> bool {
        self.opened
    }

    /// The session is reported now. False when it has been before.
    pub const fn open(&mut self) -> bool {
        !std::mem::replace(&mut self.opened, true)
    }

    /// Whether holders have been reported that have not gone since.
    pub const fn has_holders(&self) -> bool {
        self.orphan.is_open()
    }

    const fn has_loss(&self, slot: Slot) -> bool {
        self.losses[slot as usize]
    }
}
