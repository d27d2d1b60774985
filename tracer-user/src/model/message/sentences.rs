//! What was found, in one sentence for a person.

use super::{
    durations::duration,
    fixes::foremost,
    names::{command, held, list, server, signal_name, since_exit, told_end, who},
    notes::taken,
};
use crate::model::{
    Env,
    delivery::{self, Fate},
    escape::{Visible, until_nul},
    hangup,
    session::Session,
    stream::{Close, Stream},
    verdict,
    view::{Cause, Cut, ExitStatus, Finding, HolderView, Origin, StreamReport, Verdict},
};

pub(in crate::model) fn orphaned(
    session: &Session,
    holders: &[HolderView],
    bytes: u64,
    env: &Env,
) -> String {
    let Some(first) = foremost(holders) else {
        return String::new();
    };
    let how = match (first.origin, first.path.as_slice()) {
        (Origin::Inherited, [.., from, _]) => format!(", inherited from {from}"),
        (Origin::Inherited, _) => String::new(),
        (Origin::Passed, _) => passed(first),
        (Origin::Received, _) => ", received from another process and not inherited".to_owned(),
        (Origin::Unknown, _) => ", it is not known since when".to_owned(),
    };
    let others = match holders.len() - 1 {
        0 => String::new(),
        1 => "; one other process holds it as well".to_owned(),
        n => format!("; {n} other processes hold it as well"),
    };
    let since = if bytes > 0 {
        format!("; {bytes} B were written since")
    } else {
        String::new()
    };
    format!(
        "{}, but the connection waits: {} still holds its {}{how}{others}{since}",
        told_end(&session.view, env),
        name(first),
        held(first),
    )
}

/// The process, where it is, and who else has its descriptors.
fn name(holder: &HolderView) -> String {
    let place = match &holder.container {
        Some(container) => format!(" in container {}", container.short()),
        None => String::new(),
    };
    let company = match holder.shared_with.as_slice() {
        [] => String::new(),
        [one] => format!(" (and pid {one}, which shares its descriptors)"),
        many => format!(" (and pids {}, which share its descriptors)", list(many)),
    };
    format!("{} pid {}{place}{company}", holder.comm, holder.pid)
}

/// How an end came over a unix socket.
fn passed(holder: &HolderView) -> String {
    let from = match &holder.sender {
        Some(sender) => format!(" {} pid {}", sender.comm, sender.pid),
        None => String::new(),
    };
    match (holder.is_in_flight(), from.as_str()) {
        // Where it waits has been said.
        (true, "") => from,
        (true, _) => format!(", sent by{from}"),
        (false, "") => ", not inherited: received over a unix socket".to_owned(),
        (false, _) => format!(", not inherited: received over a unix socket from{from}"),
    }
}

pub(in crate::model) fn released(
    session: &Session,
    told: &[HolderView],
    now: u64,
    _env: &Env,
) -> String {
    let view = &session.view;
    let waited = match since_exit(session, now) {
        Some(waited) => format!(" {waited} after the command's end"),
        None => String::new(),
    };
    match told {
        [one] => format!(
            "{}: {} pid {} let go of its {}{waited}",
            who(view),
            one.comm,
            one.pid,
            held(one)
        ),
        _ => format!(
            "{}: the last process let go of its streams{waited}",
            who(view)
        ),
    }
}

