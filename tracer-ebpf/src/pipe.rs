//! Pipes: made by the server, released end by end.

use tracer_ebpf::{StreamState, edge, told, transport};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, current_tgid, field},
    streams::{self, by_server, once, server_close, stream, tell_of},
};

/// Key of the pipe that a `kiocb` is for.
#[inline(always)]
pub fn of_call(kiocb: u64) -> u64 {
    File(field!(kiocb, kiocb_file: u64)).as_pipe().0
}

/// A write to a pipe begins. Tells whether it is to a stream.
#[inline(always)]
pub fn write_enter(kiocb: u64) -> bool {
    let file = File(field!(kiocb, kiocb_file: u64));
    streams::write_enter(file.as_pipe().0, file)
}

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
    if !streams::has_session(state) {
        closed_early(state, file, pipe.0, 1);
        return;
    }
    if is_server_end(state, file) {
        server_close(state, pipe.0, 1);
    } else if state.slot == 0 && file.mode() & FMODE_READ != 0 && pipe.readers() == 1 {
        once(told::SESSION_CLOSED, edge::SESSION_CLOSE, state, pipe.0, 0);
    } else if state.slot != 0 && file.mode() & FMODE_WRITE != 0 && pipe.writers() == 1 {
        streams::note_packets(state, file);
        once(told::WRITERS_GONE, edge::WRITERS_GONE, state, pipe.0, 0);
    }
}

/// A descriptor is being closed, where releases themselves cannot be seen: it is the end of the
/// server's side when the server closes it, whatever copies its children have for a moment, and
/// when the last such copy goes.
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

/// Until the leader's exec it is not known whether this is the server's end or the copy it has of
/// the session's: of a client without input a server closes the command's stdin at once.
#[inline(always)]
fn closed_early(state: &mut StreamState, file: File, key: u64, refs: u32) {
    if file.0 == state.reader {
        state.told[told::READER_CLOSED] = 1;
    } else if file.0 == state.writer {
        state.told[told::WRITER_CLOSED] = 1;
    }
    // The leader may have begun its session on another CPU meanwhile, and not have seen this: either
    // of the two comes after the other's, and tells.
    if streams::has_session(state)
        && is_server_end(state, file)
        && state.told[told::SERVER_CLOSED] == 0
    {
        server_close(state, key, refs);
    }
}

/// Tells that the server's end was closed before the session began. A global function: checked
/// once by the verifier, called for each stream.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tell_closed_early(key: u64) -> u64 {
    let Some(state) = stream(key) else { return 0 };
    let ours = if state.slot == 0 {
        told::WRITER_CLOSED
    } else {
        told::READER_CLOSED
    };
    if state.told[ours] != 0 {
        state.told[told::SERVER_CLOSED] = 1;
        let server = state.server;
        // There was no one to write yet but the server itself, and its stdin is no loss.
        tell_of(edge::SERVER_CLOSE, state, key, 0, |r| {
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
