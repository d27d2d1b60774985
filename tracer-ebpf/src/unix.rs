//! Unix socketpairs: how a server makes them, which stream an operation is about, and how their ends
//! are released.
//!
//! Bytes wait in the receive queue of the socket that will read them: the server's for stdout and
//! stderr, the session's for stdin.

use tracer_ebpf::{StreamState, edge, seen, transport};

use crate::{
    kernel::{File, Unix, current_tgid},
    streams::{self, emit_once, server_close, stream},
    tasks::current_is_server,
};

/// The stream that a socket reads.
#[inline(always)]
fn incoming(sock: Unix) -> Option<&'static mut StreamState> {
    stream(sock.0).filter(|state| state.reader == sock.0)
}

/// A server made a pair of sockets (`struct socket`). Which of them is the session's end is seen
/// when the session starts.
#[inline(always)]
pub fn paired(a: u64, b: u64) {
    if current_is_server() {
        let (x, y) = (Unix::of_socket(a), Unix::of_socket(b));
        add_direction(x, y, a);
        add_direction(y, x, b);
    }
}

/// Adds the stream from `writer` to `reader`, which is the socket of `socket`.
#[inline(always)]
fn add_direction(reader: Unix, writer: Unix, socket: u64) {
    if reader.0 == 0 {
        return;
    }
    if let Some(state) = streams::add(reader.0, transport::UNIX) {
        state.object = Unix::ino_of_socket(socket);
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = current_tgid();
    }
}

/// Key of the stream that a write to this socket goes to, 0 for none.
#[inline(always)]
pub fn write_target(sock: Unix) -> u64 {
    let peer = sock.peer().0;
    match stream(peer) {
        Some(state) if state.writer == sock.0 => peer,
        _ => 0,
    }
}

/// Key of the stream that a read from this socket reads, 0 for none.
#[inline(always)]
pub fn read_source(sock: Unix) -> u64 {
    incoming(sock).map_or(0, |_| sock.0)
}

/// A socket is released by its last holder (`refs` is 1), or closed by one of several.
#[inline(always)]
pub fn release(sock: Unix, refs: u32) {
    if let Some(state) = incoming(sock) {
        if state.session == 0 {
            streams::remove(sock.0);
        } else if state.slot != 0 {
            server_close(state, sock.0, refs);
        } else if refs == 1 {
            emit_once(seen::SESSION_CLOSED, edge::SESSION_CLOSE, state, sock.0, 0);
        }
    }
    let peer = sock.peer().0;
    if let Some(state) = stream(peer).filter(|state| state.writer == sock.0 && state.session != 0) {
        if state.slot == 0 {
            server_close(state, peer, refs);
        } else if refs == 1 {
            emit_once(seen::WRITERS_GONE, edge::WRITERS_GONE, state, peer, 0);
        }
    }
}

/// Process `pid` closes a descriptor, where the backend cannot see releases.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    let Some(sock) = file.unix() else { return };
    let refs = file.refs();
    let is_servers = |state: &mut StreamState| state.server == pid && state.session != 0;
    let is_server_end = incoming(sock).is_some_and(|state| is_servers(state) && state.slot != 0)
        || stream(sock.peer().0).is_some_and(|state| is_servers(state) && state.slot == 0);
    if refs == 1 || is_server_end {
        release(sock, refs);
    }
}