pub(in crate::model) fn truncated(
    session: &Session,
    stream: &Stream,
    close: &Close,
    cut: &Cut,
) -> String {
    let view = &session.view;
    let (name, bytes) = (stream.slot, cut.bytes);
    let what = match cut.cause {
        Cause::ServerClosedEarly => {
            let saw = match view.exit {
                Some(ExitStatus::Code(code)) => format!(", though it saw exit status {code}"),
                _ => String::new(),
            };
            format!(
                "the server closed {name} {} with {bytes} B unread: at least that much never reached the client{saw}",
                after_what(session, close),
            )
        }
        Cause::WriterCut if close.unread == 0 => format!(
            "the server closed {name} while it was still being written: a later write of {bytes} B failed and never reached the client"
        ),
        Cause::WriterCut => {
            let unsure = match session.conn.sock {
                0 => " (its connection is not known: the client may have left first)",
                _ => "",
            };
            format!(
                "the server closed {name} while the command was running, with {bytes} B unread: at least that much never reached the client{unsure}"
            )
        }
        Cause::ServerKilled if close.unread == 0 && stream.refused.is_none() => format!(
            "the server {} was ended by {} before it had sent the last {bytes} B that it had read of {name}",
            server(view),
            killer(
                session,
                session.server_exit.map_or(close.time, |(time, _)| time)
            ),
        ),
        Cause::ServerKilled if close.unread == 0 && stream.refused.is_some() => format!(
            "the server {} was ended by {} while the command ran; a later write of {bytes} B to {name} failed",
            server(view),
            killer(session, close.time),
        ),
        Cause::ServerKilled => format!(
            "the server {} was ended by {} with {bytes} B of {name} unread: at least that much never reached the client",
            server(view),
            killer(session, close.time),
        ),
        Cause::ClientGone if session.left_before(close.time).is_some() => {
            format!(
                "the client left first, {bytes} B of {name} were still unread: not the server's fault"
            )
        }
        Cause::ClientGone => {
            format!(
                "the client wanted no more of {name}, {bytes} B were still unread: not the server's fault"
            )
        }
        Cause::Undelivered if close.unread == 0 => format!(
            "the client stopped answering: it never acknowledged what the server sent after it had read the last {bytes} B of {name}"
        ),
        Cause::ServerDropped => format!(
            "the server read the last {bytes} B of {name} and never sent anything afterwards: at least that much was lost in its memory"
        ),
        Cause::Undelivered => format!(
            "the client stopped answering, {bytes} B of {name} were still unread when the connection was given up"
        ),
        Cause::Timeout if close.unread == 0 => format!(
            "the server ended the session by a limit of its own while the command ran; a later write of {bytes} B to {name} failed"
        ),
        Cause::Taken => format!(
            "{}: it never reached the client",
            taken(stream).unwrap_or_else(|| format!("another process read {bytes} B of {name}")),
        ),
        Cause::Timeout => format!(
            "the server gave up after {} without progress, with {bytes} B of {name} unread",
            duration(
                close
                    .time
                    .saturating_sub(stream.counters.last_read.max(view.opened))
            ),
        ),
        Cause::PtyHangup => {
            let mut lost: Vec<_> = hangup::losers(session, stream, Some(close))
                .iter()
                .map(|it| {
                    format!(
                        "{} pid {} was killed by it with {} B unread in its stdin, pipe:[{}]",
                        it.comm, it.pid, it.unread, it.stdin
                    )
                })
                .collect();
            if close.unread > 0 {
                lost.push(format!(
                    "{} B of output were still in the terminal",
                    close.unread
                ));
            }
            format!(
                "the command's end hung up its terminal: {}; at least {bytes} B never reached the client",
                lost.join(", ")
            )
        }
        Cause::ServerNotReading | Cause::X11 | Cause::Forward => {
            format!("{bytes} B of {name} were lost")
        }
    };
    let also = verdict::disagreement(session, stream)
        .map(|text| format!("; {text}"))
        .unwrap_or_default();
    let kept = match delivery::fate(session, stream) {
        Fate::Kept(kept) if close.unread > 0 => {
            format!("; {kept} B more had been read and were never sent")
        }
        _ => String::new(),
    };
    format!("{} {}: {what}{kept}{also}", who(view), command(view))
}

pub(in crate::model) fn stalled(session: &Session, stream: &Stream, since: u64) -> String {
    let waiting = match (stream.pending(), stream.is_blocked()) {
        (0, true) => "a writer is blocked".to_owned(),
        (bytes, true) => format!("at least {bytes} B wait, and a writer is blocked"),
        (bytes, false) => format!("{bytes} B wait"),
    };
    format!(
        "{} {}: the server has not read {} for {} while {waiting}: its client is not taking more, or the server is stopped",
        who(&session.view),
        command(&session.view),
        stream.slot,
        duration(stream.sampled.saturating_sub(since)),
    )
}

/// The sentence of a stall, with the time that it has lasted by `now`.
pub(crate) fn still_stalled(finding: &Finding, now: u64) -> Option<String> {
    let (since, slot) = (finding.since?, finding.stream?);
    let message = &finding.message;
    // The last of them, as the command before it may hold the same words.
    let before = format!("has not read {slot} for ");
    let at = message.rfind(&before)? + before.len();
    let end = at + message[at..].find(" while ")?;
    Some(format!(
        "{}{}{}",
        &message[..at],
        duration(now.saturating_sub(since)),
        &message[end..]
    ))
}

/// A stall is over.
pub(in crate::model) fn moves(session: &Session, stream: &Stream, since: u64, now: u64) -> String {
    let rested = duration(now.saturating_sub(since));
    let what = if stream.close.is_some() {
        "was closed"
    } else {
        "moves again"
    };
    format!(
        "{}: {} {what} after {rested}",
        who(&session.view),
        stream.slot
    )
}

pub(in crate::model) fn near_miss(session: &Session, report: &StreamReport) -> String {
    let unread = match report.verdict {
        Verdict::NearMiss { unread } => unread,
        _ => report.unread,
    };
    let margin = match report.margin_ns {
        Some(ns) if ns > 0 => format!(" {} later", duration(ns.unsigned_abs())),
        _ => String::new(),
    };
    format!(
        "{} {}: {unread} B of {} were unread when the server was told of the command's end; it read the last of them{margin}",
        who(&session.view),
        command(&session.view),
        report.slot,
    )
}

fn after_what(session: &Session, close: &Close) -> String {
    let since = |time: u64| duration(close.time.saturating_sub(time));
    let reaped = session.reaped().filter(|time| *time <= close.time);
    let told = session
        .told_server()
        .map(|news| news.time)
        .filter(|time| *time <= close.time);
    match (reaped, told, session.view.exited) {
        (Some(time), ..) => format!("{} after reaping the command", since(time)),
        (None, Some(time), _) => format!("{} after being told of the command's end", since(time)),
        (None, None, Some(time)) => format!("{} after the command's end", since(time)),
        _ => "after the command's end".to_owned(),
    }
}

/// Who ended the server by `time`.
fn killer(session: &Session, time: u64) -> String {
    let Some(killer) = session.killed_before(time) else {
        return "a signal".to_owned();
    };
    let signal = signal_name(killer.signal);
    match killer.pid {
        0 => signal,
        pid => format!(
            "{signal} from {} pid {pid}",
            Visible::new(until_nul(&killer.comm))
        ),
    }
}
