//! A session's history as a list of moments, for people and for programs.

use serde::Serialize;

use super::clock::{Clock, sentence};
use crate::model::{
    ExitStatus, HolderView, Slot,
    message::{counted, duration, ended, held, signal_name},
    timeline::{Edge, Lane, Life, Mark, Stage, Timeline},
};

/// One moment.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    pub time: u64,
    /// About what: a word for programs.
    pub what: What<'a>,
    /// The same in a sentence.
    pub text: String,
}

/// What happened, as far as it has parts that a program may want.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What<'a> {
    Opened,
    Fork {
        pid: u32,
        parent: Option<u32>,
        comm: &'a str,
    },
    Exec {
        pid: u32,
        comm: &'a str,
        argv: Vec<&'a str>,
    },
    Exit {
        pid: u32,
        comm: &'a str,
        code: Option<u8>,
        signal: Option<u8>,
    },
    Stream {
        stream: &'a str,
        edge: &'static str,
        pid: u32,
        bytes: u64,
        unread: u64,
    },
    Chld {
        stage: &'static str,
        unread: [u64; 3],
    },
    Signal {
        signal: u32,
        target: u32,
        to_server: bool,
        sender: u32,
        comm: &'a str,
    },
    Handover {
        pid: u32,
        comm: &'a str,
        received: bool,
    },
    Connection {
        state: &'a str,
        error: u32,
    },
    ServerExit {
        code: Option<u8>,
        signal: Option<u8>,
    },
    Holds {
        pid: u32,
        comm: &'a str,
        streams: Vec<&'a str>,
    },
    LetsGo {
        pid: u32,
        comm: &'a str,
    },
    Finding {
        kind: &'static str,
        state: &'static str,
    },
    Gap {
        reason: &'static str,
    },
    Closed {
        verdict: &'static str,
    },
}

/// Every moment of a session, in order.
pub(super) fn of(line: &Timeline) -> Vec<Moment<'_>> {
    let mut all = vec![Moment {
        time: line.session.opened,
        what: What::Opened,
        text: "the session opened".to_owned(),
    }];
    line.processes
        .iter()
        .for_each(|life| process(life, &mut all));
    for lane in &line.streams {
        all.extend(lane.marks.iter().map(|it| edge(line, lane, it)));
    }
    signals(line, &mut all);
    outside(line, &mut all);
    findings(line, &mut all);
    // Of one moment in the order above.
    all.sort_by_key(|moment| moment.time);
    all
}

fn process<'a>(life: &'a Life, all: &mut Vec<Moment<'a>>) {
    let parent = (life.parent != 0).then_some(life.parent);
    let from = parent.map_or_else(String::new, |pid| format!(" by pid {pid}"));
    all.push(Moment {
        time: life.began,
        text: format!("{} was forked{from}", named(&life.comm, life.pid)),
        what: What::Fork {
            pid: life.pid,
            parent,
            comm: &life.comm,
        },
    });
    for program in &life.programs {
        let argv: Vec<&str> = program.argv.iter().map(|word| word.as_str()).collect();
        let cut = if program.argv_cut { " …" } else { "" };
        all.push(Moment {
            time: program.time,
            text: format!(
                "pid {} executed {}: {}{cut}",
                life.pid,
                program.comm,
                argv.join(" ")
            ),
            what: What::Exec {
                pid: life.pid,
                comm: &program.comm,
                argv,
            },
        });
    }
    if let Some(time) = life.ended {
        let (code, signal) = parts(life.exit);
        let how = life.exit.map_or_else(|| "exited".to_owned(), ended);
        all.push(Moment {
            time,
            text: format!("{} {how}", named(life.name(), life.pid)),
            what: What::Exit {
                pid: life.pid,
                comm: life.name(),
                code,
                signal,
            },
        });
    }
}

/// A process by its name, where that is known, and pid.
fn named(comm: &str, pid: u32) -> String {
    match comm {
        "" => format!("pid {pid}"),
        comm => format!("{comm} pid {pid}"),
    }
}

