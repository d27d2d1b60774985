//! Why a connection stays open though its last session has ended: forwards that are still in use.
//!
//! A client leaves within moments of its last session's end. When it does not, one look at the
//! server's sockets shows whether a forward keeps it; if none does, staying is the client's own
//! choice (a multiplexing master, a library that runs one command after the other) and not worth a line.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use tracer_ebpf::{ConnId, Socket, X11_PORTS};

use super::holders;
use crate::model::{
    facts::{Look, Scan, Seen, Session},
    view::{HolderView, WaitCause, addresses},
};

/// What keeps a connection open.
#[derive(Debug)]
pub(in crate::model) struct Kept {
    pub cause: WaitCause,
    /// Programs that use the forwarded display.
    pub programs: Vec<HolderView>,
    /// One of the forwarded connections.
    pub first: ConnId,
    /// How many forwarded connections there are.
    pub forwards: usize,
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

/// Whether a socket that a scan found may show what the connection of a session, which is kept for that,
/// stays open for: see [`kept_by`].
pub(in crate::model) fn concerns(session: &Session, socket: &Socket, scan: &Scan) -> bool {
    let (pid, server) = (socket.proc.pid, session.server().pid());
    let of_server = pid == server || scan.parent(server) == Some(pid);
    of_server || X11_PORTS.contains(&socket.conn.peer_port)
}

/// What keeps the connection of a session that has ended, by the sockets that a scan found.
pub(in crate::model) fn kept_by(session: &Session, look: &Look<'_>) -> Option<Kept> {
    let sockets = look.scan.sockets();
    let owners: HashSet<(u64, u32)> = sockets
        .iter()
        .map(|socket| (socket.conn.sock, socket.proc.pid))
        .collect();
    let (server, own) = (session.server().pid(), session.connection().id());
    let others = || {
        sockets
            .iter()
            .filter(|socket| socket.proc.pid == server && socket.conn.sock != own.sock)
    };
    // A server in one process that has got other clients since: on whose connection a forward is cannot
    // be decided.
    let shared = others().any(|socket| socket.conn.local_port == own.local_port);
    let forwards: Vec<&Socket> = others()
        .filter(|_| !shared)
        // What the privileged monitor has as well (a directory service's connection) was there
        // before any forward: those are made by the user's process alone.
        .filter(|socket| !owners.contains(&(socket.conn.sock, socket.parent)))
        .collect();
    let first = forwards
        .iter()
        .find(|socket| is_x11(socket))
        .or(forwards.first())?;
    let cause = if is_x11(first) {
        WaitCause::X11
    } else {
        WaitCause::Forward
    };
    Some(Kept {
        cause,
        programs: programs(session, look, &forwards),
        first: first.conn,
        forwards: forwards.len(),
    })
}

/// Programs that use the displays among the forwards.
fn programs(session: &Session, look: &Look<'_>, forwards: &[&Socket]) -> Vec<HolderView> {
    let mut programs: Vec<HolderView> = Vec::new();
    let by_ends = by_ends(look.scan.sockets());
    let displays = forwards.iter().filter(|socket| is_x11(socket));
    for (peer, local) in displays.filter_map(|display| addresses(&display.conn)) {
        for client in by_ends.get(&(local, peer)).into_iter().flatten() {
            let known = programs
                .iter_mut()
                .find(|known| known.pid == client.proc.pid);
            if let Some(known) = known {
                known.fds.push(client.fd);
                continue;
            }
            let seen = Seen {
                ns_pid: client.ns_pid,
                uid: client.uid,
                comm: client.comm,
            };
            let fds = vec![client.fd];
            let view = holders::view(session, client.proc, &seen, fds, Vec::new(), look.scan);
            programs.push(view);
        }
    }
    for program in &mut programs {
        program.fds.sort_unstable();
        program.fds.dedup();
    }
    programs.sort_by_key(HolderView::identity);
    programs
}
