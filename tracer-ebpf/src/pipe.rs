//! Pipes: counters on the hot path, records on the edges, the object itself at decisive moments.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{Kind, STREAMS, Session, Stream, StreamNow, StreamState, edge, loss, role, told};

use crate::{
    emit::{emit, lost},
    kernel::{FMODE_READ, FMODE_WRITE, File, Pipe, Task, current_tgid, now as clock},
    lineage::{bind, tracked},
};

/// Streams, and pipes of servers that may become streams, by address of the pipe.
#[map]
pub static STREAM_TABLE: HashMap<u64, StreamState> = HashMap::with_max_entries(65_536, 0);

const EPIPE: i64 = -32;

/// The stream that a pipe is, looked up on every read and write of every pipe.
#[inline(always)]
pub fn stream(pipe: u64) -> Option<&'static mut StreamState> {
    // SAFETY: entries are plain data. Sums are added to atomically; the rest is written under the
    // pipe's own mutex or tells a time, of which any of two is right.
    STREAM_TABLE
        .get_ptr_mut(pipe)
        .map(|state| unsafe { &mut *state })
}

/// The same for the current process's read or write. A child of the server that uses its server's
/// pipe may be a leader that never execs; what the server itself does before that counts as well.
#[inline(always)]
fn used(pipe: u64) -> Option<&'static mut StreamState> {
    let state = stream(pipe)?;
    if state.session == 0 {
        let pid = current_tgid();
        if pid != state.server
            && tracked(pid)?.flags & (role::SERVER | role::LEADER) == role::SERVER
        {
            bind();
        }
    }
    Some(state)
}

/// A file was cloned: a pipe is made of a write end and its clone, the read end.
#[inline(always)]
pub fn cloned(writer: File, reader: File) {
    // Tracked processes are few: asked before the file is looked at.
    if tracked(current_tgid()).is_some() && !reader.is_error() && writer.pipe().is_some() {
        created(reader, writer);
    }
}

/// A process made a pipe with these ends.
#[inline(always)]
pub fn created(reader: File, writer: File) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    if entry.flags & role::SERVER == 0 {
        return;
    }
    let state = StreamState {
        object: writer.ino(),
        reader: reader.0,
        writer: writer.0,
        server: pid,
        ..StreamState::default()
    };
    if STREAM_TABLE
        .insert(writer.as_pipe().0, state, u64::from(BPF_ANY))
        .is_err()
    {
        lost(loss::STREAMS);
    }
}

/// The object is about to be freed, and its address to be used again.
#[inline(always)]
pub fn freed(pipe: u64) {
    if stream(pipe).is_some() {
        let _ = STREAM_TABLE.remove(pipe);
    }
}

/// A write of `len` bytes begins.
#[inline(always)]
pub fn write_enter(pipe: u64, len: u64) {
    let Some(state) = used(pipe) else { return };
    let room = u64::from(Pipe(pipe).room()) * u64::from(crate::kernel::constant!(page_size));
    if len > room && state.counters.blocked_since == 0 {
        state.counters.blocked_since = clock();
    }
}

/// A write ended with `result`: bytes or a negative errno; it was asked to write `len`.
#[inline(always)]
pub fn write_exit(pipe: u64, result: i64, len: u64) {
    let Some(state) = used(pipe) else { return };
    if result > 0 {
        let time = clock();
        let counters = &mut state.counters;
        add(&mut counters.written, result as u64);
        add(&mut counters.writes, 1);
        counters.last_write = time;
        counters.blocked_since = 0;
        let level = counters.written.saturating_sub(counters.read);
        if level > counters.high_water {
            counters.high_water = level;
        }
        if counters.first_write == 0 {
            counters.first_write = time;
        }
        once(
            told::FIRST_WRITE,
            edge::FIRST_WRITE,
            state,
            pipe,
            result as u64,
        );
    } else if result == EPIPE {
        state.epipes += 1;
        once(told::EPIPE, edge::EPIPE, state, pipe, len);
    }
}

/// A read ended with `result`: bytes, 0 for end-of-file, or a negative errno.
#[inline(always)]
pub fn read_exit(pipe: u64, result: i64) {
    if result < 0 {
        return;
    }
    let Some(state) = used(pipe) else { return };
    if result > 0 {
        let time = clock();
        let counters = &mut state.counters;
        add(&mut counters.read, result as u64);
        add(&mut counters.reads, 1);
        counters.last_read = time;
        counters.blocked_since = 0;
        if counters.first_read == 0 {
            counters.first_read = time;
        }
        once(
            told::FIRST_READ,
            edge::FIRST_READ,
            state,
            pipe,
            result as u64,
        );
    } else if Pipe(pipe).writers() == 0 {
        once(told::EOF, edge::EOF, state, pipe, 0);
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
        server_close(state, pipe, 1);
    } else if state.slot == 0 && file.mode() & FMODE_READ != 0 && pipe.readers() == 1 {
        tell(edge::SESSION_CLOSE, state, pipe, |_| ());
    } else if state.slot != 0 && file.mode() & FMODE_WRITE != 0 && pipe.writers() == 1 {
        tell(edge::WRITERS_GONE, state, pipe, |_| ());
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
        server_close(state, pipe, refs);
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

#[inline(always)]
fn server_close(state: &mut StreamState, pipe: Pipe, refs: u32) {
    state.told |= told::SERVER_CLOSED;
    tell(edge::SERVER_CLOSE, state, pipe, |r| r.refs = refs);
}

/// The streams of a session as they are now.
#[inline(always)]
pub fn now(session: &Session, out: &mut [StreamNow; STREAMS]) {
    for slot in 0..STREAMS {
        let pipe = session.streams[slot];
        if pipe != 0
            && let Some(state) = stream(pipe)
        {
            // The server's open end keeps the object in memory.
            if state.told & told::SERVER_CLOSED == 0 {
                out[slot].unread = Pipe(pipe).unread();
            }
            out[slot].written = state.counters.written;
            out[slot].read = state.counters.read;
        }
    }
}

/// Tells an edge of a session's stream the first time it is passed.
#[inline(always)]
fn once(bit: u32, edge: u32, state: &mut StreamState, pipe: u64, bytes: u64) {
    if state.told & bit == 0 && state.session != 0 {
        state.told |= bit;
        tell(edge, state, Pipe(pipe), |r| r.bytes = bytes);
    }
}

#[inline(always)]
fn tell(edge: u32, state: &StreamState, pipe: Pipe, more: impl FnOnce(&mut Stream)) {
    let unread = pipe.unread();
    emit(Kind::Stream, |r: &mut Stream| {
        r.session = state.session;
        r.object = state.object;
        r.slot = state.slot;
        r.edge = edge;
        r.pid = current_tgid();
        r.exiting = u32::from(Task::current().exiting());
        r.unread = unread;
        r.readers = pipe.readers();
        r.writers = pipe.writers();
        r.counters = state.counters;
        more(r);
    });
}

#[inline(always)]
fn add(sum: &mut u64, n: u64) {
    // SAFETY: aligned and live; two threads may add to it at once.
    // The target has no compare-and-swap, so core offers no atomic type for it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, n) };
}
