//! Lines for people.

use super::{
    clock::{Clock, sentence},
    had,
};
use crate::model::{
    Closed, Finding, HolderView, Kind, Origin, Process, SessionView, Started, State, StreamNews,
    StreamReport, Update, Verdict,
    message::{command, duration, ended, held, own_server, user, who},
};

/// From when on it is worth a word that a session stayed after its command, ns.
const HELD: u64 = 1_000_000_000;

/// From when on it is worth a word that something happened before it was reported, ns.
const LATE: u64 = 1_000_000_000;

/// Appends the lines that an update makes. `reported`: when, ns of `CLOCK_BOOTTIME`.
pub(super) fn lines(update: &Update, reported: u64, clock: &Clock, out: &mut Vec<String>) {
    let Some(time) = update.time() else { return };
    let at = clock.time_of_day(reported);
    let earlier = (reported.saturating_sub(time) >= LATE).then(|| clock.earlier(time, reported));
    let earlier = earlier.as_deref();
    match update {
        Update::Started(it) => out.push(started(&at, it, clock)),
        Update::SessionOpened(it) => out.push(format!(
            "{at} opened    {} {}{}",
            from(&it.session),
            command(&it.session),
            earlier.map_or_else(String::new, |time| format!(" at {time}"))
        )),
        Update::Finding(it) => finding(&at, it, earlier, clock, out),
        Update::SessionClosed(it) => closed(&at, it, earlier, out),
        Update::Gap(it) => out.push(format!("{at} GAP       {}", it.message)),
        Update::ProcessExec(it) => out.push(format!(
            "{at} exec      {}: {} pid {}{}",
            who(&it.session),
            it.comm,
            it.pid,
            arguments(it)
        )),
        Update::ProcessExit(it) => out.push(format!(
            "{at} exit      {}: {} pid {} {}",
            who(&it.session),
            it.comm,
            it.pid,
            it.exit.map(ended).unwrap_or_default()
        )),
        Update::StreamEof(it) => out.push(format!("{at} eof       {}", news(it))),
        Update::Sample(it) => out.push(format!("{at} sample    {}", news(it))),
        Update::Forget { .. } => {}
    }
}

fn started(at: &str, it: &Started, clock: &Clock) -> String {
    let servers = it
        .servers
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "{at} started   {} on Linux {}, {} backend; watching {servers}; times are {}",
        it.host,
        it.kernel,
        it.backend,
        clock.label(it.time)
    )
}

fn finding(at: &str, it: &Finding, earlier: Option<&str>, clock: &Clock, out: &mut Vec<String>) {
    let label = match (it.state, it.kind()) {
        (State::Resolved, Kind::Orphaned) => "released",
        (State::Resolved, _) => "resolved",
        (State::Open | State::Updated, Kind::Orphaned) => "ORPHANED",
        (State::Open | State::Updated, Kind::Truncated) => "TRUNCATED",
        (State::Open | State::Updated, Kind::Stalled) => "STALLED",
        (State::Open | State::Updated, Kind::Waiting) => "WAITING",
        (State::Open | State::Updated, Kind::NearMiss) => "near miss",
    };
    let earlier = earlier.map_or_else(String::new, |time| format!(" (at {time})"));
    out.push(format!("{at} {label:<9} {}{earlier}", sentence(it, clock)));
    let indent = " ".repeat(at.len() + 11);
    if it.state == State::Resolved {
        return;
    }
    out.extend(
        it.holders()
            .iter()
            .map(|it| format!("{indent}holder {}", holder(it))),
    );
    out.extend(
        it.fix
            .parts()
            .map(|(label, part)| format!("{indent}{label}: {part}")),
    );
}

fn holder(it: &HolderView) -> String {
    let inside = if it.ns_pid == it.pid {
        String::new()
    } else {
        format!(" (pid {} in its namespace)", it.ns_pid)
    };
    let path = it
        .path
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" → ");
    let how = match it.origin {
        // A display is connected to, not inherited.
        _ if it.streams.is_empty() => String::new(),
        Origin::Inherited => format!(" path {path}"),
        Origin::Passed => match &it.sender {
            Some(sender) => format!(" sent by {sender}, not inherited"),
            None => " sent over a unix socket, not inherited".to_owned(),
        },
        Origin::Received => " received, not inherited".to_owned(),
        Origin::Unknown => " path not known".to_owned(),
    };
    let container = match &it.container {
        Some(container) => format!(" in container {}", container.short()),
        None => String::new(),
    };
    let shared: String = it
        .shared_with
        .iter()
        .map(|pid| format!(", shared with pid {pid}"))
        .collect();
    format!(
        "{}[{}]{inside}{container} {}{shared}{how}",
        it.comm,
        it.pid,
        held(it)
    )
}

