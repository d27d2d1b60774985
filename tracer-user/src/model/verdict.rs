//! The one place where it is decided what became of a stream, and why.

use super::{
    Env,
    delivery::{self, Fate},
    session::Session,
    stream::{Close, STALLED_AFTER, Stream},
    view::{Cause, Cut, ExitStatus, GapReason, StreamReport, Verdict},
};

/// What the stream has lost so far, by direct evidence: a gap elsewhere does not weaken it.
pub(super) fn cut(session: &Session, stream: &Stream, env: &Env) -> Option<Cut> {
    // What a command leaves of its stdin is its own business.
    if !stream.slot.is_output() {
        return None;
    }
    let close = stream.close.filter(|close| !close.unseen)?;
    let hung_up = hung_up(session, stream);
    if hung_up > 0 {
        return Some(Cut {
            bytes: hung_up.saturating_add(close.unread),
            // What the dead had read and not yet passed on is not known.
            exact: false,
            cause: Cause::PtyHangup,
        });
    }
    if close.unread > 0 {
        let exact = env.exact_releases || close.writers == 0;
        return Some(Cut {
            bytes: close.unread,
            exact,
            cause: cause(session, stream, &close),
        });
    }
    let (bytes, cause) = refused(session, stream, &close).or_else(|| unsent(session, stream))?;
    Some(Cut {
        bytes,
        exact: false,
        cause,
    })
}

/// A write that failed for want of a reader: its bytes, and who is to blame.
fn refused(session: &Session, stream: &Stream, close: &Close) -> Option<(u64, Cause)> {
    let bytes = stream.refused.filter(|_| !stream.unlistened)?;
    if client_asked(close) {
        return None;
    }
    // A client that left first wanted no more; nothing that was written is gone.
    let cause = match (
        session.left_before(close.time),
        session.killed_before(close.time),
    ) {
        (Some(left), _) if !left.unreached => return None,
        (None, Some(_)) if close.exiting => Cause::ServerKilled,
        _ => Cause::WriterCut,
    };
    Some((bytes, cause))
}

/// What the server had read and its client never got, as far as that is certain: at least so many
/// bytes, and why.
fn unsent(session: &Session, stream: &Stream) -> Option<(u64, Cause)> {
    match delivery::fate(session, stream) {
        Fate::Kept(bytes) => {
            let exit = session.server_exit.map(|(time, _)| time);
            let killed = exit.is_some_and(|time| session.killed_before(time).is_some());
            let cause = match killed {
                true => Cause::ServerKilled,
                false => Cause::ServerDropped,
            };
            Some((bytes, cause))
        }
        Fate::Unacknowledged(bytes) => Some((bytes, Cause::Undelivered)),
        Fate::Untold | Fate::Pending | Fate::Delivered | Fate::Unsure => None,
    }
}

/// Who is to blame for what was unread at the close; the order is the point.
fn cause(session: &Session, stream: &Stream, close: &Close) -> Cause {
    if let Some(left) = session.left_before(close.time) {
        return if left.unreached {
            Cause::Undelivered
        } else {
            Cause::ClientGone
        };
    }
    if close.exiting && session.killed_before(close.time).is_some() {
        return Cause::ServerKilled;
    }
    if close.after_leader {
        return if stream.is_pty() {
            Cause::PtyHangup
        } else {
            Cause::ServerClosedEarly
        };
    }
    if client_asked(close) {
        return Cause::ClientGone;
    }
    if gave_up(session, stream, close) {
        // A client that is only slow acknowledges what it gets.
        return match close.unanswered {
            true => Cause::Undelivered,
            false => Cause::Timeout,
        };
    }
    Cause::WriterCut
}

/// Bytes that members left unread when the leader's exit hung up their terminal.
fn hung_up(session: &Session, stream: &Stream) -> u64 {
    let Some(gone) = session.leader_gone.filter(|_| stream.is_pty()) else {
        return 0;
    };
    // Otherwise it was the client's or the server's end that hung up on all of them.
    if session.left_before(gone).is_some() || session.killed_before(gone).is_some() {
        return 0;
    }
    let after = session.hangups.iter().filter(|it| it.time >= gone);
    after.fold(0, |sum, it| sum.saturating_add(it.unread))
}

/// A server that lives on has no reason of its own to close the output of a command that runs: its
/// client closed the channel, or wants no more of it (`eow@openssh.com`, OpenSSH's PROTOCOL 2.1).
pub(super) fn client_asked(close: &Close) -> bool {
    !close.after_leader && !close.exiting
}

/// The server ended itself with an error while the stream had not moved for long.
fn gave_up(session: &Session, stream: &Stream, close: &Close) -> bool {
    let failed = session
        .server_exit
        .is_some_and(|(_, status)| !matches!(ExitStatus::of_wait(status), ExitStatus::Code(0)));
    let moved = stream.counters.last_read.max(session.view.opened);
    failed && close.time.saturating_sub(moved) >= STALLED_AFTER
}

