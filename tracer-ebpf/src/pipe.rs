//! Pipes: made by the server, released end by end.

use tracer_ebpf::{StreamState, edge, transport};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, current_tgid},
    streams::{self, by_server, server_close, stream, tell},
};

/// A file was cloned: a pipe is made of a write end and its clone, the read end.
#[inline(always)]
pub fn cloned(writer: File, reader: File) {
    // Servers are few: asked before the file is looked at.
    if by_server() && !reader.is_error() && writer.pipe().is_some() {
        created(reader, writer);
    }
}

/// A server made a pipe with these ends.
#[inline(always)]
pub fn created(reader: File, writer: File) {
    if let Some(state) = streams::created(writer.as_pipe().0, transport::PIPE) {
        state.object = writer.ino();
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = current_tgid();
    }
}

/// An end of a pipe is being released; the pipe still counts it.
#[inline(always)]
pub fn release(file: File) {
    let pipe = file.as_pipe();
    let Some(state) = stream(pipe.0) else { return };
    if state.session == 0 {
        return;
    }
    if is_server_end(state, file) {
        server_close(state, pipe.0, 1);
    } else if state.slot == 0 && file.mode() & FMODE_READ != 0 && pipe.readers() == 1 {
        tell(edge::SESSION_CLOSE, state, pipe.0, |_| ());
    } else if state.slot != 0 && file.mode() & FMODE_WRITE != 0 && pipe.writers() == 1 {
        tell(edge::WRITERS_GONE, state, pipe.0, |_| ());
    }
}

/// A descriptor is being closed, where releases themselves cannot be seen: it is the end of the
/// server's side when the server closes it, whatever copies its children have for a moment, and
/// when the last such copy goes.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    let Some(pipe) = file.pipe() else { return };
    let Some(state) = stream(pipe.0) else { return };
    if state.session == 0 || state.object != file.ino() || !is_server_end(state, file) {
        return;
    }
    let refs = file.refs();
    if pid == state.server || refs == 1 {
        server_close(state, pipe.0, refs);
    }
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
