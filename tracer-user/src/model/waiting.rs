//! Why a connection stays open though its last session has ended: forwards that are still in use, and
//! what the client has not acknowledged yet.
//!
//! A client leaves within moments of its last session's end. When it does not, one look at the
//! server's sockets tells whether a forward keeps it; if none does, staying is the client's own
//! choice (a multiplexing master, a library that runs one command after the other) and no news.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use tracer_ebpf::{Socket, X11_PORTS};

use super::{
    Env,
    delivery::{self, Fate, GIVEN_UP},
    message,
    orphan::{self, Look, Scan, Seen},
    peers::addresses,
    session::Session,
    settle::Next,
    view::{Cause, Finding, Fix, HolderView, Kind, State, Update},
};

/// From one look to the next while a forward keeps the connection, ns.
const RESCAN: u64 = 1_000_000_000;

/// How far it is known what the connection of an ended session stays open for.
#[derive(Debug, Default)]
pub(super) enum Linger {
    /// The session has not ended.
    #[default]
    No,
    /// A look will tell.
    Asked,
    /// It was told.
    Told(Reason),
    /// Nothing that is seen keeps it.
    Unexplained,
}

/// What keeps a connection open.
#[derive(Debug)]
pub(super) struct Reason {
    cause: Cause,
    /// Programs that use the forwarded display.
    programs: Vec<HolderView>,
}

/// sshd listens for X11 programs on the ports of displays; elsewhere it connects, or listens where
/// its client asked it to.
fn is_x11(socket: &Socket) -> bool {
    X11_PORTS.contains(&socket.conn.local_port)
}

/// Sockets by their peer's and their own address.
fn by_ends(sockets: &[Socket]) -> HashMap<(SocketAddr, SocketAddr), Vec<&Socket>> {
    let mut by_ends: HashMap<_, Vec<_>> = HashMap::new();
    for socket in sockets {
        if let Some(ends) = addresses(&socket.conn) {
            by_ends.entry(ends).or_default().push(socket);
        }
    }
    by_ends
}

impl Linger {
    /// Whether the session is kept for it.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Asked | Self::Told(_))
    }
}

impl Session {
    /// Whether the session, all of whose parts have ended, is kept because its connection may be
    /// waiting; `last` tells that the connection carries no other.
    pub fn lingers(&mut self, last: bool, now: u64, env: &Env, next: &mut Next) -> bool {
        let open = self.conn.sock != 0 && self.conn_ended.is_none() && self.server_exit.is_none();
        let stays = open && self.leader_gone.is_some();
        if matches!(self.linger, Linger::No) && stays && last {
            self.linger = Linger::Asked;
            self.watch.ask(now.saturating_add(env.grace));
        }
        let kept = stays && self.linger.is_pending();
        let kept = self.awaits_delivery(open, now, next) || kept;
        if kept && let Some(due) = self.watch.due.filter(|due| *due > now) {
            next.at(due);
        }
        kept
    }

    /// Whether the session is kept because the client has not acknowledged the last of it. Of an open
    /// connection a look tells, the end of one is told by itself.
    fn awaits_delivery(&mut self, open: bool, now: u64, next: &mut Next) -> bool {
        let closes = self.outputs().filter_map(|stream| stream.close);
        let Some(closed) = closes.map(|close| close.time).max() else {
            return false;
        };
        let waits = self.is_on_its_way() && !next.reached(closed.saturating_add(GIVEN_UP), now);
        if waits && open && self.watch.due.is_none() {
            self.watch.ask(now.saturating_add(RESCAN));
        }
        waits
    }

    /// Whether it is still open what becomes of something that the server read.
    pub fn is_on_its_way(&self) -> bool {
        self.outputs()
            .any(|stream| delivery::fate(self, stream) == Fate::Pending)
    }

    /// Takes back what was told about its connection.
    pub fn settle_linger(&mut self, now: u64, out: &mut Vec<Update>) {
        let Linger::Told(reason) = std::mem::replace(&mut self.linger, Linger::Unexplained) else {
            return;
        };
        self.last = self.last.max(self.conn_ended.unwrap_or(now));
        let what = match (
            self.conn_ended.or(self.server_exit.map(|(time, _)| time)),
            reason.cause,
        ) {
            (Some(_), _) => "the connection ended",
            (None, Cause::X11) => "nothing uses its forwarded X11 display any more,",
            (None, _) => "its last forwarded connection ended",
        };
        let after = match self.leader_gone {
            Some(gone) => message::duration(self.last.saturating_sub(gone)),
            None => String::new(),
        };
        let message = format!(
            "{}: {what} {after} after the command's end",
            message::who(&self.view)
        );
        let mut finding = finding(self, State::Resolved, reason.cause, message, now);
        finding.fix = message::fix_waiting(reason.cause, &reason.programs).once_resolved();
        finding.holders = reason.programs;
        out.push(Update::Finding(finding));
    }
}