/// The final word on a stream of a session that is over.
pub(super) fn report(session: &Session, stream: &Stream, env: &Env) -> StreamReport {
    let cut = cut(session, stream, env);
    let verdict = match cut {
        Some(cut) => Verdict::Truncated(cut),
        None if !session.gaps.is_empty() => Verdict::Unknown,
        None => match near_miss(session, stream) {
            Some(unread) => Verdict::NearMiss { unread },
            None => Verdict::Clean,
        },
    };
    let close = stream.close.filter(|close| !close.unseen);
    let (written, read) = ledger(session, stream);
    let unread = match close {
        Some(close) if stream.slot.is_output() => close.unread,
        _ if stream.slot.is_output() => stream.pending(),
        _ => stream.unwanted,
    };
    StreamReport {
        slot: stream.slot,
        transport: stream.transport().into(),
        object: stream.object,
        verdict,
        written,
        read,
        unread,
        exact: match cut {
            Some(cut) => cut.exact,
            None => session.gaps.is_empty(),
        },
        margin_ns: margin(session, stream),
        note: note(session, stream),
    }
}

/// Bytes written and read. What splice, sendfile or io_uring moved is in neither counter, nor what the
/// kernel did not count since a program would have interrupted itself; but all of it went through the
/// object: what was read or left there has been written, and what was written and is not there any more
/// has been read, unless it was packets.
fn ledger(session: &Session, stream: &Stream) -> (u64, u64) {
    let (written, read) = (stream.counters.written, stream.counters.read);
    let Some(close) = counted(session, stream) else {
        return (written, read);
    };
    let passed = read.saturating_add(close.unread);
    if written < passed {
        (passed, read)
    } else if stream.packets {
        (written, read)
    } else {
        (written, written.saturating_sub(close.unread))
    }
}

/// Why it cannot be said that nothing of it was lost, though nothing is known to be.
pub(super) fn doubt(session: &Session, stream: &Stream) -> Option<GapReason> {
    if is_missing(session, stream) {
        Some(GapReason::Unaccounted)
    } else if delivery::fate(session, stream).is_open() {
        Some(GapReason::NotAcknowledged)
    } else {
        None
    }
}

/// Of what was written as packets (`O_DIRECT`, pipe(2)) some was neither read nor is left: a read had no
/// room for it.
fn is_missing(session: &Session, stream: &Stream) -> bool {
    let (written, read) = (stream.counters.written, stream.counters.read);
    let missing = |close: Close| written > read.saturating_add(close.unread);
    stream.packets && counted(session, stream).is_some_and(missing)
}

/// The close of a stream whose bytes can all be accounted for then.
fn counted(session: &Session, stream: &Stream) -> Option<Close> {
    let close = stream.close.filter(|close| !close.unseen)?;
    // A write under way is counted when it ends, what came before the tracer never is, and a
    // terminal writes more than it is given: line ends.
    let all = close.writers == 0
        && !session.view.preexisting
        && stream.slot.is_output()
        && !stream.is_pty();
    all.then_some(close)
}

/// Unread bytes when the server was told of the leader's death, all of them read later.
pub(super) fn near_miss(session: &Session, stream: &Stream) -> Option<u64> {
    if !stream.slot.is_output() {
        return None;
    }
    let unread = session.told_server()?.unread[stream.slot as usize];
    let lost = stream.close.is_some_and(|close| close.unread > 0);
    (unread > 0 && !lost).then_some(unread)
}

/// From the server being told of the leader's death to its last read, ns.
pub(super) fn margin(session: &Session, stream: &Stream) -> Option<i64> {
    if !stream.slot.is_output() || stream.counters.last_read == 0 {
        return None;
    }
    let told = session.told_server()?.time;
    i64::try_from(i128::from(stream.counters.last_read) - i128::from(told)).ok()
}

/// Whether bytes may have gone unnoticed because the end of the stream was not seen.
pub(super) fn unaccounted(session: &Session, stream: &Stream) -> bool {
    let unseen = stream.close.is_none_or(|close| close.unseen);
    let read_all = stream.eof || stream.pending() == 0;
    stream.slot.is_output()
        && unseen
        && !read_all
        && !session.gaps.contains(&GapReason::CloseNotSeen)
}

/// What else is to be known about the stream's numbers.
fn note(session: &Session, stream: &Stream) -> Option<String> {
    if stream.unlistened {
        return Some(format!("the server does not listen to {}", stream.slot));
    }
    let disagreement = disagreement(session, stream);
    let refused = stream
        .refused
        .map(|bytes| format!("a later write of {bytes} B was refused"));
    match (disagreement, refused) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    }
}

/// Says so when the counters and the object tell different stories.
pub(super) fn disagreement(session: &Session, stream: &Stream) -> Option<String> {
    let close = counted(session, stream)?;
    let (written, read) = (stream.counters.written, stream.counters.read);
    if written == read.saturating_add(close.unread) {
        return None;
    }
    let why = match is_missing(session, stream) {
        true => "the server read packets (O_DIRECT) into too little room",
        false => "some went by other means such as splice",
    };
    Some(format!(
        "counters disagree: {written} B written, {read} B read, {} B unread: {why}",
        close.unread
    ))
}
