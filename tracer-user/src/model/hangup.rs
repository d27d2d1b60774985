//! What the end of a terminal kills, and what of that its client would have seen.
//!
//! When the leader exits, the kernel sends SIGHUP to the terminal's foreground processes
//! (`disassociate_ctty`, drivers/tty/tty_jobctrl.c). Input that one of them leaves unread is the client's
//! loss only if its output led to the terminal.

use std::collections::BTreeMap;

use tracer_ebpf::transport;

use super::{
    departure::{Ender, ender},
    session::{Hangup, Session},
    stream::{Close, Stream},
};

/// Longest chain of pipes to the terminal that is followed.
const MAX_CHAIN: usize = 8;

/// Processes that the leader's exit killed by hanging up their terminal.
pub(super) fn killed<'a>(
    session: &'a Session,
    stream: &Stream,
    close: Option<&Close>,
) -> impl Iterator<Item = &'a Hangup> {
    let gone = session.leader_gone.filter(|&gone| {
        stream.is_pty()
            // The client left first: the server's end hung up on all of them.
            && session.left_before(gone).is_none()
            && close.is_none_or(|close| close.after_leader)
    });
    // What dies after the server's end may have been hung up on by that.
    let by_server = close.filter(|close| ender(session, close) != Ender::AfterCommand);
    session.hangups.iter().filter(move |it| {
        gone.is_some_and(|gone| it.time >= gone)
            && by_server.is_none_or(|close| it.time <= close.time)
            && !is_elsewhere(session, it)
    })
}

/// Whether the process was on a terminal of its own, as what runs in tmux or screen is. One whose output
/// was redirected is where its ancestors were.
fn is_elsewhere(session: &Session, process: &Hangup) -> bool {
    let mut elsewhere = session.hangups.iter().filter(|it| it.on_another_terminal);
    elsewhere.any(|it| it.pid == process.pid || process.ancestors.contains(&it.pid))
}

/// Those of them that left input behind which led to the terminal: each pipe once.
pub(super) fn losers<'a>(
    session: &'a Session,
    stream: &Stream,
    close: Option<&Close>,
) -> Vec<&'a Hangup> {
    let killed: Vec<_> = killed(session, stream, close).collect();
    let mut by_pipe: BTreeMap<u64, &Hangup> = BTreeMap::new();
    for it in &killed {
        if it.unread > 0 && leads_to(stream.object, it, &killed, MAX_CHAIN) {
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
pub(super) fn lost(session: &Session, stream: &Stream, close: &Close) -> u64 {
    let losers = losers(session, stream, Some(close));
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
