//! JSON lines: the contract that the README documents.

mod parts;

use std::sync::Arc;

use serde::Serialize;

use self::parts::{
    Connection, Exit, Had, Holder, Lasted, News, Proc, Session, Stream, Told, exit, findings, had,
    holder, news, process, session, stream, texts,
};
use super::{Clock, history};
use crate::model::{
    Closed, End, Finding, Found, Gap, History, Listed, Opened, SessionView, Started, Update,
    timeline::Timeline,
};

/// Version of the contract.
const SCHEMA: u32 = 1;

/// The line that an update makes, if it makes one.
pub(super) fn line(update: &Update, clock: &Clock, host: &str) -> Option<String> {
    let time = clock.rfc3339(update.time()?);
    let body = Body::of(update, clock)?;
    let line = Line {
        body,
        schema: SCHEMA,
        time,
        host,
    };
    // Strings, numbers, lists of them: nothing that could fail.
    serde_json::to_string(&line).ok()
}

/// The line of a session in a list.
pub(super) fn listed(it: &Listed, clock: &Clock) -> String {
    let line = Line {
        body: Body::Session {
            name: &it.name,
            session: session(&it.session),
            state: it.state(),
            opened: clock.rfc3339(it.session.opened),
            closed: it.end.as_ref().map(|end| clock.rfc3339(end.time)),
            verdict: it.end.as_ref().map(|end| end.verdict.name()),
            gap_reasons: it
                .end
                .iter()
                .flat_map(|end| &end.gaps)
                .map(|reason| reason.name())
                .collect(),
            findings: it
                .findings
                .iter()
                .map(|told| Told {
                    kind: told.kind.name(),
                    cause: told.cause.map(|cause| cause.name()),
                })
                .collect(),
            had: had(&it.had, clock),
            written: it.written,
        },
        schema: SCHEMA,
        time: clock.rfc3339(it.end.as_ref().map_or(it.session.opened, |end| end.time)),
        host: &it.host,
    };
    // As above.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The line of what there is to say of a session that nothing is wrong with. `end` of one that has closed.
pub(super) fn diagnosis(
    it: &SessionView,
    state: &str,
    end: Option<&End>,
    message: &str,
    clock: &Clock,
    host: &str,
) -> String {
    let line = Line {
        body: Body::Diagnosis {
            session: session(it),
            state,
            opened: clock.rfc3339(it.opened),
            closed: end.map(|end| clock.rfc3339(end.time)),
            verdict: end.map(|end| end.verdict.name()),
            command_exited: it.exited.map(|time| clock.rfc3339(time)),
            command_running: it.is_running(),
            message,
        },
        schema: SCHEMA,
        time: clock.rfc3339(end.map_or(it.opened, |end| end.time)),
        host,
    };
    // As above.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The line of a session's story, whose sentences are `text`.
pub(super) fn explanation(line: &Timeline, text: Vec<String>, clock: &Clock, host: &str) -> String {
    let it = &line.session;
    let line = Line {
        body: Body::Explanation {
            session_id: it.id.to_string(),
            session: session(it),
            opened: clock.rfc3339(it.opened),
            command_exited: it.exited.map(|time| clock.rfc3339(time)),
            command_running: it.is_running(),
            closed: line
                .closed
                .as_ref()
                .map(|closed| Box::new(Body::closed(closed, clock))),
            findings: line
                .findings
                .iter()
                .map(|found| Body::finding(&found.finding, clock))
                .collect(),
            text,
        },
        schema: SCHEMA,
        time: clock.rfc3339(line.last),
        host,
    };
    // As above.
    serde_json::to_string(&line).unwrap_or_default()
}

/// An object of another kind.
pub(super) fn object(kind: &str, time: String, host: &str, body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Object<'a, T> {
        #[serde(rename = "type")]
        kind: &'a str,
        schema: u32,
        time: String,
        host: &'a str,
        #[serde(flatten)]
        body: &'a T,
    }
    let line = Object {
        kind,
        schema: SCHEMA,
        time,
        host,
        body,
    };
    // As above.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The line of a finding in a list.
pub(super) fn found(it: &Found, clock: &Clock) -> String {
    let mut body = Body::finding(&it.finding, clock);
    if let Body::Finding { found, .. } = &mut body {
        *found = Some(Lasted {
            name: &it.name,
            opened: clock.rfc3339(it.opened),
            resolved: it.resolved.map(|time| clock.rfc3339(time)),
            duration_ns: it.resolved.map(|time| time.saturating_sub(it.opened)),
        });
    }
    let line = Line {
        body,
        schema: SCHEMA,
        time: clock.rfc3339(it.finding.time),
        host: &it.host,
    };
    // As above.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The lines of a session's history.
pub(super) fn history(line: &Timeline, clock: &Clock, host: &str) -> Vec<String> {
    let mut out = Vec::new();
    let opened = Opened {
        time: line.session.opened,
        session: Arc::clone(&line.session),
        had: History::default(),
    };
    out.extend(self::line(&Update::SessionOpened(opened), clock, host));
    let began = line.began();
    for moment in history::of(line) {
        let event = Line {
            body: Body::Event {
                session_id: line.session.id.to_string(),
                after_ns: moment.time.saturating_sub(began),
                event: moment.what,
                message: moment.text,
            },
            schema: SCHEMA,
            time: clock.rfc3339(moment.time),
            host,
        };
        // As above.
        out.push(serde_json::to_string(&event).unwrap_or_default());
    }
    for told in &line.findings {
        out.extend(self::line(
            &Update::Finding(told.finding.clone()),
            clock,
            host,
        ));
    }
    if let Some(closed) = &line.closed {
        out.extend(self::line(
            &Update::SessionClosed(closed.clone()),
            clock,
            host,
        ));
    }
    out
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    schema: u32,
    time: String,
    host: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Started {
        backend: &'a str,
        kernel: &'a str,
        tracer_pid: u32,
        servers: Vec<&'a str>,
        grace_ns: u64,
    },
    SessionOpened {
        session: Session<'a>,
        preexisting: bool,
    },
    Finding {
        state: &'a str,
        kind: &'a str,
        session: Session<'a>,
        stream: Option<&'a str>,
        bytes: u64,
        exact: bool,
        cause: Option<&'a str>,
        holders: Vec<Holder<'a>>,
        margin_ns: Option<i64>,
        message: &'a str,
        /// The command for the next time, else advice.
        fix: Option<&'a str>,
        fix_now: Option<&'a str>,
        fix_warning: Option<&'a str>,
        fix_next: Option<&'a str>,
        fix_note: Option<&'a str>,
        /// Of `findings`: what `show` takes, and from when to when it was so.
        #[serde(flatten)]
        found: Option<Lasted<'a>>,
    },
    SessionClosed {
        session: Session<'a>,
        verdict: &'a str,
        gap: bool,
        gap_reasons: Vec<&'a str>,
        opened: String,
        duration_ns: u64,
        /// Null when that was not seen.
        command_exited: Option<String>,
        /// Whether the command was still running; null when that is not known.
        command_running: Option<bool>,
        streams: Vec<Stream<'a>>,
        /// In a word or two, as in `session`.
        findings: Vec<Told<'a>>,
        had: Vec<Had<'a>>,
        /// What the connection carried to the client meanwhile, encrypted; null when not known.
        connection: Option<Connection>,
    },
    Gap {
        reason: &'a str,
        lost: u64,
        message: &'a str,
    },
    Session {
        /// What `show` takes: the id, of another boot with that boot's.
        name: &'a str,
        session: Session<'a>,
        state: &'a str,
        opened: String,
        /// Null while it is open.
        closed: Option<String>,
        verdict: Option<&'a str>,
        gap_reasons: Vec<&'a str>,
        findings: Vec<Told<'a>>,
        had: Vec<Had<'a>>,
        written: u64,
    },
    /// What `why` says of a session that nothing is wrong with.
    Diagnosis {
        session: Session<'a>,
        state: &'a str,
        opened: String,
        /// Null while it is open.
        closed: Option<String>,
        verdict: Option<&'a str>,
        command_exited: Option<String>,
        command_running: Option<bool>,
        message: &'a str,
    },
    Explanation {
        session_id: String,
        session: Session<'a>,
        opened: String,
        command_exited: Option<String>,
        command_running: Option<bool>,
        /// As in `session_closed`; null while it is open.
        closed: Option<Box<Body<'a>>>,
        /// As in `finding`.
        findings: Vec<Body<'a>>,
        text: Vec<String>,
    },
    Event {
        session_id: String,
        /// Since the session's beginning.
        after_ns: u64,
        #[serde(flatten)]
        event: history::What<'a>,
        message: String,
    },
    ProcessExec {
        session: Session<'a>,
        process: Proc<'a>,
        argv: Vec<&'a str>,
    },
    ProcessExit {
        session: Session<'a>,
        process: Proc<'a>,
        exit: Option<Exit>,
    },
    StreamEof {
        session: Session<'a>,
        #[serde(flatten)]
        news: News<'a>,
    },
    Sample {
        session: Session<'a>,
        #[serde(flatten)]
        news: News<'a>,
    },
}

impl<'a> Body<'a> {
    fn of(update: &'a Update, clock: &Clock) -> Option<Self> {
        Some(match update {
            Update::Started(it) => Self::started(it),
            Update::SessionOpened(it) => Self::opened(it),
            Update::Finding(it) => Self::finding(it, clock),
            Update::SessionClosed(it) => Self::closed(it, clock),
            Update::Gap(it) => Self::gap(it),
            Update::ProcessExec(it) => Self::ProcessExec {
                session: session(&it.session),
                process: process(it, clock),
                argv: texts(&it.argv),
            },
            Update::ProcessExit(it) => Self::ProcessExit {
                session: session(&it.session),
                process: process(it, clock),
                exit: it.exit.map(exit),
            },
            Update::StreamEof(it) => Self::StreamEof {
                session: session(&it.session),
                news: news(it),
            },
            Update::Sample(it) => Self::Sample {
                session: session(&it.session),
                news: news(it),
            },
            Update::Forget { .. } => return None,
        })
    }

    fn started(it: &'a Started) -> Self {
        Self::Started {
            backend: &it.backend,
            kernel: &it.kernel,
            tracer_pid: it.tracer_pid,
            servers: texts(&it.servers),
            grace_ns: it.grace,
        }
    }

    fn opened(it: &'a Opened) -> Self {
        Self::SessionOpened {
            session: session(&it.session),
            preexisting: it.session.preexisting,
        }
    }

    fn finding(it: &'a Finding, clock: &Clock) -> Self {
        Self::Finding {
            state: it.state.name(),
            kind: it.kind().name(),
            session: session(&it.session),
            stream: it.stream().map(|slot| slot.name()),
            bytes: it.bytes(),
            exact: it.exact,
            cause: it.cause().map(|cause| cause.name()),
            holders: it.holders().iter().map(|it| holder(it, clock)).collect(),
            margin_ns: it.margin_ns(),
            message: &it.message,
            fix: it.fix.text(),
            fix_now: it.fix.now.as_deref(),
            fix_warning: it.fix.warning.as_deref(),
            fix_next: it.fix.next.as_deref(),
            fix_note: it.fix.note.as_deref(),
            found: None,
        }
    }

    fn closed(it: &'a Closed, clock: &Clock) -> Self {
        Self::SessionClosed {
            session: session(&it.session),
            verdict: it.verdict.name(),
            gap: !it.gaps.is_empty(),
            gap_reasons: it.gaps.iter().map(|reason| reason.name()).collect(),
            opened: clock.rfc3339(it.session.opened),
            duration_ns: it.time.saturating_sub(it.session.opened),
            command_exited: it.session.exited.map(|time| clock.rfc3339(time)),
            command_running: it.session.is_running(),
            streams: it.streams.iter().map(stream).collect(),
            findings: findings(it),
            had: had(&it.had, clock),
            connection: it.carried.map(|it| Connection {
                queued: it.queued,
                sent: it.sent,
                acked: it.acked,
            }),
        }
    }

    fn gap(it: &'a Gap) -> Self {
        Self::Gap {
            reason: it.reason.name(),
            lost: it.lost,
            message: &it.message,
        }
    }
}
