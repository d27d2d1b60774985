//! Which fields each kind of record has, in one place for reading and writing; and what the next
//! one of a flood is.

use tracer_ebpf::{
    Cgroup, Chld, Conn, ConnId, ConnectionSiblings, Counters, Exec, Exit, Fork, Holder, Kind, Loss,
    Passed, Proc, Progress, Resume, Scan, SessionStart, SessionVanished, Signal, Socket, Start,
    Stream, StreamEnds, StreamNow, User,
};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use super::pen::Pen;

/// The record in `bytes`, which are aligned and of its size.
fn of<T: FromBytes + IntoBytes + KnownLayout>(bytes: &mut [u8]) -> &mut T {
    T::mut_from_bytes(bytes).expect("aligned, and of the kind's size")
}

/// Reads or writes the fields after the header.
pub fn walk(pen: &mut impl Pen, kind: Kind, bytes: &mut [u8]) {
    match kind {
        Kind::Fork => fork(pen, of(bytes)),
        Kind::Exec | Kind::Process => exec(pen, of(bytes)),
        Kind::Exit => exit(pen, of(bytes)),
        Kind::SessionStart => session_start(pen, of(bytes)),
        Kind::Chld => chld(pen, of(bytes)),
        Kind::Signal => signal(pen, of(bytes)),
        Kind::Stream => stream(pen, of(bytes)),
        Kind::Conn => conn(pen, of(bytes)),
        Kind::Start => start(pen, of(bytes)),
        Kind::Loss => of::<Loss>(bytes)
            .counts
            .iter_mut()
            .for_each(|n| pen.number(n)),
        Kind::User => user(pen, of(bytes)),
        Kind::ScanBegin | Kind::ScanEnd => pen.short(&mut of::<Scan>(bytes).partial),
        Kind::Holder => holder(pen, of(bytes)),
        Kind::Socket => socket(pen, of(bytes)),
        Kind::Passed => passed(pen, of(bytes)),
        Kind::Cgroup => cgroup(pen, of(bytes)),
        Kind::ConnectionSiblings => company(pen, of(bytes)),
        Kind::Resume => resume(pen, of(bytes)),
        Kind::SessionVanished => gone(pen, of(bytes)),
        Kind::Tick | Kind::Ready => {}
    }
}

fn fork(pen: &mut impl Pen, r: &mut Fork) {
    pen.session(&mut r.session);
    pen.proc(&mut r.parent);
    pen.proc(&mut r.child);
    pen.short(&mut r.flags);
    pen.short(&mut r.uid);
    pen.text(&mut r.comm);
}

fn exec(pen: &mut impl Pen, r: &mut Exec) {
    pen.session(&mut r.session);
    pen.proc(&mut r.proc);
    pen.pid(&mut r.parent);
    pen.short(&mut r.uid);
    pen.short(&mut r.flags);
    pen.word(&mut r.argv_len);
    pen.word(&mut r.argv_full);
    pen.text(&mut r.comm);
    pen.text(&mut r.exe);
    pen.text(&mut r.argv);
}

fn exit(pen: &mut impl Pen, r: &mut Exit) {
    pen.session(&mut r.session);
    pen.proc(&mut r.proc);
    pen.word(&mut r.status);
    pen.short(&mut r.flags);
    now(pen, &mut r.streams);
    pen.name(&mut r.stdin_object);
    pen.number(&mut r.stdin_unread);
    stream_ends(pen, &mut r.stdout);
}

fn now(pen: &mut impl Pen, streams: &mut [StreamNow]) {
    for r in streams {
        pen.number(&mut r.unread);
        pen.number(&mut r.written);
        pen.number(&mut r.read);
    }
}

fn session_start(pen: &mut impl Pen, r: &mut SessionStart) {
    pen.session(&mut r.session);
    pen.proc(&mut r.leader);
    pen.proc(&mut r.server);
    pen.short(&mut r.uid);
    pen.short(&mut r.preexisting);
    r.streams.iter_mut().for_each(|ends| stream_ends(pen, ends));
    conn_id(pen, &mut r.conn);
    pen.text(&mut r.exe);
    pen.short(&mut r.owner);
    progress(pen, &mut r.progress);
}

fn progress(pen: &mut impl Pen, r: &mut Progress) {
    pen.number(&mut r.queued);
    pen.number(&mut r.sent);
    pen.number(&mut r.acked);
    pen.moment(&mut r.heard);
}

fn stream_ends(pen: &mut impl Pen, r: &mut StreamEnds) {
    pen.name(&mut r.object);
    pen.short(&mut r.transport);
    pen.word(&mut r.capacity);
}

