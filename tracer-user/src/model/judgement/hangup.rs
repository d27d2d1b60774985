//! What the end of a terminal kills, and what of that its client would have seen.
//!
//! When the leader exits, the kernel sends SIGHUP to the terminal's foreground processes
//! (`disassociate_ctty`, drivers/tty/tty_jobctrl.c). Input that one of them leaves unread is the client's
//! loss only if its output led to the terminal.

use std::collections::BTreeMap;

use tracer_ebpf::transport;

use super::departure::{Ender, ender};
use crate::model::facts::{Hangup, ServerEnd, Session, Stream};

/// Longest chain of pipes to the terminal that is followed.
const MAX_CHAIN: usize = 8;

/// Processes that the leader's exit killed by hanging up their terminal.
pub(in crate::model) fn killed<'a>(
    session: &'a Session,
    stream: &Stream,
) -> impl Iterator<Item = &'a Hangup> {
    let connection = session.connection();
    let (after_leader, by_server) = match stream.server_end() {
        ServerEnd::Open | ServerEnd::Unheld => (true, None),
        // What dies after the server's end may have been hung up on by that.
        ServerEnd::Closed(close) => {
            let by_server = ender(session, close) != Ender::AfterCommand;
            (close.after_leader, by_server.then_some(close.time))
        }
        &ServerEnd::Lost {
            time, after_leader, ..
        } => {
            let by_server = connection.left_before(time).is_some();
            (after_leader, by_server.then_some(time))
        }
    };
    let gone = session.leader_gone().filter(|&gone| {
        // If the client left first, the server's end hung up on all of them.
        stream.is_pty() && after_leader && connection.left_before(gone).is_none()
    });
    session.hangups().iter().filter(move |it| {
        gone.is_some_and(|gone| it.time >= gone)
            && by_server.is_none_or(|end| it.time <= end)
            && !is_elsewhere(session, it)
    })
}

/// Whether the process was on a terminal of its own, as what runs in tmux or screen is. One whose output
/// was redirected is where its ancestors were.
fn is_elsewhere(session: &Session, process: &Hangup) -> bool {
    let mut elsewhere = session.hangups().iter().filter(|it| it.on_another_terminal);
    elsewhere.any(|it| it.pid == process.pid || process.ancestors.contains(&it.pid))
}

/// Those of them that left input behind which led to the terminal: each pipe once.
pub(in crate::model) fn losers<'a>(session: &'a Session, stream: &Stream) -> Vec<&'a Hangup> {
    let killed: Vec<_> = killed(session, stream).collect();
    let mut by_pipe: BTreeMap<u64, &Hangup> = BTreeMap::new();
    for it in &killed {
        if it.unread > 0 && leads_to(stream.object(), it, &killed, MAX_CHAIN) {
            let known = by_pipe.entry(it.stdin).or_insert(it);
            // They share the pipe: what the last one left is what nobody read.
            if it.time > known.time {
                *known = it;
            }
        }
    }
    by_pipe.into_values().collect()
}

/// Bytes that they left unread.
pub(in crate::model) fn lost(session: &Session, stream: &Stream) -> u64 {
    let losers = losers(session, stream);
    losers
        .iter()
        .fold(0, |sum, it| sum.saturating_add(it.unread))
}

/// Whether what a process writes goes to the terminal: it is its stdout, or the stdin of another one that
/// was killed whose output does.
fn leads_to(terminal: u64, process: &Hangup, killed: &[&Hangup], left: usize) -> bool {
    let stdout = &process.stdout;
    match stdout.transport {
        transport::PTY => stdout.object == terminal,
        transport::PIPE if left > 0 => killed
            .iter()
            .any(|next| next.stdin == stdout.object && leads_to(terminal, next, killed, left - 1)),
        _ => false,
    }
}