fn parts(exit: Option<ExitStatus>) -> (Option<u8>, Option<u8>) {
    match exit {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

fn edge<'a>(line: &'a Timeline, lane: &'a Lane, mark: &Mark) -> Moment<'a> {
    let by = match mark.pid {
        0 => String::new(),
        pid if pid == line.session.server_pid => {
            format!(" ({} pid {pid})", line.session.server_exe)
        }
        pid => match line.processes.iter().find(|life| life.pid == pid) {
            Some(life) => format!(" ({} pid {pid})", life.name_at(mark.time)),
            None => format!(" (pid {pid})"),
        },
    };
    let how = if mark.exiting { " by exiting" } else { "" };
    let slot = lane.slot;
    let text = match mark.edge {
        Edge::FirstWrite => format!("{slot}: first {} B written{by}", mark.bytes),
        Edge::FirstRead => format!("{slot}: first {} B read{by}", mark.bytes),
        Edge::Eof => format!("{slot}: end-of-file read{by}"),
        Edge::WritersGone => format!("{slot}: last writer gone{by}"),
        Edge::ServerClose => {
            format!(
                "{slot}: closed by the server{how}{by}, {} B unread",
                mark.unread
            )
        }
        Edge::SessionClose => {
            format!(
                "{slot}: closed by the session{how}{by}, {} B unread",
                mark.unread
            )
        }
        Edge::Refused => format!("{slot}: a write of {} B failed{by}", mark.bytes),
    };
    Moment {
        time: mark.time,
        text,
        what: What::Stream {
            stream: slot.name(),
            edge: match mark.edge {
                Edge::FirstWrite => "first_write",
                Edge::FirstRead => "first_read",
                Edge::Eof => "eof",
                Edge::WritersGone => "writers_gone",
                Edge::ServerClose => "server_close",
                Edge::SessionClose => "session_close",
                Edge::Refused => "refused",
            },
            pid: mark.pid,
            bytes: mark.bytes,
            unread: mark.unread,
        },
    }
}

/// SIGCHLD on its way to the server, and signals that end processes.
fn signals<'a>(line: &'a Timeline, all: &mut Vec<Moment<'a>>) {
    for news in &line.news {
        let unread: Vec<String> = line
            .streams
            .iter()
            .filter(|lane| lane.slot.is_output())
            .map(|lane| format!("{} {} B", lane.slot, news.unread[lane.slot as usize]))
            .collect();
        let stage = match news.stage {
            Stage::Generated => "SIGCHLD generated for the server",
            Stage::Delivered => "SIGCHLD delivered to the server",
            Stage::Reaped => "the server reaped the command",
        };
        all.push(Moment {
            time: news.time,
            text: format!("{stage}; unread: {}", unread.join(", ")),
            what: What::Chld {
                stage: match news.stage {
                    Stage::Generated => "generated",
                    Stage::Delivered => "delivered",
                    Stage::Reaped => "reaped",
                },
                unread: news.unread,
            },
        });
    }
    for it in &line.signals {
        let to = match it.to_server {
            true => "the server".to_owned(),
            false => format!("pid {}", it.target),
        };
        let from = match it.sender == it.target {
            true => String::new(),
            false => format!(" by {} pid {}", it.comm, it.sender),
        };
        all.push(Moment {
            time: it.time,
            text: format!("{} sent to {to}{from}", signal_name(it.signal)),
            what: What::Signal {
                signal: it.signal,
                target: it.target,
                to_server: it.to_server,
                sender: it.sender,
                comm: &it.comm,
            },
        });
    }
}

/// What happened around the session.
fn outside<'a>(line: &'a Timeline, all: &mut Vec<Moment<'a>>) {
    for it in &line.handovers {
        let did = if it.received { "received" } else { "sent" };
        all.push(Moment {
            time: it.time,
            text: format!(
                "{} pid {} {did} an end of a stream over a unix socket",
                it.comm, it.pid
            ),
            what: What::Handover {
                pid: it.pid,
                comm: &it.comm,
                received: it.received,
            },
        });
    }
    for it in &line.connection {
        let error = match it.error {
            0 => String::new(),
            error => format!(", error {error}"),
        };
        all.push(Moment {
            time: it.time,
            text: match &*it.state {
                // As ss(8) calls a socket without a connection.
                "UNCONN" => format!("connection closed{error}"),
                state => format!("connection in state {state}{error}"),
            },
            what: What::Connection {
                state: &it.state,
                error: it.error,
            },
        });
    }
    if let Some(it) = line.server_exit {
        let (code, signal) = parts(Some(it.exit));
        all.push(Moment {
            time: it.time,
            text: format!("the server {}", ended(it.exit)),
            what: What::ServerExit { code, signal },
        });
    }
}

