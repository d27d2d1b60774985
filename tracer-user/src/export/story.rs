//! A session's story in sentences, with the evidence and the fix.

use super::{
    clock::{Clock, sentence},
    history,
};
use crate::model::{
    Closed, Finding, Kind, LossCause, Slot, StreamReport, Verdict,
    message::{command, counted, duration, ended, held, own_server, user},
    timeline::{Lane, Timeline},
};

/// Who, from where, and what.
pub(super) fn title(line: &Timeline) -> String {
    let session = &line.session;
    let from = session
        .peer
        .map_or_else(String::new, |peer| format!(" from {peer}"));
    format!(
        "session {}: {}{from} ran {}",
        session.id,
        user(session),
        command(session)
    )
}

/// Where, and when.
pub(super) fn server(line: &Timeline, clock: &Clock) -> String {
    let session = &line.session;
    let exe = match session.server_exe.is_empty() {
        true => "an unknown server",
        false => session.server_exe.as_str(),
    };
    let late = match session.preexisting {
        true => ", before the tracer",
        false => "",
    };
    format!(
        "on {exe} pid {}{}, opened {}{late}",
        session.server_pid,
        own_server(session),
        clock.date_and_time(session.opened)
    )
}

/// Lines for people.
pub(super) fn text(line: &Timeline, clock: &Clock) -> Vec<String> {
    let mut out = vec![
        format!("{},", title(line)),
        format!("{}.", server(line, clock)),
        String::new(),
        leader(line, clock),
    ];
    for lane in history::outputs(line) {
        out.push(stream(line, lane));
    }
    out.extend(input(line));
    out.extend(connection(line));
    out.extend(holders(line));
    out.push(String::new());
    out.push(verdict(line));
    for tracked in line
        .findings
        .iter()
        .filter(|it| it.finding.kind() != Kind::NearMiss)
    {
        let finding = &tracked.finding;
        out.push(String::new());
        out.push(format!(
            "{}: {}.",
            finding.kind().name(),
            sentence(finding, clock)
        ));
        out.extend(fix(finding));
    }
    out
}

/// What to do, and what to know of that.
pub(super) fn fix(finding: &Finding) -> impl Iterator<Item = String> {
    finding
        .fix
        .parts()
        .map(|(label, part)| format!("{label}: {part}"))
}

fn leader(line: &Timeline, clock: &Clock) -> String {
    let session = &line.session;
    match (session.exit, session.exited) {
        (Some(exit), Some(time)) => format!(
            "The command (pid {}) {} at {}, {} after it began.",
            session.leader_pid,
            ended(exit),
            clock.time_of_day(time),
            duration(time.saturating_sub(session.opened))
        ),
        (Some(exit), None) => format!("The command (pid {}) {}.", session.leader_pid, ended(exit)),
        (None, _) if line.closed.is_some() || session.leader_pid == 0 => {
            "How the command ended was not seen.".to_owned()
        }
        (None, _) => format!("The command (pid {}) is running.", session.leader_pid),
    }
}

fn report<'a>(closed: &'a Closed, lane: &Lane) -> Option<&'a StreamReport> {
    closed
        .streams
        .iter()
        .find(|report| report.slot == lane.slot)
}

