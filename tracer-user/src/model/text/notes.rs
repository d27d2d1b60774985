//! Sentences about what is no loss, or only part of one: they stand beside a verdict.

use super::{durations::duration, names::since_exit};
use crate::model::{
    facts::{Close, Session, Stream},
    judgement::{Ender, disagreement, ender, killed_by_hangup, losers_by_hangup},
    view::{HolderView, Visible},
};

/// Most processes that one note names.
const NAMED: usize = 4;

/// What else is to be known about the numbers of a stream.
pub(in crate::model) fn note(session: &Session, stream: &Stream) -> Option<String> {
    if stream.is_unlistened() {
        return Some(format!("the server does not listen to {}", stream.slot()));
    }
    let refused = stream
        .refused()
        .map(|bytes| format!("a later write of {bytes} B was refused"));
    let notes = [
        disagrees(session, stream),
        taken(stream),
        refused,
        hung_up(session, stream),
    ];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Says so when the counters and the object do not agree.
pub(super) fn disagrees(session: &Session, stream: &Stream) -> Option<String> {
    let it = disagreement(session, stream)?;
    let why = match (it.missing, stream.has_packets()) {
        (true, true) => "the server read packets (O_DIRECT) into too little room",
        (true, false) => "something else took the rest unseen",
        (false, _) => "some went by other means such as splice",
    };
    Some(format!(
        "counters disagree: {} B written, {} B read, {} B unread: {why}",
        it.written, it.read, it.unread
    ))
}

/// Who else read what the command wrote.
pub(super) fn taken(stream: &Stream) -> Option<String> {
    let bytes = stream.counters().taken;
    let who = match stream.taker() {
        Some(taker) => format!("{} pid {}", Visible::field(&taker.comm), taker.pid),
        None => "another process".to_owned(),
    };
    (bytes > 0).then(|| format!("{who} read {bytes} B of it in place of the server"))
}

/// What the end of the terminal killed, where none of that was the client's loss.
fn hung_up(session: &Session, stream: &Stream) -> Option<String> {
    if !losers_by_hangup(session, stream).is_empty() {
        return None;
    }
    let killed: Vec<String> = killed_by_hangup(session, stream)
        .map(|it| format!("{} {}", it.comm, it.pid))
        .collect();
    (!killed.is_empty()).then(|| {
        format!(
            "the end of the terminal sent SIGHUP to {}, which ended {}: what has to outlive it needs `setsid -f` or nohup",
            listed(&killed),
            if killed.len() == 1 { "it" } else { "them" },
        )
    })
}

/// Some of them, and how many more there are.
fn listed(names: &[String]) -> String {
    let named = &names[..names.len().min(NAMED)];
    match names.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The server's end went while processes still held the session's: who gave up, and what is left.
pub(super) fn gave_up(session: &Session, holders: &[HolderView], now: u64) -> Option<String> {
    let close = session
        .outputs()
        .filter(|stream| stream.has_writers())
        .filter_map(Stream::closed)
        .find(|close| close.writers > 0)?;
    let names: Vec<String> = holders
        .iter()
        .map(|it| format!("{} {}", it.comm, it.pid))
        .collect();
    Some(format!(
        "{} after {}; {} still run{}: what {} next to the session fails",
        who(session, close),
        since_exit(session, close.time.min(now)).unwrap_or_else(|| duration(0)),
        listed(&names),
        if names.len() == 1 { "s" } else { "" },
        if names.len() == 1 {
            "it writes"
        } else {
            "they write"
        },
    ))
}

fn who(session: &Session, close: &Close) -> &'static str {
    match ender(session, close) {
        Ender::Client => "the client gave up",
        Ender::Network => "the connection was lost",
        Ender::Killed => "the server was ended by a signal",
        Ender::Policy | Ender::AfterCommand | Ender::Server => "the server closed the session",
    }
}
