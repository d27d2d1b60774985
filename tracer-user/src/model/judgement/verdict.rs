//! The one place where it is decided what became of a stream, and why.

use super::{
    delivery::{self, Fate},
    departure::{Ender, LEADER_FOLLOWS, ender},
    hangup,
};
use crate::model::{
    facts::{Close, Env, Session, Stream},
    view::{Cut, ExitStatus, GapReason, LossCause, StreamReport, Verdict},
};

const SIGPIPE: u8 = 13;

/// What the stream has lost so far, by direct evidence: a gap elsewhere does not weaken it.
pub(in crate::model) fn cut(session: &Session, stream: &Stream, env: &Env) -> Option<Cut> {
    // What a command leaves of its stdin is its own business.
    if !stream.is_output() {
        return None;
    }
    let close = stream.closed()?;
    let lost = |bytes, exact, cause| {
        Some(Cut {
            bytes,
            exact,
            cause,
        })
    };
    let hung_up = hangup::lost(session, stream);
    if hung_up > 0 {
        // What the dead had read and not yet passed on is not known.
        return lost(
            hung_up.saturating_add(close.unread),
            false,
            LossCause::PtyHangup,
        );
    }
    let taken = stream.counters().taken;
    if taken > 0 {
        let exact = env.exact_releases && close.writers == 0;
        return lost(taken.saturating_add(close.unread), exact, LossCause::Taken);
    }
    if close.unread > 0 {
        let exact = env.exact_releases || close.writers == 0;
        return lost(close.unread, exact, cause(session, stream, close));
    }
    if let Some((bytes, cause)) =
        refused(session, stream, close).or_else(|| unsent(session, stream))
    {
        return lost(bytes, false, cause);
    }
    outlived(session, stream, close).and_then(|cause| lost(0, false, cause))
}

/// A write that failed for want of a reader: its bytes, and who is to blame.
fn refused(session: &Session, stream: &Stream, close: &Close) -> Option<(u64, LossCause)> {
    let bytes = stream.refused().filter(|_| !close.unlistened)?;
    let cause = match ender(session, close) {
        // A client that left first wanted no more; nothing that was written is gone.
        Ender::Client => return None,
        Ender::Killed => LossCause::ServerKilled,
        Ender::Policy => LossCause::Timeout,
        Ender::Network | Ender::AfterCommand | Ender::Server => LossCause::WriterCut,
    };
    Some((bytes, cause))
}

/// The server's end went while somebody could still write: nothing is known to be lost, but the output
/// has not come to its end.
fn outlived(session: &Session, stream: &Stream, close: &Close) -> Option<LossCause> {
    if close.writers == 0 || stream.is_eof() || close.unlistened {
        return None;
    }
    let ender = ender(session, close);
    let cut_off = match session.leader_gone() {
        None => true,
        // A terminal's end ends what is on it.
        Some(_) if stream.is_pty() => false,
        // A server that does not wait for what a command leaves behind (OpenSSH for the stderr of a
        // subsystem, dropbear for all) cuts off only what is still written.
        Some(_) if session.tree().living() > 0 => {
            session.was_held() && ender != Ender::AfterCommand
        }
        // All that it wrote was read, and no more was to come.
        Some(gone) if ended_with_it(session, close, gone) => false,
        // The command came to an end of its own, and nobody was left to hear of it.
        Some(_) => !close.after_leader && ender != Ender::Client && !is_cut_elsewhere(session),
    };
    cut_off.then_some(match ender {
        Ender::Client => LossCause::ClientGone,
        Ender::Network => LossCause::Undelivered,
        Ender::Killed => LossCause::ServerKilled,
        Ender::Policy => LossCause::Timeout,
        Ender::AfterCommand | Ender::Server => LossCause::WriterCut,
    })
}

/// Whether the leader ended together with the server's end: by a signal of its own, as `pkill -u` or
/// the end of a control group sends one to both, or at once, as `cat` does at the end of its stdin.
/// SIGPIPE is a write that failed.
fn ended_with_it(session: &Session, close: &Close, leader_gone: u64) -> bool {
    match session.view().exit {
        Some(ExitStatus::Signal(SIGPIPE)) => false,
        Some(ExitStatus::Signal(_)) => true,
        _ => leader_gone.saturating_sub(close.time) <= LEADER_FOLLOWS,
    }
}

/// What the server had read and its client never got, as far as that is certain: at least so many
/// bytes, and why.
fn unsent(session: &Session, stream: &Stream) -> Option<(u64, LossCause)> {
    match delivery::fate(session, stream) {
        Fate::Kept(bytes) => {
            let server = session.server();
            let exit = server.exit_time();
            let killed = exit.is_some_and(|time| server.killed_before(time).is_some());
            let cause = match killed {
                true => LossCause::ServerKilled,
                false => LossCause::ServerDropped,
            };
            Some((bytes, cause))
        }
        Fate::Unacknowledged(bytes) => Some((bytes, LossCause::Undelivered)),
        Fate::Unknown | Fate::Pending | Fate::Delivered | Fate::Unsure => None,
    }
}

/// Something that the session wrote is known to be lost.
fn is_cut_elsewhere(session: &Session) -> bool {
    session.outputs().any(|stream| {
        let unread = stream.unread_at_close() > 0;
        unread || stream.refused().is_some() || unsent(session, stream).is_some()
    })
}