fn conn_id(pen: &mut impl Pen, r: &mut ConnId) {
    pen.name(&mut r.sock);
    pen.short(&mut r.family);
    let (mut local, mut peer) = (u32::from(r.local_port), u32::from(r.peer_port));
    pen.word(&mut local);
    pen.word(&mut peer);
    // A port that is none becomes one.
    (r.local_port, r.peer_port) = (local as u16, peer as u16);
    pen.text(&mut r.local);
    pen.text(&mut r.peer);
}

fn chld(pen: &mut impl Pen, r: &mut Chld) {
    pen.session(&mut r.session);
    pen.pid(&mut r.server);
    pen.short(&mut r.stage);
    now(pen, &mut r.streams);
}

fn signal(pen: &mut impl Pen, r: &mut Signal) {
    pen.session(&mut r.session);
    pen.proc(&mut r.target);
    pen.word(&mut r.signal);
    pen.pid(&mut r.sender);
    pen.text(&mut r.comm);
}

fn stream(pen: &mut impl Pen, r: &mut Stream) {
    pen.session(&mut r.session);
    pen.name(&mut r.object);
    pen.short(&mut r.slot);
    pen.short(&mut r.edge);
    pen.pid(&mut r.pid);
    pen.short(&mut r.exiting);
    pen.number(&mut r.unread);
    pen.number(&mut r.bytes);
    pen.short(&mut r.readers);
    pen.short(&mut r.writers);
    pen.short(&mut r.refs);
    counters(pen, &mut r.counters);
    pen.short(&mut r.packets);
    progress(pen, &mut r.progress);
    pen.number(&mut r.mark);
    pen.number(&mut r.held);
    pen.text(&mut r.comm);
}

fn counters(pen: &mut impl Pen, r: &mut Counters) {
    pen.number(&mut r.written);
    pen.number(&mut r.read);
    pen.number(&mut r.taken);
    pen.number(&mut r.writes);
    pen.number(&mut r.reads);
    pen.moment(&mut r.first_write);
    pen.moment(&mut r.last_write);
    pen.moment(&mut r.first_read);
    pen.moment(&mut r.last_read);
    pen.moment(&mut r.blocked_since);
    pen.number(&mut r.high_water);
}

fn conn(pen: &mut impl Pen, r: &mut Conn) {
    conn_id(pen, &mut r.conn);
    pen.short(&mut r.old);
    pen.short(&mut r.new);
    pen.short(&mut r.error);
    progress(pen, &mut r.progress);
}

fn start(pen: &mut impl Pen, r: &mut Start) {
    pen.number(&mut r.wall_offset);
    pen.number(&mut r.grace);
    pen.number(&mut r.stall_after);
    pen.pid(&mut r.pid);
    pen.short(&mut r.backend);
    pen.text(&mut r.host);
    pen.text(&mut r.kernel);
    pen.text(&mut r.servers);
}

fn user(pen: &mut impl Pen, r: &mut User) {
    pen.short(&mut r.uid);
    pen.text(&mut r.name);
}

fn holder(pen: &mut impl Pen, r: &mut Holder) {
    pen.session(&mut r.session);
    pen.name(&mut r.object);
    pen.proc(&mut r.proc);
    pen.pid(&mut r.parent);
    pen.pid(&mut r.ns_pid);
    pen.short(&mut r.uid);
    pen.short(&mut r.fd);
    pen.short(&mut r.slot);
    pen.short(&mut r.mode);
    pen.name(&mut r.file);
    pen.short(&mut r.transport);
    pen.text(&mut r.comm);
    pen.name(&mut r.files);
    pen.short(&mut r.via);
}

fn socket(pen: &mut impl Pen, r: &mut Socket) {
    pen.session(&mut r.session);
    pen.proc(&mut r.proc);
    pen.pid(&mut r.parent);
    pen.pid(&mut r.ns_pid);
    pen.short(&mut r.uid);
    pen.short(&mut r.fd);
    pen.short(&mut r.state);
    conn_id(pen, &mut r.conn);
    pen.text(&mut r.comm);
    progress(pen, &mut r.progress);
}

fn passed(pen: &mut impl Pen, r: &mut Passed) {
    pen.session(&mut r.session);
    pen.proc(&mut r.proc);
    pen.name(&mut r.file);
    pen.short(&mut r.way);
    pen.pid(&mut r.peer);
    pen.text(&mut r.comm);
}

