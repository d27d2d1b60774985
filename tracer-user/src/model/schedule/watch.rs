//! When to look for the processes that hold a session open.

use std::collections::BTreeSet;

use tracer_ebpf::Proc;

use super::{Alarm, end::is_on_its_way};
use crate::model::facts::{Env, Session, Stream};

/// From one look to the next while someone holds a stream, ns.
const RESCAN: u64 = 250_000_000;
/// The same while a stream is open and nobody seems to hold it, ns.
const RESCAN_UNHELD: u64 = 1_000_000_000;
/// The same when only the server still has something open, or records were lost, ns.
const RESCAN_IDLE: u64 = 10_000_000_000;
/// From one look to the next while the connection stays open after the session's end, ns.
pub(super) const RESCAN_CONNECTION: u64 = 1_000_000_000;
/// From a member's exit record to its descriptors being closed, ns.
const EXIT_TAKES: u64 = 10_000_000;

/// When to look at a session's holders next.
#[derive(Debug, Default)]
pub(in crate::model) struct Watch {
    due: Option<u64>,
    /// When the last look was complete, ns.
    looked: Option<u64>,
    /// Holders of the last look that are no members. A process that the server is forking right
    /// now, or whose fork record is on its way, looks like one for a moment.
    strangers: BTreeSet<Proc>,
}

impl Watch {
    /// When the next look is due, ns.
    pub const fn due(&self) -> Option<u64> {
        self.due
    }

    /// Holders of the last look that are no members.
    pub const fn strangers(&self) -> &BTreeSet<Proc> {
        &self.strangers
    }

    /// Asks for a look at `time` or earlier.
    pub fn ask(&mut self, time: u64) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    /// A member exited at `time`: whether it held something shows a moment later.
    pub fn member_exited(&mut self, time: u64) {
        self.ask(time.saturating_add(EXIT_TAKES));
    }

    /// Whether a look is wanted.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether a look that happens now serves this session. One that will be due soon joins in.
    pub fn joins(&self, now: u64) -> bool {
        let slack = if self.looked.is_some() { RESCAN } else { 0 };
        self.due.is_some_and(|due| due <= now.saturating_add(slack))
    }

    /// A look was complete at `now`.
    pub const fn looked(&mut self, now: u64) {
        self.looked = Some(now);
    }

    /// Whether a timer was only set for a look: one that is due, or that has just been complete.
    pub fn is_behind(&self, timer: u64) -> bool {
        self.due == Some(timer) || self.looked == Some(timer)
    }

    /// The leader lives: nobody holds the session but itself.
    pub const fn rest(&mut self, now: u64) {
        self.due = Some(now.saturating_add(RESCAN_IDLE));
    }

    /// What keeps the connection open is looked at again after a while.
    pub const fn rest_for_connection(&mut self, now: u64) {
        self.due = Some(now.saturating_add(RESCAN_CONNECTION));
    }

    /// No further look is wanted.
    pub const fn stop(&mut self) {
        self.due = None;
    }

    /// A look found these holders that are no members; `unsettled` says that there are holders, or that
    /// there may be.
    pub fn found(
        &mut self,
        session: &Session,
        strangers: BTreeSet<Proc>,
        unsettled: bool,
        now: u64,
    ) {
        let next = match () {
            () if unsettled || !strangers.is_empty() => RESCAN,
            () if session.outputs().any(Stream::hangs) => RESCAN_UNHELD,
            () => RESCAN_IDLE,
        };
        self.strangers = strangers;
        self.due = Some(now.saturating_add(next));
    }
}

/// Decides when to look for holders. `waits` says that the session is kept because of its connection.
pub(in crate::model) fn plan_look(
    session: &Session,
    watch: &mut Watch,
    waits: bool,
    now: u64,
    env: &Env,
    next: &mut Alarm,
) {
    let open =
        waits || is_on_its_way(session) || session.observed().any(|stream| !stream.is_closed());
    match session.leader_gone() {
        Some(gone) if open && watch.due.is_none() => {
            watch.ask(gone.max(env.started).saturating_add(env.grace));
        }
        _ if !open => watch.due = None,
        _ => {}
    }
    if let Some(look) = session.outputs().filter_map(Stream::doubted_at).min() {
        watch.ask(look);
    }
    if let Some(due) = watch.due.filter(|due| *due > now) {
        next.at(due);
    }
}
