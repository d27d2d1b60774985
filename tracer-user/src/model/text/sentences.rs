//! What was found, in one sentence for a person.

use tracer_ebpf::{ConnId, X11_PORTS};

use super::{
    durations::duration,
    fixes::foremost,
    names::{command, held, list, server, signal_name, since_exit, told_end, who},
    notes::{disagrees, taken},
};
use crate::model::{
    facts::{Close, Env, Session, Stream},
    judgement::{Fate, fate, losers_by_hangup},
    view::{
        ExitStatus, Finding, HolderView, LossCause, Origin, Slot, Visible, WaitCause, addresses,
        until_nul,
    },
};

pub(super) fn orphaned(session: &Session, holders: &[HolderView], bytes: u64, env: &Env) -> String {
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
        told_end(session.view(), env),
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

pub(super) fn released(session: &Session, told: &[HolderView], now: u64) -> String {
    let view = session.view();
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

pub(super) fn truncated(
    session: &Session,
    stream: &Stream,
    close: &Close,
    bytes: u64,
    cause: LossCause,
) -> String {
    let view = session.view();
    let name = stream.slot();
    let what = match cause {
        LossCause::ServerClosedEarly => {
            let saw = match view.exit {
                Some(ExitStatus::Code(code)) => format!(", though it saw exit status {code}"),
                _ => String::new(),
            };
            format!(
                "the server closed {name} {} with {bytes} B unread: at least that much never reached the client{saw}",
                after_what(session, close),
            )
        }
        LossCause::WriterCut if close.unread == 0 => format!(
            "the server closed {name} while it was still being written: a later write of {bytes} B failed and never reached the client"
        ),
        LossCause::WriterCut => {
            let unsure = match session.connection().sock() {
                0 => " (its connection is not known: the client may have left first)",
                _ => "",
            };
            format!(
                "the server closed {name} while the command was running, with {bytes} B unread: at least that much never reached the client{unsure}"
            )
        }
        LossCause::ServerKilled if close.unread == 0 && stream.refused().is_none() => format!(
            "the server {} was ended by {} before it had sent the last {bytes} B that it had read of {name}",
            server(view),
            killer(session, session.server().exit_time().unwrap_or(close.time)),
        ),
        LossCause::ServerKilled if close.unread == 0 && stream.refused().is_some() => format!(
            "the server {} was ended by {} while the command ran; a later write of {bytes} B to {name} failed",
            server(view),
            killer(session, close.time),
        ),
        LossCause::ServerKilled => format!(
            "the server {} was ended by {} with {bytes} B of {name} unread: at least that much never reached the client",
            server(view),
            killer(session, close.time),
        ),
        LossCause::ClientGone if session.connection().left_before(close.time).is_some() => {
            format!(
                "the client left first, {bytes} B of {name} were still unread: not the server's fault"
            )
        }
        LossCause::ClientGone => {
            format!(
                "the client wanted no more of {name}, {bytes} B were still unread: not the server's fault"
            )
        }
        LossCause::Undelivered if close.unread == 0 => format!(
            "the client stopped answering: it never acknowledged what the server sent after it had read the last {bytes} B of {name}"
        ),
        LossCause::ServerDropped => format!(
            "the server read the last {bytes} B of {name} and never sent anything afterwards: at least that much was lost in its memory"
        ),
        LossCause::Undelivered => format!(
            "the client stopped answering, {bytes} B of {name} were still unread when the connection was given up"
        ),
        LossCause::Timeout if close.unread == 0 => format!(
            "the server ended the session by a limit of its own while the command ran; a later write of {bytes} B to {name} failed"
        ),
        LossCause::Taken => format!(
            "{}: it never reached the client",
            taken(stream).unwrap_or_else(|| format!("another process read {bytes} B of {name}")),
        ),
        LossCause::Timeout => format!(
            "the server gave up after {} without progress, with {bytes} B of {name} unread",
            duration(
                close
                    .time
                    .saturating_sub(stream.counters().last_read.max(view.opened))
            ),
        ),
        LossCause::PtyHangup => {
            let mut lost: Vec<_> = losers_by_hangup(session, stream)
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
    };
    let also = disagrees(session, stream)
        .map(|text| format!("; {text}"))
        .unwrap_or_default();
    let kept = match fate(session, stream) {
        Fate::Kept(kept) if close.unread > 0 => {
            format!("; {kept} B more had been read and were never sent")
        }
        _ => String::new(),
    };
    format!("{} {}: {what}{kept}{also}", who(view), command(view))
}

pub(super) fn stalled(session: &Session, stream: &Stream, since: u64) -> String {
    let waiting = match (stream.pending(), stream.is_blocked()) {
        (0, true) => "a writer is blocked".to_owned(),
        (bytes, true) => format!("at least {bytes} B wait, and a writer is blocked"),
        (bytes, false) => format!("{bytes} B wait"),
    };
    format!(
        "{} {}: the server has not read {} for {} while {waiting}: its client is not taking more, or the server is stopped",
        who(session.view()),
        command(session.view()),
        stream.slot(),
        duration(stream.sampled().saturating_sub(since)),
    )
}

/// The sentence of a stall, with the time that it has lasted by `now`.
pub(crate) fn still_stalled(finding: &Finding, now: u64) -> Option<String> {
    let (since, slot) = (finding.since()?, finding.stream()?);
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
pub(super) fn moves(session: &Session, stream: &Stream, since: u64, now: u64) -> String {
    let rested = duration(now.saturating_sub(since));
    let what = if stream.is_closed() {
        "was closed"
    } else {
        "moves again"
    };
    format!(
        "{}: {} {what} after {rested}",
        who(session.view()),
        stream.slot()
    )
}

pub(super) fn near_miss(
    session: &Session,
    stream: Slot,
    unread: u64,
    margin_ns: Option<i64>,
) -> String {
    let margin = match margin_ns {
        Some(ns) if ns > 0 => format!(" {} later", duration(ns.unsigned_abs())),
        _ => String::new(),
    };
    format!(
        "{} {}: {unread} B of {stream} were unread when the server was told of the command's end; it read the last of them{margin}",
        who(session.view()),
        command(session.view()),
    )
}

/// The connection is kept; `first` is one of so many forwards.
pub(super) fn waiting(
    session: &Session,
    cause: WaitCause,
    programs: &[HolderView],
    first: &ConnId,
    forwards: usize,
    env: &Env,
) -> String {
    let display = first.local_port.wrapping_sub(X11_PORTS.start);
    let why = match (cause, programs) {
        (WaitCause::X11, [one]) => format!(
            "{} pid {} still uses its forwarded X11 display localhost:{display}",
            one.comm, one.pid
        ),
        (WaitCause::X11, [one, others @ ..]) => format!(
            "{} pid {} and {} more still use its forwarded X11 display localhost:{display}",
            one.comm,
            one.pid,
            others.len()
        ),
        (WaitCause::X11, []) => {
            format!("an X11 program still uses its forwarded display localhost:{display}")
        }
        _ => {
            let ends = addresses(first)
                .map(|(peer, local)| format!(" between {local} and {peer}"))
                .unwrap_or_default();
            let others = match forwards {
                0 | 1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            format!("it still carries a forwarded connection{ends}{others}")
        }
    };
    format!(
        "{}, but the connection stays open: {why}",
        told_end(session.view(), env)
    )
}

/// Nothing keeps the connection any more.
pub(super) fn waits_no_more(session: &Session, cause: WaitCause) -> String {
    let ended = session
        .connection()
        .ended()
        .or(session.server().exit_time());
    let what = match (ended, cause) {
        (Some(_), _) => "the connection ended",
        (None, WaitCause::X11) => "nothing uses its forwarded X11 display any more,",
        (None, _) => "its last forwarded connection ended",
    };
    let after = match session.leader_gone() {
        Some(gone) => duration(session.last().saturating_sub(gone)),
        None => String::new(),
    };
    format!(
        "{}: {what} {after} after the command's end",
        who(session.view())
    )
}

fn after_what(session: &Session, close: &Close) -> String {
    let since = |time: u64| duration(close.time.saturating_sub(time));
    let reaped = session.reaped().filter(|time| *time <= close.time);
    let told = session
        .notice()
        .map(|notice| notice.time)
        .filter(|time| *time <= close.time);
    match (reaped, told, session.view().exited) {
        (Some(time), ..) => format!("{} after reaping the command", since(time)),
        (None, Some(time), _) => format!("{} after being told of the command's end", since(time)),
        (None, None, Some(time)) => format!("{} after the command's end", since(time)),
        _ => "after the command's end".to_owned(),
    }
}

/// Who ended the server by `time`.
fn killer(session: &Session, time: u64) -> String {
    let Some(killer) = session.server().killed_before(time) else {
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
