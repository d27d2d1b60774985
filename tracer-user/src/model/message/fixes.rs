//! What to do about a finding, in the shell's words.

use super::names::{numbered, server_name, streams};
use crate::model::{
    escape::shell_line,
    session::Session,
    view::{Cause, HolderView, Origin, Slot},
};

/// What keeps the next session like this one from waiting.
pub(in crate::model) fn fix(session: &Session, holder: &HolderView, others: usize) -> String {
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

pub(in crate::model) fn fix_truncated(session: &Session, cause: Cause) -> Option<String> {
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

pub(in crate::model) fn fix_stalled(session: &Session) -> String {
    format!(
        "see whether the client still reads (it may be stopped, or piped into something slow); the server's own state: ps -o stat= -p {}",
        session.view.server_pid
    )
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