/// Who is to blame for what was unread at the close.
fn cause(session: &Session, stream: &Stream, close: &Close) -> LossCause {
    match ender(session, close) {
        Ender::Client => LossCause::ClientGone,
        Ender::Network => LossCause::Undelivered,
        Ender::Killed => LossCause::ServerKilled,
        Ender::Policy => LossCause::Timeout,
        Ender::AfterCommand if stream.is_pty() => LossCause::PtyHangup,
        Ender::AfterCommand => LossCause::ServerClosedEarly,
        Ender::Server => LossCause::WriterCut,
    }
}

/// The final word on a stream of a session that has ended, but for its note.
pub(in crate::model) fn report(session: &Session, stream: &Stream, env: &Env) -> StreamReport {
    let cut = cut(session, stream, env);
    let verdict = match cut {
        Some(cut) => Verdict::Truncated(cut),
        None if !session.gaps().is_empty() => Verdict::Unknown,
        None => match near_miss(session, stream) {
            Some(unread) => Verdict::NearMiss { unread },
            None => Verdict::Clean,
        },
    };
    let (written, read) = ledger(stream);
    let unread = match stream.closed() {
        Some(close) if stream.is_output() => close.unread,
        None if stream.is_output() => stream.pending(),
        _ => stream.unwanted(),
    };
    StreamReport {
        slot: stream.slot(),
        transport: stream.transport().into(),
        object: stream.object(),
        verdict,
        written,
        read,
        unread,
        exact: match cut {
            Some(cut) => cut.exact,
            None => session.gaps().is_empty(),
        },
        margin_ns: margin(session, stream),
        note: None,
    }
}

/// Bytes written, and read by the server. What splice, sendfile or io_uring moved is in neither counter,
/// and a write under way is counted when it ends; but all of it went through the object: what was read
/// or left there has been written.
fn ledger(stream: &Stream) -> (u64, u64) {
    let (written, read) = (stream.counters().written, stream.counters().read);
    // A terminal gives more than was written: line ends.
    if stream.is_pty() || !stream.is_output() {
        return (written, read);
    }
    let unread = stream.unread_at_close();
    (written.max(passed(stream, unread)), read)
}

/// Bytes that are known to have been in the object, of which `unread` are there.
const fn passed(stream: &Stream, unread: u64) -> u64 {
    let counters = stream.counters();
    counters
        .read
        .saturating_add(counters.taken)
        .saturating_add(unread)
}

/// Why it cannot be said that nothing of it was lost, though nothing is known to be.
pub(in crate::model) fn doubt(session: &Session, stream: &Stream) -> Option<GapReason> {
    if is_missing(session, stream) {
        Some(GapReason::Unaccounted)
    } else if delivery::fate(session, stream).is_open() {
        Some(GapReason::NotAcknowledged)
    } else {
        None
    }
}

/// Some of what was written was neither read nor is left: of packets (`O_DIRECT`, pipe(2)) a read had no
/// room for it, else somebody took it in a way that is not seen.
fn is_missing(session: &Session, stream: &Stream) -> bool {
    let missing = |close: &Close| stream.counters().written > passed(stream, close.unread);
    counted(session, stream).is_some_and(missing)
}

/// The close of a stream whose bytes can all be accounted for then.
fn counted<'a>(session: &Session, stream: &'a Stream) -> Option<&'a Close> {
    let close = stream.closed()?;
    // A write under way is counted when it ends, what came before the tracer never is, and a
    // terminal writes more than it is given: line ends.
    let all =
        close.writers == 0 && !session.view().preexisting && stream.is_output() && !stream.is_pty();
    all.then_some(close)
}

/// Unread bytes when the server learned of the leader's death, all of them read later.
pub(in crate::model) fn near_miss(session: &Session, stream: &Stream) -> Option<u64> {
    if !stream.is_output() {
        return None;
    }
    let unread = session.notice()?.unread[stream.slot() as usize];
    (unread > 0 && stream.unread_at_close() == 0).then_some(unread)
}

/// From the server learning of the leader's death to its last read, ns.
pub(in crate::model) fn margin(session: &Session, stream: &Stream) -> Option<i64> {
    if !stream.is_output() || stream.counters().last_read == 0 {
        return None;
    }
    let notice = session.notice()?.time;
    i64::try_from(i128::from(stream.counters().last_read) - i128::from(notice)).ok()
}

/// Whether bytes may have gone unnoticed because the end of the stream was not seen.
pub(in crate::model) fn unaccounted(session: &Session, stream: &Stream) -> bool {
    let unseen = stream.closed().is_none();
    let read_all = stream.is_eof() || stream.pending() == 0;
    stream.is_output() && unseen && !read_all && !session.gaps().contains(&GapReason::CloseNotSeen)
}

/// How the counters of a stream differ from what is known to have been in its object.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Disagreement {
    /// Bytes written, by the counters.
    pub written: u64,
    /// Bytes read, by the counters.
    pub read: u64,
    /// Bytes unread at the close.
    pub unread: u64,
    /// Some of what was written was neither read nor is left.
    pub missing: bool,
}

/// Whether the counters and the object disagree, and how.
pub(in crate::model) fn disagreement(session: &Session, stream: &Stream) -> Option<Disagreement> {
    let close = counted(session, stream)?;
    let (written, read) = (stream.counters().written, stream.counters().read);
    (written != passed(stream, close.unread)).then(|| Disagreement {
        written,
        read,
        unread: close.unread,
        missing: is_missing(session, stream),
    })
}