fn company(pen: &mut impl Pen, r: &mut ConnectionSiblings) {
    pen.session(&mut r.session);
    pen.short(&mut r.others);
}

fn resume(pen: &mut impl Pen, r: &mut Resume) {
    pen.moment(&mut r.since);
    pen.short(&mut r.complete);
}

fn gone(pen: &mut impl Pen, r: &mut SessionVanished) {
    pen.session(&mut r.session);
}

fn cgroup(pen: &mut impl Pen, r: &mut Cgroup) {
    pen.proc(&mut r.proc);
    pen.word(&mut r.len);
    pen.text(&mut r.path);
}

/// What the next record of a flood is about.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// Another session.
    Session,
    /// Another process of the same session, or another descriptor, socket, user.
    Process,
    /// A child of the one before.
    Child,
}

impl Next {
    /// One of the three.
    pub fn of(byte: Option<u8>) -> Self {
        match byte.unwrap_or(0) % 3 {
            0 => Self::Session,
            1 => Self::Process,
            _ => Self::Child,
        }
    }
}

/// Makes the next record of a flood of the one before.
pub fn next(how: Next, kind: Kind, bytes: &mut [u8]) {
    let later = |proc: Proc| Proc {
        pid: proc.pid.wrapping_add(1 << 8),
        ..proc
    };
    // The pid is in the lower bits of a session's id.
    let other = |session: u64| session.wrapping_add(1 << 8);
    match (kind, how) {
        (Kind::Fork, Next::Child) => {
            let r: &mut Fork = of(bytes);
            (r.parent, r.child) = (r.child, later(r.child));
        }
        (Kind::Fork, Next::Process) => {
            let r: &mut Fork = of(bytes);
            r.child = later(r.child);
        }
        (Kind::Fork, Next::Session) => {
            let r: &mut Fork = of(bytes);
            (r.session, r.child) = (other(r.session), later(r.child));
        }
        (Kind::Exec | Kind::Process, Next::Session) => {
            let r: &mut Exec = of(bytes);
            (r.session, r.proc) = (other(r.session), later(r.proc));
        }
        (Kind::Exec | Kind::Process, Next::Process) => {
            let r: &mut Exec = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::Exec | Kind::Process, Next::Child) => {
            let r: &mut Exec = of(bytes);
            (r.parent, r.proc) = (r.proc.pid, later(r.proc));
        }
        (Kind::Exit, Next::Session) => {
            let r: &mut Exit = of(bytes);
            (r.session, r.proc) = (other(r.session), later(r.proc));
        }
        (Kind::Exit, Next::Process | Next::Child) => {
            let r: &mut Exit = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::SessionStart, _) => {
            let r: &mut SessionStart = of(bytes);
            (r.session, r.leader) = (other(r.session), later(r.leader));
        }
        (Kind::Chld, _) => {
            let r: &mut Chld = of(bytes);
            r.session = other(r.session);
        }
        (Kind::Stream, _) => {
            let r: &mut Stream = of(bytes);
            r.session = other(r.session);
        }
        (Kind::Holder, Next::Session) => {
            let r: &mut Holder = of(bytes);
            r.session = other(r.session);
        }
        (Kind::Holder, Next::Process | Next::Child) => {
            let r: &mut Holder = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::Socket, Next::Session) => {
            let r: &mut Socket = of(bytes);
            r.conn.sock = r.conn.sock.wrapping_add(1 << 8);
        }
        (Kind::Socket, Next::Process | Next::Child) => {
            let r: &mut Socket = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::Passed, Next::Session) => {
            let r: &mut Passed = of(bytes);
            r.session = other(r.session);
        }
        (Kind::Passed, Next::Process | Next::Child) => {
            let r: &mut Passed = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::ConnectionSiblings, _) => {
            let r: &mut ConnectionSiblings = of(bytes);
            r.session = other(r.session);
        }
        (Kind::SessionVanished, _) => {
            let r: &mut SessionVanished = of(bytes);
            r.session = other(r.session);
        }
        (Kind::Cgroup, _) => {
            let r: &mut Cgroup = of(bytes);
            r.proc = later(r.proc);
        }
        (Kind::User, _) => {
            let r: &mut User = of(bytes);
            r.uid = r.uid.wrapping_add(1 << 8);
        }
        (
            Kind::Signal
            | Kind::Conn
            | Kind::Start
            | Kind::Tick
            | Kind::Ready
            | Kind::Loss
            | Kind::Resume
            | Kind::ScanBegin
            | Kind::ScanEnd,
            _,
        ) => {}
    }
}
