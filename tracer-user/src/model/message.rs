//! Sentences for a person, and what to do in the shell's words.

use super::{
    Env,
    delivery::{self, Fate},
    escape::{Visible, shell_line, until_nul},
    session::Session,
    stream::{Close, Stream},
    verdict,
    view::{Cause, Cut, ExitStatus, HolderView, Origin, SessionView, Slot, StreamReport},
};

/// Longest command that a sentence quotes, in characters.
const QUOTED: usize = 80;

pub(super) fn orphaned(session: &Session, holders: &[HolderView], bytes: u64, env: &Env) -> String {
    let Some(first) = holders.first() else {
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

pub(super) fn released(session: &Session, told: &[HolderView], now: u64, _env: &Env) -> String {
    let view = &session.view;
    let waited = match session.leader_gone {
        Some(gone) => format!(
            " {} after the command's end",
            duration(now.saturating_sub(gone))
        ),
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

/// What keeps the next session like this one from waiting.
pub(super) fn fix(session: &Session, holder: &HolderView, others: usize) -> String {
    if matches!(holder.origin, Origin::Passed | Origin::Received) {
        return format!(
            "let {} pid {} {}: it was handed the session's {}, so redirecting a job in the session does not help",
            holder.comm,
            holder.pid,
            let_go(holder),
            streams(&holder.streams),
        );
    }
    let mut redirect = String::new();
    // What a ring has registered was a descriptor first, most likely the usual one.
    let has = |fd, slot| {
        let registered = !holder.rings.is_empty() && holder.streams.contains(&slot);
        holder.fds.contains(&fd) || registered
    };
    let (out, err) = (has(1, Slot::Stdout), has(2, Slot::Stderr));
    let log = log_name(&holder.comm);
    match (out, err) {
        (true, true) => redirect += &format!(" </dev/null >{log} 2>&1"),
        (true, false) => redirect += &format!(" >{log}"),
        (false, true) => redirect += " 2>&1",
        (false, false) => {}
    }
    if holder.fds.contains(&0) && !(out && err) {
        redirect.insert_str(0, " </dev/null");
    }
    for fd in holder.fds.iter().filter(|fd| **fd > 2) {
        redirect += &format!(" {fd}>&-");
    }
    let job = if holder.forked || holder.argv.is_empty() {
        // It runs a part of its parent's script: its arguments are not its own.
        format!("( … ){redirect} &")
    } else {
        format!(
            "{}{redirect} &",
            shell_line(holder.argv.iter(), holder.argv_cut)
        )
    };
    let mut fix = format!("start it as: {job}");
    if err && !out {
        fix += &format!("  (after its own `>FILE`; or 2>{log})");
    }
    if session
        .view
        .command
        .as_ref()
        .is_some_and(|command| command.contains("nohup"))
    {
        fix += "; nohup alone does not redirect without a terminal";
    }
    if !holder.rings.is_empty() || !holder.sockets.is_empty() {
        fix += &format!(
            "; to end this one let pid {} {}",
            holder.pid,
            let_go(holder)
        );
    }
    if others > 0 {
        fix += "; the same goes for the others";
    }
    fix
}

/// What a holder has to do to hold no more.
fn let_go(holder: &HolderView) -> String {
    let mut ways = Vec::new();
    if !holder.fds.is_empty() {
        ways.push(format!("close {}", numbered("fd", &holder.fds)));
    }
    if !holder.rings.is_empty() {
        ways.push(format!(
            "unregister it from its io_uring (IORING_UNREGISTER_FILES) or close that ({})",
            numbered("fd", &holder.rings)
        ));
    }
    if !holder.sockets.is_empty() {
        ways.push(format!(
            "receive and close it, or close its unix socket ({})",
            numbered("fd", &holder.sockets)
        ));
    }
    ways.join(", and ")
}

pub(super) fn truncated(session: &Session, stream: &Stream, close: &Close, cut: &Cut) -> String {
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
        Cause::Timeout => format!(
            "the server gave up after {} without progress, with {bytes} B of {name} unread",
            duration(
                close
                    .time
                    .saturating_sub(stream.counters.last_read.max(view.opened))
            ),
        ),
        Cause::PtyHangup => {
            let mut lost: Vec<_> = session
                .hangups
                .iter()
                .map(|it| {
                    format!(
                        "{} pid {} was killed by it with {} B unread in its stdin, pipe:[{}]",
                        it.comm, it.pid, it.unread, it.object
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

pub(super) fn fix_truncated(session: &Session, cause: Cause) -> Option<String> {
    Some(match cause {
        Cause::ServerClosedEarly => format!(
            "{} must read to end-of-file before it closes; until it does, let the command end with `; sleep 1`",
            server_name(&session.view),
        ),
        Cause::WriterCut => {
            "let the command wait for all that write (`wait`) before it exits, or redirect them to a file".to_owned()
        }
        Cause::ServerKilled => "find out why the server was sent that signal, and run the command again".to_owned(),
        Cause::Timeout => "see the server's keep-alive settings (ClientAliveInterval, ClientAliveCountMax)".to_owned(),
        Cause::Undelivered => "check the network to the client, and run the command again".to_owned(),
        Cause::PtyHangup => "let the command wait for all that use the terminal before it exits".to_owned(),
        Cause::ServerDropped => format!(
            "{} must send what it has read before it ends; run the command again",
            server_name(&session.view)
        ),
        Cause::ClientGone
        | Cause::ServerNotReading
        | Cause::X11
        | Cause::Forward => return None,
    })
}

pub(super) fn stalled(session: &Session, stream: &Stream, since: u64) -> String {
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

pub(super) fn fix_stalled(session: &Session) -> String {
    format!(
        "see whether the client still reads (it may be stopped, or piped into something slow); the server's own state: ps -o stat= -p {}",
        session.view.server_pid
    )
}

/// A stall is over.
pub(super) fn moves(session: &Session, stream: &Stream, since: u64, now: u64) -> String {
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

pub(super) fn near_miss(session: &Session, report: &StreamReport) -> String {
    let unread = match report.verdict {
        super::view::Verdict::NearMiss { unread } => unread,
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

/// `session 4711 (alice from 10.0.0.5)`.
pub(crate) fn who(view: &SessionView) -> String {
    let pid = if view.leader_pid == 0 {
        view.id.pid()
    } else {
        view.leader_pid
    };
    let user = user(view);
    let from = match view.peer {
        Some(peer) => format!(" from {}", peer.ip()),
        None => String::new(),
    };
    format!("session {pid} ({user}{from}{})", own_server(view))
}

/// Says that it is a server of a user's own.
pub(crate) fn own_server(view: &SessionView) -> String {
    match view.server_owner {
        Some(owner) if view.uid == Some(owner) => format!(" on a {} of their own", view.server_exe),
        Some(owner) => format!(" on uid {owner}'s own {}", view.server_exe),
        None => String::new(),
    }
}

/// Whose command ended, and how.
pub(super) fn told_end(view: &SessionView, env: &Env) -> String {
    let end = match (view.exit, view.exited) {
        (Some(exit), Some(at)) => format!("{} at {}", ended(exit), time_of_day(at, env)),
        (Some(exit), None) => ended(exit),
        (None, _) if came_late(view) => {
            return format!("{}: {UNSEEN}", who(view));
        }
        (None, _) => "has exited".to_owned(),
    };
    format!("{} {} {end}", who(view), command(view))
}

/// What there is to say of a command that nobody can ask any more.
const UNSEEN: &str = "its command exited before the tracer began";

fn came_late(view: &SessionView) -> bool {
    view.preexisting && view.leader_pid == 0 && view.command.is_none()
}

/// The user's name, or number.
pub(crate) fn user(view: &SessionView) -> String {
    match (&view.user, view.uid) {
        (Some(name), _) => name.to_string(),
        (None, Some(uid)) => format!("uid {uid}"),
        (None, None) => "unknown user".to_owned(),
    }
}

/// What stands in a command's place where none is known.
pub(crate) fn without_command(view: &SessionView) -> &'static str {
    match came_late(view) {
        true => "(its command exited before the tracer began)",
        false => "(no command executed)",
    }
}

/// What the session runs, quoted.
pub(crate) fn command(view: &SessionView) -> String {
    let Some(command) = &view.command else {
        return without_command(view).to_owned();
    };
    match command.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("`{}…`", &command[..end]),
        None => format!("`{command}`"),
    }
}

/// `exited 0`, `was killed by SIGKILL`.
pub(crate) fn ended(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => format!("exited {code}"),
        ExitStatus::Signal(signal) => format!("was killed by {}", signal_name(u32::from(signal))),
    }
}

/// A time span with two or three digits that matter.
pub(crate) fn duration(ns: u64) -> String {
    let float = ns as f64;
    match ns {
        0..1_000_000 => format!("{:.0} µs", float / 1e3),
        1_000_000..100_000_000 => format!("{:.1} ms", float / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} ms", float / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", float / 1e9),
        _ => {
            let s = ns / 1_000_000_000;
            match s {
                0..3600 => format!("{} min {} s", s / 60, s % 60),
                _ => format!("{} h {} min", s / 3600, s / 60 % 60),
            }
        }
    }
}

/// The holder's streams, and what it has them by.
pub(crate) fn held(holder: &HolderView) -> String {
    let what = match holder.streams.is_empty() {
        true => "the X11 display".to_owned(),
        false => streams(&holder.streams),
    };
    let mut ways = Vec::new();
    if !holder.fds.is_empty() {
        ways.push(numbered("fd", &holder.fds));
    }
    if !holder.rings.is_empty() {
        ways.push(format!(
            "registered with its io_uring, {}",
            numbered("fd", &holder.rings)
        ));
    }
    if !holder.sockets.is_empty() {
        ways.push(format!(
            "in flight: sent to its unix socket, {}, and not yet received",
            numbered("fd", &holder.sockets)
        ));
    }
    format!("{what} ({})", ways.join("; "))
}

/// `fd 1`, `fds 1, 2`.
fn numbered(what: &str, numbers: &[u32]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("{what}{plural} {}", list(numbers))
}

fn streams(streams: &[Slot]) -> String {
    streams
        .iter()
        .map(|slot| slot.name())
        .collect::<Vec<_>>()
        .join(" and ")
}

fn list(fds: &[u32]) -> String {
    fds.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
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

fn server(view: &SessionView) -> String {
    format!("{} pid {}", server_name(view), view.server_pid)
}

fn server_name(view: &SessionView) -> &str {
    if view.server_exe.is_empty() {
        "the server"
    } else {
        &view.server_exe
    }
}

/// A file name that no shell takes for anything else.
fn log_name(comm: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = comm.chars().filter(|c| safe(*c)).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "job.log".to_owned(),
        name => format!("{name}.log"),
    }
}

/// hh:mm:ss in UTC.
fn time_of_day(time: u64, env: &Env) -> String {
    let s = time.wrapping_add(env.wall_offset) / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

pub(crate) fn signal_name(signal: u32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
