//! Sentences about what is no loss, or only part of one: they stand beside a verdict.

use super::{duration, names::since_exit};
use crate::model::{
    departure::{Ender, ender},
    escape::Visible,
    hangup,
    session::Session,
    stream::{Close, Stream},
    view::HolderView,
};

/// Most processes that one note names.
const NAMED: usize = 4;

/// Who else read what the command wrote.
pub(in crate::model) fn taken(stream: &Stream) -> Option<String> {
    let bytes = stream.counters.taken;
    let who = match &stream.taker {
        Some(taker) => format!("{} pid {}", Visible::field(&taker.comm), taker.pid),
        None => "another process".to_owned(),
    };
    (bytes > 0).then(|| format!("{who} read {bytes} B of it in place of the server"))
}

/// What the end of the terminal killed, where none of that was the client's loss.
pub(in crate::model) fn hung_up(session: &Session, stream: &Stream) -> Option<String> {
    let close = stream.close.as_ref();
    if !hangup::losers(session, stream, close).is_empty() {
        return None;
    }
    let killed: Vec<String> = hangup::killed(session, stream, close)
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
pub(in crate::model) fn gave_up(
    session: &Session,
    holders: &[HolderView],
    now: u64,
) -> Option<String> {
    let close = session
        .outputs()
        .filter(|stream| !stream.eof && !stream.writers_gone)
        .filter_map(|stream| stream.close.as_ref())
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