/// Whether a socket that a scan found may tell what the connection of a session stays open for: see
/// [`looked`].
pub(super) fn concerns(session: &Session, socket: &Socket, scan: &Scan) -> bool {
    let pid = socket.proc.pid;
    let of_server = pid == session.server.pid || scan.parent(session.server.pid) == Some(pid);
    session.linger.is_pending() && (of_server || X11_PORTS.contains(&socket.conn.peer_port))
}

/// Draws conclusions from a scan for a session that is kept.
pub(super) fn looked(session: &mut Session, look: &Look<'_>, out: &mut Vec<Update>) {
    session.watch.due = Some(look.now.saturating_add(RESCAN));
    let sockets = &look.scan.sockets;
    let owners: HashSet<(u64, u32)> = sockets
        .iter()
        .map(|socket| (socket.conn.sock, socket.proc.pid))
        .collect();
    let others = || {
        sockets.iter().filter(|socket| {
            socket.proc.pid == session.server.pid && socket.conn.sock != session.conn.sock
        })
    };
    // A server in one process that has got other clients since: on whose connection a forward is cannot
    // be told.
    let shared = others().any(|socket| socket.conn.local_port == session.conn.local_port);
    let forwards: Vec<&Socket> = others()
        .filter(|_| !shared)
        // What the privileged monitor has as well (a directory service's connection) was there
        // before any forward: those are made by the user's process alone.
        .filter(|socket| !owners.contains(&(socket.conn.sock, socket.parent)))
        .collect();
    let Some(first) = forwards
        .iter()
        .find(|socket| is_x11(socket))
        .or(forwards.first())
    else {
        if !look.partial {
            session.watch.due = None;
            session.settle_linger(look.now, out);
        }
        return;
    };
    let cause = if is_x11(first) {
        Cause::X11
    } else {
        Cause::Forward
    };
    let mut programs: Vec<HolderView> = Vec::new();
    let by_ends = by_ends(sockets);
    let displays = forwards.iter().filter(|socket| is_x11(socket));
    for (peer, local) in displays.filter_map(|display| addresses(&display.conn)) {
        for client in by_ends.get(&(local, peer)).into_iter().flatten() {
            match programs
                .iter_mut()
                .find(|known| known.pid == client.proc.pid)
            {
                Some(known) => known.fds.push(client.fd),
                None => programs.push(orphan::view(
                    session,
                    client.proc,
                    &Seen {
                        ns_pid: client.ns_pid,
                        uid: client.uid,
                        comm: client.comm,
                    },
                    vec![client.fd],
                    Vec::new(),
                    look.scan,
                )),
            }
        }
    }
    for program in &mut programs {
        program.fds.sort_unstable();
        program.fds.dedup();
    }
    programs.sort_by_key(HolderView::identity);
    let state = match &session.linger {
        Linger::Told(told) if told.cause == cause && told.programs == programs => return,
        Linger::Told(_) => State::Updated,
        _ => State::Open,
    };
    let message = sentence(session, cause, &programs, first, forwards.len(), look.env);
    let mut finding = finding(session, state, cause, message, look.now);
    finding.fix = message::fix_waiting(cause, &programs);
    finding.holders.clone_from(&programs);
    session.linger = Linger::Told(Reason { cause, programs });
    session.open(out);
    out.push(Update::Finding(finding));
}

fn finding(session: &Session, state: State, cause: Cause, message: String, now: u64) -> Finding {
    Finding {
        time: now,
        known: now,
        kind: Kind::Waiting,
        state,
        since: None,
        session: session.view.clone(),
        stream: None,
        bytes: 0,
        exact: session.gaps.is_empty(),
        cause: Some(cause),
        holders: Vec::new(),
        margin_ns: None,
        message,
        fix: Fix::default(),
        quiet: false,
    }
}

fn sentence(
    session: &Session,
    cause: Cause,
    programs: &[HolderView],
    first: &Socket,
    forwards: usize,
    env: &Env,
) -> String {
    let display = first.conn.local_port.wrapping_sub(X11_PORTS.start);
    let why = match (cause, programs) {
        (Cause::X11, [one]) => format!(
            "{} pid {} still uses its forwarded X11 display localhost:{display}",
            one.comm, one.pid
        ),
        (Cause::X11, [one, others @ ..]) => format!(
            "{} pid {} and {} more still use its forwarded X11 display localhost:{display}",
            one.comm,
            one.pid,
            others.len()
        ),
        (Cause::X11, []) => {
            format!("an X11 program still uses its forwarded display localhost:{display}")
        }
        _ => {
            let ends = addresses(&first.conn)
                .map(|(peer, local)| format!(" between {local} and {peer}"))
                .unwrap_or_default();
            let others = match forwards {
                0 | 1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            format!("it still carries a forwarded connection{ends}{others}")
        }
    };
    format!(
        "{}, but the connection stays open: {why}",
        message::told_end(&session.view, env)
    )
}
