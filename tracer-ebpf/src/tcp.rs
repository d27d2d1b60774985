//! The TCP connections that sessions run on.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{Conn, Kind, Progress, loss};

use crate::{
    emit::{count_loss, emit},
    kernel::{File, Sock, Task},
};

/// Connections of sessions by address of the socket. The value is the last state that was reported
/// (`TCP_*` of include/net/tcp_states.h), 0 for none.
#[map]
static CONNS: HashMap<u64, u32> = HashMap::with_max_entries(32_768, 0);

/// Descriptors of a server that are searched for its connection.
const FDS: u32 = 64;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;

/// Finds the connection of a server that has only one. Its forwards use other ports. A process with
/// two connections on one port serves many clients, and then there is no answer.
#[inline(always)]
pub fn connection(server: Task) -> Option<Sock> {
    let found = find_connection(server.0);
    if found == 0 {
        return None;
    }
    if CONNS.insert(found, 0, u64::from(BPF_ANY)).is_err() {
        count_loss(loss::SESSIONS);
    }
    Some(Sock(found))
}

/// Progress of a session's connection; `None` when it is closed, because its memory may be another
/// socket's by then.
#[inline(always)]
pub fn progress(conn: u64) -> Option<Progress> {
    let sock = Sock(conn);
    (conn != 0 && is_connection(sock)).then(|| sock.progress())
}

/// Address of a server's connection, 0 for none. It is a global function, so that the verifier checks
/// its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_connection(server: u64) -> u64 {
    let fds = Task(server).fds();
    let mut found = 0;
    for fd in 0..FDS {
        found = pick(found, connected(fds.nth(fd).0));
    }
    if found == SEVERAL { 0 } else { found }
}

/// No socket has this address.
const SEVERAL: u64 = 1;

/// Which of two sockets is the connection; either may be 0. [`SEVERAL`] for two connections to one
/// port. For a loop, see [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pick(found: u64, sock: u64) -> u64 {
    if sock == 0 || found == SEVERAL {
        found
    } else if found == 0 {
        sock
    } else if found != sock && Sock(found).local_port() == Sock(sock).local_port() {
        SEVERAL
    } else {
        found
    }
}

/// Address of a file's socket if it is a connected TCP socket, else 0. For a loop, see
/// [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connected(file: u64) -> u64 {
    let up = |sock: &Sock| matches!(sock.state(), TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    File(file).tcp().filter(up).map_or(0, |sock| sock.0)
}

/// Whether it is the connection of a session.
#[inline(always)]
pub fn is_connection(sock: Sock) -> bool {
    // SAFETY: plain data.
    unsafe { CONNS.get(sock.0) }.is_some()
}

/// Whether a socket in this state has a peer, or is about to have one.
#[inline(always)]
pub fn is_connected(state: u8) -> bool {
    state != TCP_CLOSE as u8 && state != TCP_LISTEN
}

/// A TCP socket changes state (`inet_sock_set_state`), possibly in an interrupt.
#[inline(always)]
pub fn state(sock: Sock, old: u32, new: u32) {
    let Some(last) = CONNS.get_ptr_mut(sock.0) else {
        return;
    };
    // SAFETY: live. Plain data, written under the socket's lock.
    let reported = unsafe { core::mem::replace(&mut *last, new) };
    if reported == new {
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