/// What became of a stream's bytes.
fn stream(line: &Timeline, lane: &Lane) -> String {
    let slot = capital(lane.slot.name());
    let last = lane.points.last();
    let report = line.closed.as_ref().and_then(|closed| report(closed, lane));
    let (written, read) = match report {
        Some(report) => (report.written, report.read),
        None => last.map_or((0, 0), |last| (last.written, last.read)),
    };
    if written == 0 && read == 0 {
        return format!("{slot}: nothing was written.");
    }
    let how = match lane.writes {
        0 => String::new(),
        writes => format!(" in {}", counted(writes, "write")),
    };
    let what = match report.map(|report| report.verdict) {
        None => format!("the server has read {read} B of them"),
        Some(Verdict::Clean) => "the server read them all".to_owned(),
        Some(Verdict::NearMiss { unread }) => {
            let margin = report.and_then(|report| report.margin_ns).unwrap_or(0);
            format!(
                "the server read them all, the last {unread} B of them within {} after it learned that the command had exited",
                duration(margin.unsigned_abs())
            )
        }
        Some(Verdict::Unknown) => {
            format!("the server read {read} B of them, as far as is known")
        }
        Some(Verdict::Truncated(cut)) if cut.cause == LossCause::ClientGone => match cut.bytes {
            0 => format!("the server read {read} B, and then the client was gone"),
            bytes => format!(
                "the server read {read} B, and {bytes} B were unread when the client was gone"
            ),
        },
        Some(Verdict::Truncated(cut)) if cut.bytes == 0 => format!(
            "the server read {read} B, and the output did not come to its end ({})",
            cut.cause.name()
        ),
        Some(Verdict::Truncated(cut)) => format!(
            "the server read {read} B, and {}{} B never reached the client ({})",
            if cut.exact { "" } else { "at least " },
            cut.bytes,
            cut.cause.name()
        ),
    };
    let note = report
        .and_then(|report| report.note.as_ref())
        .map_or_else(String::new, |note| format!(" ({note})"));
    format!("{slot}: {written} B were written{how}; {what}{note}.")
}

/// What the command left of its input: its own choice, but it may explain what it did.
fn input(line: &Timeline) -> Option<String> {
    let closed = line.closed.as_ref()?;
    let stdin = closed.streams.iter().find(|it| it.slot == Slot::Stdin)?;
    (stdin.unread > 0).then(|| {
        format!(
            "Stdin: the command left {} B of its input unread.",
            stdin.unread
        )
    })
}

/// What the client confirmed.
fn connection(line: &Timeline) -> Option<String> {
    let carried = line.closed.as_ref()?.carried?;
    if carried.queued == 0 {
        return None;
    }
    let rest = match carried.queued.saturating_sub(carried.acked) {
        0 => "the client's kernel acknowledged all of it".to_owned(),
        open => format!("the client's kernel never acknowledged {open} B of it"),
    };
    Some(format!(
        "The server sent {} B to its client meanwhile, encrypted and with everything else on the connection; {rest}.",
        carried.queued
    ))
}

fn holders(line: &Timeline) -> Vec<String> {
    let mut out = Vec::new();
    for hold in &line.holds {
        let holder = &hold.holder;
        let until = match hold.ended {
            Some(time) => match line.session.exited {
                Some(exited) => format!(
                    "until {} after the command exited",
                    duration(time.saturating_sub(exited))
                ),
                None => format!("for at least {}", duration(time.saturating_sub(hold.began))),
            },
            None => "and still holds it".to_owned(),
        };
        out.push(format!(
            "{} pid {} held its {} {until}{}.",
            holder.comm,
            holder.pid,
            held(holder),
            history::path(holder)
        ));
    }
    if line.left_out.holds > 0 {
        out.push(format!(
            "{} did as well.",
            counted(line.left_out.holds, "other process")
        ));
    }
    out
}

fn verdict(line: &Timeline) -> String {
    let Some(closed) = &line.closed else {
        let open = line
            .findings
            .iter()
            .any(|told| told.finding.state != crate::model::State::Resolved);
        return match open {
            true => "The session is open, and something is wrong with it:".to_owned(),
            false => "The session is open, and nothing is known to be wrong with it.".to_owned(),
        };
    };
    let gaps: Vec<&str> = closed.gaps.iter().map(|gap| gap.name()).collect();
    let but = match gaps.as_slice() {
        [] => String::new(),
        gaps => format!(" Evidence is missing: {}.", gaps.join(", ")),
    };
    let word = match closed.verdict {
        Verdict::Clean => {
            "clean: the server read everything that was written, and nothing is known to have been lost after that"
        }
        Verdict::NearMiss { .. } => {
            "clean, a near miss: the server learned that the command had exited before it had read everything, and read the rest later"
        }
        Verdict::Unknown => {
            "unknown: nothing is known to have been lost, but not everything was seen"
        }
        gone if gone.is_clients_choice() => {
            "client gone: the client left, or wanted no more, before it had read everything"
        }
        Verdict::Truncated(_) => "truncated: the client did not get everything",
    };
    format!("Verdict: {word}.{but}")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