fn closed(at: &str, it: &Closed, earlier: Option<&str>, out: &mut Vec<String>) {
    let session = &it.session;
    let end = match (session.exit, session.exited) {
        (Some(exit), Some(time)) if !session.preexisting => {
            format!(
                "{} after {}",
                ended(exit),
                duration(time.saturating_sub(session.opened))
            )
        }
        (Some(exit), _) => ended(exit),
        (None, _) if session.is_running() == Some(true) => {
            format!("was still running as pid {}", session.leader_pid)
        }
        (None, _) => "exit not seen".to_owned(),
    };
    let held = session.exited.map_or(0, |at| it.time.saturating_sub(at));
    // That it was orphaned says it already.
    let is_said = it.had.iter().any(|it| it.kind != Kind::Stalled);
    let end = match held {
        _ if is_said => end,
        0..HELD => end,
        held => format!("{end} and was held open for {} after that", duration(held)),
    };
    let end = match earlier {
        Some(time) => format!("{end}, closed at {time}"),
        None => end,
    };
    let streams = it
        .streams
        .iter()
        .filter_map(stream)
        .collect::<Vec<_>>()
        .join(", ");
    let streams = if streams.is_empty() {
        streams
    } else {
        format!(" ({streams})")
    };
    let verdict = match it.verdict {
        // When the last byte was read is said of its stream.
        Verdict::NearMiss { .. } => Verdict::Clean.words(),
        other => other.words(),
    };
    let gaps = it
        .gaps
        .iter()
        .map(|reason| reason.name())
        .collect::<Vec<_>>()
        .join(", ");
    let gaps = if gaps.is_empty() {
        gaps
    } else {
        format!(", gap: {gaps}")
    };
    let had = had::was(it.had.iter(), it.time, session)
        .map_or_else(String::new, |had| format!(", {had}"));
    out.push(format!(
        "{at} closed    {} {} {end}: {verdict}{had}{streams}{gaps}",
        from(session),
        command(session)
    ));
}

/// What there is to say about a stream that something happened on.
fn stream(it: &StreamReport) -> Option<String> {
    if it.written == 0
        && it.read == 0
        && it.unread == 0
        && matches!(it.verdict, Verdict::Clean | Verdict::Unknown)
    {
        return None;
    }
    let seen = it.written.max(it.read);
    Some(match it.verdict {
        Verdict::Truncated(cut) if cut.bytes == 0 && it.verdict.is_clients_choice() => {
            format!("{} {seen} B", it.slot)
        }
        Verdict::Truncated(cut) if cut.bytes == 0 => {
            format!("{} {seen} B, cut off: {}", it.slot, cut.cause.name())
        }
        Verdict::Truncated(cut) if it.verdict.is_clients_choice() => {
            format!("{} {seen} B, {} B unread", it.slot, cut.bytes)
        }
        Verdict::Truncated(cut) => {
            let least = if cut.exact { "" } else { "at least " };
            format!(
                "{} {seen} B, {least}{} B lost: {}",
                it.slot,
                cut.bytes,
                cut.cause.name()
            )
        }
        Verdict::NearMiss { .. } => match it.margin_ns {
            Some(ns) if ns > 0 => format!(
                "{} {seen} B, last read {} after exit",
                it.slot,
                duration(ns.unsigned_abs())
            ),
            _ => format!("{} {seen} B", it.slot),
        },
        Verdict::Clean | Verdict::Unknown => format!("{} {seen} B", it.slot),
    })
}

fn from(session: &SessionView) -> String {
    let pid = if session.leader_pid == 0 {
        session.id.pid()
    } else {
        session.leader_pid
    };
    let from = match session.peer {
        Some(peer) => format!(" from {}", peer.ip()),
        None => String::new(),
    };
    format!(
        "session {pid} {}{from}{}",
        user(session),
        own_server(session)
    )
}

fn arguments(it: &Process) -> String {
    let words: Vec<&str> = it.argv.iter().map(|word| word.as_str()).collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(" "))
    }
}

fn news(it: &StreamNews) -> String {
    format!(
        "{}: {} written {} B, read {} B, unread {} B",
        who(&it.session),
        it.slot,
        it.written,
        it.read,
        it.unread
    )
}
