//! Pipes: how a server makes them, and how their ends are released.

use tracer_ebpf::{StreamState, edge, seen, transport};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, current_tgid},
    streams::{self, emit_edge_with, emit_once, server_close, stream},
    tasks::current_is_server,
};

/// A file was cloned. A pipe is made of a write end and its clone, the read end.
#[inline(always)]
pub fn cloned(writer: File, reader: File) {
    // Servers are few, so ask this before looking at the file.
    if current_is_server() && !reader.is_error() && writer.pipe().is_some() {
        created(reader, writer);
    }
}

/// A server made a pipe with these ends.
#[inline(always)]
pub fn created(reader: File, writer: File) {
    if let Some(state) = streams::add(writer.as_pipe().0, transport::PIPE) {
        state.object = writer.ino();
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = current_tgid();
    }
}

/// An end of a pipe is being released. The pipe still counts it.
#[inline(always)]
pub fn release(file: File) {
    let pipe = file.as_pipe();
    let Some(state) = stream(pipe.0) else { return };
    if !streams::has_session(state) {
        closed_early(state, file, pipe.0, 1);
        return;
    }
    if is_server_end(state, file) {
        server_close(state, pipe.0, 1);
    } else if state.slot == 0 && file.mode() & FMODE_READ != 0 && pipe.readers() == 1 {
        emit_once(seen::SESSION_CLOSED, edge::SESSION_CLOSE, state, pipe.0, 0);
    } else if state.slot != 0 && file.mode() & FMODE_WRITE != 0 && pipe.writers() == 1 {
        streams::note_packets(state, file);
        emit_once(seen::WRITERS_GONE, edge::WRITERS_GONE, state, pipe.0, 0);
    }
}

/// Process `pid` closes a descriptor, where the backend cannot see releases. The server's end counts
/// as closed when the server closes it, whatever copies its children have for a moment, and again
/// when the last such copy is closed.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    let Some(pipe) = file.pipe() else { return };
    let Some(state) = stream(pipe.0) else { return };
    if state.object != file.ino() {
        return;
    }
    let refs = file.refs();
    if pid != state.server && refs != 1 {
        return;
    }
    if !streams::has_session(state) {
        closed_early(state, file, pipe.0, refs);
    } else if is_server_end(state, file) {
        server_close(state, pipe.0, refs);
    }
}

/// An end that a server made is closed before a session has the stream. Until the leader's exec it
/// is not known whether this is the server's end or the server's copy of the session's: of a client
/// without input a server closes the command's stdin at once.
#[inline(always)]
fn closed_early(state: &mut StreamState, file: File, key: u64, refs: u32) {
    if file.0 == state.reader {
        state.seen[seen::READER_CLOSED] = 1;
    } else if file.0 == state.writer {
        state.seen[seen::WRITER_CLOSED] = 1;
    }
    // Meanwhile the leader may have started its session on another CPU without seeing this. One of
    // the two runs after the other has written, and reports the close.
    if streams::has_session(state)
        && is_server_end(state, file)
        && state.seen[seen::SERVER_CLOSED] == 0
    {
        server_close(state, key, refs);
    }
}

/// Reports that the server's end was closed before the session started, if it was.
///
/// It is a global function: the verifier checks it once, and each stream calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_closed_early(key: u64) -> u64 {
    let Some(state) = stream(key) else { return 0 };
    let server_end = if state.slot == 0 {
        seen::WRITER_CLOSED
    } else {
        seen::READER_CLOSED
    };
    if state.seen[server_end] != 0 {
        state.seen[seen::SERVER_CLOSED] = 1;
        let server = state.server;
        // Only the server itself could write until now, and what is left of a stdin is no loss.
        emit_edge_with(edge::SERVER_CLOSE, state, key, 0, |r| {
            r.pid = server;
            r.refs = 1;
        });
    }
    0
}

#[inline(always)]
fn is_server_end(state: &StreamState, file: File) -> bool {
    file.0
        == if state.slot == 0 {
            state.writer
        } else {
            state.reader
        }
}