fn findings<'a>(line: &'a Timeline, all: &mut Vec<Moment<'a>>) {
    for hold in &line.holds {
        let holder = &hold.holder;
        all.push(Moment {
            time: hold.began,
            text: format!(
                "{} pid {} holds {}{}",
                holder.comm,
                holder.pid,
                held(holder),
                path(holder)
            ),
            what: What::Holds {
                pid: holder.pid,
                comm: &holder.comm,
                streams: holder.streams.iter().map(|slot| slot.name()).collect(),
            },
        });
        if let Some(time) = hold.ended {
            all.push(Moment {
                time,
                text: format!("{} pid {} holds nothing any more", holder.comm, holder.pid),
                what: What::LetsGo {
                    pid: holder.pid,
                    comm: &holder.comm,
                },
            });
        }
    }
    for it in &line.findings {
        all.push(Moment {
            time: it.began,
            text: format!(
                "{}: {}",
                it.finding.kind().name(),
                it.finding.cause().map_or("", |cause| cause.name())
            )
            .trim_end_matches([':', ' '])
            .to_owned(),
            what: What::Finding {
                kind: it.finding.kind().name(),
                state: it.finding.state.name(),
            },
        });
    }
    for gap in &line.gaps {
        all.push(Moment {
            time: gap.time,
            text: gap.message.clone(),
            what: What::Gap {
                reason: gap.reason.name(),
            },
        });
    }
    if let Some(closed) = &line.closed {
        all.push(Moment {
            time: closed.time,
            text: format!("the session closed: {}", closed.verdict.words()),
            what: What::Closed {
                verdict: closed.verdict.name(),
            },
        });
    }
}

/// ` by way of bash 1 → sleep 2`, where that is known.
pub(super) fn path(holder: &HolderView) -> String {
    let steps: Vec<String> = holder.path.iter().map(ToString::to_string).collect();
    match steps.as_slice() {
        [] | [_] => String::new(),
        _ => format!(", inherited through {}", steps.join(" → ")),
    }
}

/// Lines for people: who it is, the ledger, then every moment with its time since the beginning.
pub(super) fn text(line: &Timeline, clock: &Clock) -> Vec<String> {
    let session = &line.session;
    let began = line.began();
    let mut out = vec![super::story::title(line), super::story::server(line, clock)];
    out.extend(ledger(line));
    out.push(String::new());
    let moments = of(line);
    let label = |time: u64| format!("+{:.6} s", time.saturating_sub(began) as f64 / 1e9);
    let width = moments.iter().map(|it| label(it.time).len()).max();
    for it in &moments {
        out.push(format!(
            "{:>width$}  {}",
            label(it.time),
            it.text,
            width = width.unwrap_or(0)
        ));
    }
    let left = &line.left_out;
    if left.processes + left.events + left.holds > 0 {
        out.push(format!(
            "not shown for lack of room: {}, {}, {}",
            counted(left.processes, "process"),
            counted(left.events, "event"),
            counted(left.holds, "holder"),
        ));
    }
    for it in &line.findings {
        out.push(String::new());
        out.push(format!(
            "{}: {}",
            it.finding.kind().name(),
            sentence(&it.finding, clock)
        ));
        out.extend(super::story::fix(&it.finding));
    }
    if line.closed.is_none() {
        out.push(String::new());
        let so_far = duration(line.last.saturating_sub(session.opened));
        out.push(format!(
            "the session is open; the last event was {so_far} after it opened"
        ));
    }
    out
}

/// A line for each stream: what was written, read and left.
fn ledger(line: &Timeline) -> Vec<String> {
    let mut out = Vec::new();
    for lane in &line.streams {
        let report = line
            .closed
            .iter()
            .flat_map(|closed| &closed.streams)
            .find(|report| report.slot == lane.slot);
        let last = lane.points.last();
        let (written, read, unread) = match report {
            Some(report) => (report.written, report.read, report.unread),
            None => last.map_or((0, 0, 0), |last| (last.written, last.read, last.unread)),
        };
        let verdict = report.map_or("open", |report| report.verdict.words());
        out.push(format!(
            "{:<6}  {}:[{}]  written {written} B, read {read} B, unread {unread} B, at most {} B at once: {verdict}",
            lane.slot, lane.transport, lane.object, lane.high_water
        ));
    }
    out
}

/// The streams that the command writes.
pub(super) fn outputs(line: &Timeline) -> impl Iterator<Item = &Lane> {
    line.streams.iter().filter(|lane| lane.slot != Slot::Stdin)
}
