//! The connection that a server's sessions live on.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{Conn, Kind, Progress, loss};

use crate::{
    emit::{emit, lost},
    kernel::{Sock, Task},
};

/// Connections of sessions by address of the socket; the value is the server's pid.
#[map]
static CONNS: HashMap<u64, u32> = HashMap::with_max_entries(32_768, 0);

/// Descriptors of a server that are searched for its connection.
const FDS: u32 = 64;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;

/// Finds the one connection of a server that has one. What it forwards goes over other ports; two
/// connections on one port are a server with many in one process, and then this tells nothing.
#[inline(always)]
pub fn connection(server: Task) -> Option<Sock> {
    let found = find_connection(server.0);
    if found == 0 {
        return None;
    }
    if CONNS
        .insert(found, server.tgid(), u64::from(BPF_ANY))
        .is_err()
    {
        lost(loss::SESSIONS);
    }
    Some(Sock(found))
}

/// How far a session's connection has come; nothing when it is closed, for its memory may be
/// another's by then.
#[inline(always)]
pub fn progress(conn: u64) -> Option<Progress> {
    let sock = Sock(conn);
    (conn != 0 && is_connection(sock)).then(|| sock.progress())
}

/// Global, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_connection(server: u64) -> u64 {
    let fds = Task(server).fds();
    let mut found = 0;
    let mut port = 0;
    for fd in 0..FDS {
        if fd >= fds.max {
            break;
        }
        let Some(sock) = fds.file(fd).tcp() else {
            continue;
        };
        let state = sock.state();
        if state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT {
            continue;
        }
        if found == 0 {
            found = sock.0;
            port = sock.local_port();
        } else if sock.0 != found && sock.local_port() == port {
            return 0;
        }
    }
    found
}

/// Whether sessions are known to live on it.
#[inline(always)]
pub fn is_connection(sock: Sock) -> bool {
    // SAFETY: plain data.
    unsafe { CONNS.get(sock.0) }.is_some()
}

/// Whether it has a peer, or is about to.
#[inline(always)]
pub fn is_connected(state: u8) -> bool {
    state != TCP_CLOSE as u8 && state != TCP_LISTEN
}

/// A TCP socket changes state (`inet_sock_set_state`), perhaps in an interrupt.
#[inline(always)]
pub fn state(sock: Sock, old: u32, new: u32) {
    if !is_connection(sock) {
        return;
    }
    emit(Kind::Conn, |r: &mut Conn| {
        sock.id(&mut r.conn);
        r.old = old;
        r.new = new;
        r.error = sock.error();
        r.progress = sock.progress();
    });
    if new == TCP_CLOSE {
        let _ = CONNS.remove(sock.0);
    }
}
