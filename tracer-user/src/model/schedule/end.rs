//! When a session is closed: when all its parts have ended, and nothing more can be lost.

use super::{Alarm, Watch, watch::RESCAN_CONNECTION};
use crate::model::{
    facts::{Env, Session, Stream},
    judgement::{Ender, Fate, LEADER_FOLLOWS, ender, fate},
    view::{GapReason, Slot},
};

/// How long a session waits for its command's exec before it is reported without one, ns: a busy
/// machine takes its time between the fork and the exec.
const EXEC_TAKES: u64 = 250_000_000;
/// From a server's exit to its descriptors being closed for sure, ns; and the other way round.
pub(in crate::model) const EXIT_TAKES: u64 = 250_000_000;
/// How long a stdin left open keeps a session whose every other part has ended, ns.
const STDIN_LINGERS: u64 = 2_000_000_000;
/// How long a leader keeps a session that has no channel any more, or of which records were lost
/// that may have reported its end, ns.
const LEADER_LINGERS: u64 = 2_000_000_000;
/// How long to wait for a writer that lost its reader, ns: only a failing write is a loss.
const WRITERS_LINGER: u64 = 30_000_000_000;
/// How long a session of which only scraps arrived is kept, ns.
const STUB_LINGERS: u64 = 60_000_000_000;
/// How long to wait for a connection that is neither open nor gone, ns: the kernel sends what a
/// server left behind 8 times anew (`tcp_orphan_retries`, ip-sysctl.rst), for some 100 s.
const GIVEN_UP: u64 = 150_000_000_000;

/// How far it is known what the connection of an ended session stays open for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::model) enum Linger {
    /// The session has not ended.
    #[default]
    No,
    /// A look will show.
    Asked,
    /// A look showed what keeps it, and that was reported.
    Explained,
    /// Nothing that is seen keeps it.
    Unexplained,
}

impl Linger {
    /// Whether the session is kept for it.
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Asked | Self::Explained)
    }
}

/// Whether it is time to report the session: its command is known, or nothing more will be.
pub(in crate::model) fn opening_is_due(session: &Session, now: u64, next: &mut Alarm) -> bool {
    let view = session.view();
    let known = view.command.is_some() || session.leader_gone().is_some();
    known || next.reached(view.opened.saturating_add(EXEC_TAKES), now)
}

/// Whether all parts of the session have ended.
pub(in crate::model) fn has_ended(session: &mut Session, now: u64, next: &mut Alarm) -> bool {
    if session.has_vanished() {
        return true;
    }
    if !all_closed(session, now, next) {
        return false;
    }
    let Some(last) = last_close(session.observed()) else {
        // Nothing is observed of it but its processes.
        let silent =
            session.is_stub() && next.reached(session.last().saturating_add(STUB_LINGERS), now);
        return session.leader_gone().is_some() || session.server().exit_time().is_some() || silent;
    };
    for stream in session.outputs() {
        if !next.reached(stream.settled_at().unwrap_or(0), now) {
            return false;
        }
    }
    if !no_write_can_fail(session, now, next) {
        return false;
    }
    if session.leader_gone().is_some() {
        // What the terminal's hangup kills takes a moment to die.
        let dying = session.tree().living() > 0 && session.outputs().any(Stream::is_pty);
        return !dying || next.reached(last.saturating_add(LEADER_FOLLOWS), now);
    }
    // The leader lives, as far as known. A command may close its output and go on; but when the
    // server, the client or the channel is gone, no session is left.
    let peer_left = session.connection().peer_left();
    let ended = session
        .server()
        .exit_time()
        .or(peer_left.map(|left| left.time));
    let channel_closed = session.outputs().any(|stream| {
        let close = stream.closed();
        close.is_some_and(|close| close.writers > 0 && !close.unlistened)
    });
    let lost = [GapReason::LostRecords, GapReason::Interrupted];
    let lost = lost.iter().any(|reason| session.gaps().contains(reason));
    match ended {
        Some(ended) => next.reached(ended.max(last).saturating_add(LEADER_FOLLOWS), now),
        None if channel_closed || lost => next.reached(last.saturating_add(LEADER_LINGERS), now),
        None => false,
    }
}

fn last_close<'a>(streams: impl Iterator<Item = &'a Stream>) -> Option<u64> {
    streams.filter_map(Stream::closed_at).max()
}

/// Whether the server's ends are all closed, seen or not.
fn all_closed(session: &mut Session, now: u64, next: &mut Alarm) -> bool {
    let outputs_closed = session.outputs().all(Stream::is_closed);
    let mut all = true;
    for slot in Slot::ALL {
        let Some(stream) = session.stream(slot).filter(|stream| !stream.is_closed()) else {
            continue;
        };
        let stdin_alone = slot == Slot::Stdin && outputs_closed && session.leader_gone().is_some();
        let closed_by = if stream.is_unheld() {
            Some(now)
        } else if let Some(exit) = session.server().exit_time() {
            Some(exit.saturating_add(EXIT_TAKES))
        } else if stdin_alone {
            Some(session.last().saturating_add(STDIN_LINGERS))
        } else {
            None
        };
        match closed_by {
            Some(time) if next.reached(time, now) => session.lost_server_end(slot, time),
            _ => all = false,
        }
    }
    all
}

/// Writers that survived the server's end of their stream have had the time to write: what they write
/// is lost.
fn no_write_can_fail(session: &Session, now: u64, next: &mut Alarm) -> bool {
    let closes = session
        .outputs()
        .filter(|stream| stream.refused().is_none())
        .filter_map(Stream::closed)
        .filter(|close| {
            close.writers > 0
                && close.unread == 0
                && !close.unlistened
                && ender(session, close) != Ender::Client
        });
    let last = closes.map(|close| close.time).max();
    session.tree().living() == 0
        || last.is_none_or(|last| next.reached(last.saturating_add(WRITERS_LINGER), now))
}

/// Whether the session, all of whose parts have ended, is kept because its connection may be
/// waiting; `alone` says that the connection carries no other.
pub(in crate::model) fn lingers(
    session: &Session,
    watch: &mut Watch,
    linger: &mut Linger,
    alone: bool,
    now: u64,
    env: &Env,
    next: &mut Alarm,
) -> bool {
    let connection = session.connection();
    let open = connection.sock() != 0
        && connection.ended().is_none()
        && session.server().exit_time().is_none();
    let stays = open && session.leader_gone().is_some();
    if *linger == Linger::No && stays && alone {
        *linger = Linger::Asked;
        watch.ask(now.saturating_add(env.grace));
    }
    let kept = stays && linger.is_pending();
    let kept = awaits_delivery(session, watch, open, now, next) || kept;
    if kept && let Some(due) = watch.due().filter(|due| *due > now) {
        next.at(due);
    }
    kept
}

/// Whether the session is kept because the client has not acknowledged the last of it. Of an open
/// connection a look shows that; the end of one arrives as a record.
fn awaits_delivery(
    session: &Session,
    watch: &mut Watch,
    open: bool,
    now: u64,
    next: &mut Alarm,
) -> bool {
    let Some(closed) = last_close(session.outputs()) else {
        return false;
    };
    let waits = is_on_its_way(session) && !next.reached(closed.saturating_add(GIVEN_UP), now);
    if waits && open && watch.due().is_none() {
        watch.ask(now.saturating_add(RESCAN_CONNECTION));
    }
    waits
}

/// Whether it is undecided what becomes of something that the server read.
pub(in crate::model) fn is_on_its_way(session: &Session) -> bool {
    session
        .outputs()
        .any(|stream| fate(session, stream) == Fate::Pending)
}
