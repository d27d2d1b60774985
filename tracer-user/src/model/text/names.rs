//! Who and what a sentence is about: sessions, commands, processes and what they hold.

use super::durations::{duration, utc_time_of_day};
use crate::model::{
    facts::{Env, Session},
    view::{ExitStatus, HolderView, SessionView, Slot},
};

/// Longest command that a sentence quotes, in characters.
const QUOTED: usize = 80;

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
        (Some(exit), Some(at)) => format!(
            "{} at {}",
            ended(exit),
            utc_time_of_day(at, env.wall_offset)
        ),
        (Some(exit), None) => ended(exit),
        (None, _) if came_late(view) => {
            return format!("{}: {UNSEEN}", who(view));
        }
        (None, _) => "has exited".to_owned(),
    };
    format!("{} {} {end}", who(view), command(view))
}

/// How long ago the command exited, where that is known: at least so long if its exit was not seen.
pub(super) fn since_exit(session: &Session, now: u64) -> Option<String> {
    let ago = duration(now.saturating_sub(session.leader_gone()?));
    Some(match session.view().exited {
        Some(_) => ago,
        None => format!("at least {ago}"),
    })
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
        // The one command that OpenSSH runs in a process of its own without executing a program.
        false if view.server_exe.starts_with("sshd") => "(probably internal-sftp)",
        false => "(no program executed)",
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
pub(super) fn numbered(what: &str, numbers: &[u32]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("{what}{plural} {}", list(numbers))
}

pub(super) fn streams(streams: &[Slot]) -> String {
    streams
        .iter()
        .map(|slot| slot.name())
        .collect::<Vec<_>>()
        .join(" and ")
}

pub(super) fn list(fds: &[u32]) -> String {
    fds.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn server(view: &SessionView) -> String {
    format!("{} pid {}", server_name(view), view.server_pid)
}

pub(super) fn server_name(view: &SessionView) -> &str {
    if view.server_exe.is_empty() {
        "the server"
    } else {
        &view.server_exe
    }
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
