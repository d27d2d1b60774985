//! Parts of objects: sessions, holders, streams, and how they are made.

use serde::Serialize;

use super::Clock;
use crate::model::{
    Cause, Closed, Container, Episode, ExitStatus, History, HolderView, Kind, Origin, Process,
    SessionView, StreamNews, StreamReport, Verdict, Visible,
};

#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub kind: &'a str,
    pub cause: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Lasted<'a> {
    pub name: &'a str,
    pub opened: String,
    /// Null while it is so, and of what cannot be made good.
    pub resolved: Option<String>,
    pub duration_ns: Option<u64>,
}

/// What a session went through.
#[derive(Serialize)]
pub(super) struct Had<'a> {
    pub kind: &'a str,
    pub cause: Option<&'a str>,
    pub stream: Option<&'a str>,
    pub opened: String,
    /// Null while it is so.
    pub resolved: Option<String>,
    pub duration_ns: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Session<'a> {
    pub id: String,
    pub user: Option<&'a str>,
    pub uid: Option<u32>,
    pub peer: Option<String>,
    pub local: Option<String>,
    pub server: Server<'a>,
    pub command: Option<&'a str>,
    pub leader: Leader,
}

#[derive(Serialize)]
pub(super) struct Server<'a> {
    pub exe: Option<&'a str>,
    pub pid: Option<u32>,
    /// User id of whom the executable file belongs to; null for root.
    pub owner: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct Leader {
    pub pid: Option<u32>,
    pub exit: Option<Exit>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exit {
    Code(u8),
    Signal(u8),
}

#[derive(Serialize)]
pub(super) struct Holder<'a> {
    pub pid: u32,
    pub ns_pid: u32,
    pub start: String,
    pub uid: u32,
    pub comm: &'a str,
    pub argv: Vec<&'a str>,
    pub fds: &'a [u32],
    pub sockets: &'a [u32],
    pub rings: &'a [u32],
    pub shared_with: &'a [u32],
    pub streams: Vec<&'a str>,
    pub path: Vec<String>,
    /// Null when not known.
    pub inherited: Option<bool>,
    /// Null unless only one process can have sent the copies.
    pub sender: Option<String>,
    pub container: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Stream<'a> {
    pub stream: &'a str,
    pub object: String,
    pub verdict: &'a str,
    pub cause: Option<&'a str>,
    /// Bytes lost; null unless truncated.
    pub bytes: Option<u64>,
    pub written: u64,
    pub read: u64,
    pub unread: u64,
    pub exact: bool,
    pub margin_ns: Option<i64>,
    pub note: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Connection {
    pub queued: u64,
    pub sent: u64,
    pub acked: u64,
}

#[derive(Serialize)]
pub(super) struct Proc<'a> {
    pub pid: u32,
    pub start: String,
    pub comm: &'a str,
}

#[derive(Serialize)]
pub(super) struct News<'a> {
    pub stream: &'a str,
    pub written: u64,
    pub read: u64,
    pub unread: u64,
}

/// What was found of a session that has closed, each once.
pub(super) fn findings(it: &Closed) -> Vec<Told<'static>> {
    let lost = it.streams.iter().filter_map(|stream| match stream.verdict {
        Verdict::Truncated(cut) => Some((Kind::Truncated, Some(cut.cause.into()))),
        Verdict::NearMiss { .. } => Some((Kind::NearMiss, None)),
        Verdict::Clean | Verdict::Unknown => None,
    });
    let had = it.had.iter().map(|it| (it.kind, it.cause));
    let mut all: Vec<_> = had.chain(lost).collect();
    all.sort_unstable();
    all.dedup();
    let told = |(kind, cause): &(Kind, Option<Cause>)| Told {
        kind: kind.name(),
        cause: cause.map(Cause::name),
    };
    all.iter().map(told).collect()
}

pub(super) fn had(history: &History, clock: &Clock) -> Vec<Had<'static>> {
    let of = |it: &Episode| Had {
        kind: it.kind.name(),
        cause: it.cause.map(|cause| cause.name()),
        stream: it.stream.map(|slot| slot.name()),
        opened: clock.rfc3339(it.opened),
        resolved: it.resolved.map(|time| clock.rfc3339(time)),
        duration_ns: it.resolved.map(|time| it.duration(time)),
    };
    history.iter().map(of).collect()
}

pub(super) fn session(it: &SessionView) -> Session<'_> {
    Session {
        id: it.id.to_string(),
        user: it.user.as_deref(),
        uid: it.uid,
        peer: it.peer.map(|address| address.to_string()),
        local: it.local.map(|address| address.to_string()),
        server: Server {
            exe: Some(it.server_exe.as_str()).filter(|exe| !exe.is_empty()),
            pid: known(it.server_pid),
            owner: it.server_owner,
        },
        command: it.command.as_deref(),
        leader: Leader {
            pid: known(it.leader_pid),
            exit: it.exit.map(exit),
        },
    }
}

pub(super) fn stream(it: &StreamReport) -> Stream<'_> {
    let cut = match it.verdict {
        Verdict::Truncated(cut) => Some(cut),
        Verdict::Clean | Verdict::NearMiss { .. } | Verdict::Unknown => None,
    };
    Stream {
        stream: it.slot.name(),
        object: format!("{}:[{}]", it.transport, it.object),
        verdict: it.verdict.name(),
        cause: cut.map(|cut| cut.cause.name()),
        bytes: cut.map(|cut| cut.bytes),
        written: it.written,
        read: it.read,
        unread: it.unread,
        exact: it.exact,
        margin_ns: it.margin_ns,
        note: it.note.as_deref(),
    }
}

pub(super) fn holder<'a>(it: &'a HolderView, clock: &Clock) -> Holder<'a> {
    Holder {
        pid: it.pid,
        ns_pid: it.ns_pid,
        start: clock.rfc3339(it.start),
        uid: it.uid,
        comm: &it.comm,
        argv: texts(&it.argv),
        fds: &it.fds,
        sockets: &it.sockets,
        rings: &it.rings,
        shared_with: &it.shared_with,
        streams: it.streams.iter().map(|slot| slot.name()).collect(),
        path: it.path.iter().map(ToString::to_string).collect(),
        inherited: match it.origin {
            Origin::Inherited => Some(true),
            Origin::Passed | Origin::Received => Some(false),
            Origin::Unknown => None,
        },
        sender: it.sender.as_ref().map(ToString::to_string),
        container: it.container.as_ref().map(Container::id),
    }
}

pub(super) fn process<'a>(it: &'a Process, clock: &Clock) -> Proc<'a> {
    Proc {
        pid: it.pid,
        start: clock.rfc3339(it.start),
        comm: &it.comm,
    }
}

pub(super) fn news(it: &StreamNews) -> News<'_> {
    News {
        stream: it.slot.name(),
        written: it.written,
        read: it.read,
        unread: it.unread,
    }
}

pub(super) fn exit(it: ExitStatus) -> Exit {
    match it {
        ExitStatus::Code(code) => Exit::Code(code),
        ExitStatus::Signal(signal) => Exit::Signal(signal),
    }
}

pub(super) fn known(pid: u32) -> Option<u32> {
    (pid != 0).then_some(pid)
}

pub(super) fn texts(words: &[Visible]) -> Vec<&str> {
    words.iter().map(Visible::as_str).collect()
}
