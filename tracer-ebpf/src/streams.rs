//! The table of streams, and the records about them.
//!
//! A stream is known by the address of the kernel object that keeps its unread bytes: the pipe, the
//! receiving socket, the receiving tty. The transports (`pipe`, `unix`, `tty`) say what happens to a
//! stream, `io` counts reads and writes.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{
    Kind, STREAMS, Session, Stream, StreamNow, StreamState, edge, loss, seen, transport,
};

use crate::{
    emit::{count_loss, emit},
    kernel::{File, Pipe, Sock, Task, Tty, Unix, current_tgid},
    tcp,
};

/// Streams, and objects of servers that may become streams, by address of the object.
#[map]
static STREAM_TABLE: HashMap<u64, StreamState> = HashMap::with_max_entries(65_536, 0);

/// The entry of an object. Every read and write of every object of a kind looks here.
#[inline(always)]
pub fn stream(key: u64) -> Option<&'static mut StreamState> {
    // SAFETY: entries are plain data. Sums are added to atomically; the rest is written under the
    // object's own lock, or is a time, of which either of two is right.
    STREAM_TABLE
        .get_ptr_mut(key)
        .map(|state| unsafe { &mut *state })
}

/// The entry of a new object. It is in read-only memory and not on the stack, because all frames of
/// a chain of calls share 512 bytes.
#[unsafe(no_mangle)]
static NEW_STREAM: StreamState = StreamState::NEW;

/// Adds the entry of an object that a server made and that may become a stream. The caller fills it
/// in.
#[inline(always)]
pub fn add(key: u64, transport: u32) -> Option<&'static mut StreamState> {
    // By reference: a copy would take stack again.
    let new: &StreamState = &NEW_STREAM;
    if STREAM_TABLE.insert(key, new, u64::from(BPF_ANY)).is_err() {
        count_loss(loss::STREAMS);
        return None;
    }
    let state = stream(key)?;
    state.transport = transport;
    Some(state)
}

/// Removes the entry of an object that is about to be freed. Its address can be used again then.
#[inline(always)]
pub fn remove(key: u64) {
    if stream(key).is_some() {
        let _ = STREAM_TABLE.remove(key);
    }
}

/// Whether an object is a stream, or may become one.
#[inline(always)]
pub fn is_stream(key: u64) -> bool {
    stream(key).is_some()
}

/// Key of the stream that this end of a pipe belongs to, 0 for none. Where the backend does not see
/// pipes being freed, the entry of the address can be that of an older pipe.
#[inline(always)]
pub fn pipe_key(pipe: u64, file: File) -> u64 {
    match stream(pipe) {
        Some(state) if state.object == file.ino() => pipe,
        _ => 0,
    }
}

/// Whether the stream belongs to a session by now.
#[inline(always)]
pub fn has_session(state: &StreamState) -> bool {
    // SAFETY: live. Volatile, as its leader may set it on another CPU between two looks.
    unsafe { core::ptr::read_volatile(&raw const state.session) != 0 }
}

/// Gives the stream to a session.
#[inline(always)]
pub fn assign(state: &mut StreamState, session: u64, slot: u32) {
    // SAFETY: live. Volatile, so that a program that sees the session also sees the slot.
    unsafe {
        core::ptr::write_volatile(&raw mut state.slot, slot);
        core::ptr::write_volatile(&raw mut state.session, session);
    }
}

/// Remembers whether the writes to this end of a pipe are packets.
#[inline(always)]
pub fn note_packets(state: &mut StreamState, pipe: File) {
    if pipe.is_packetized() {
        state.seen[seen::PACKETS] = 1;
    }
}

/// The server's own end of a stream is being released; `refs` references to it are left, this one
/// included.
#[inline(always)]
pub fn server_close(state: &mut StreamState, key: u64, refs: u32) {
    if refs == 1 {
        if state.seen[seen::RELEASED] != 0 {
            // Reported by the other program.
            return;
        }
        state.seen[seen::RELEASED] = 1;
    }
    emit_edge(edge::SERVER_CLOSE, state, key, |r| r.refs = refs);
    state.seen[seen::SERVER_CLOSED] = 1;
}

/// Writes the present state of a session's streams to `out`.
#[inline(always)]
pub fn snapshot(id: u64, session: &Session, out: &mut [StreamNow; STREAMS]) {
    // Unrolled: before 6.4 the verifier accepts no jump back to the instruction after a call
    // (push_insn, kernel/bpf/verifier.c).
    #[expect(clippy::needless_range_loop, reason = "see above")]
    for slot in 0..STREAMS {
        let key = session.streams[slot];
        let now = &mut out[slot];
        if key != 0
            && let Some(state) = stream(key)
            // The address of a closed stream may be another session's by now.
            && state.session == id
        {
            // The server's open end keeps the object in memory.
            if state.seen[seen::SERVER_CLOSED] == 0 {
                now.unread = unread(state.transport, key);
            }
            now.written = state.counters.written;
            now.read = state.counters.read;
        }
    }
}

/// Bytes in the object. It is a global function: the verifier checks it once, and many programs call
/// it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unread(transport: u32, key: u64) -> u64 {
    match transport {
        transport::PIPE => Pipe(key).unread(),
        transport::UNIX => Unix(key).unread(),
        transport::PTY => Tty(key).unread(),
        _ => 0,
    }
}

/// Number of open files that can read and write a stream.
pub struct Ends {
    pub readers: u32,
    pub writers: u32,
}

impl Ends {
    #[inline(always)]
    pub fn of(state: &StreamState, key: u64) -> Self {
        match state.transport {
            transport::PIPE => Self {
                readers: Pipe(key).readers(),
                writers: Pipe(key).writers(),
            },
            // A socket is one file. All that can be said is whether any process still has it.
            transport::UNIX => Self {
                readers: u32::from(!Unix(key).is_dead()),
                writers: u32::from(!Unix(state.writer).is_dead()),
            },
            _ => Self {
                readers: Tty(key).count(),
                writers: Tty(state.writer).count(),
            },
        }
    }
}

/// Reports an edge of a session's stream the first time that it happens. `what` is its entry of
/// [`seen`].
#[inline(always)]
pub fn emit_once(what: usize, edge: u32, state: &mut StreamState, key: u64, bytes: u64) {
    if state.seen[what] == 0 && state.session != 0 {
        state.seen[what] = 1;
        emit_edge(edge, state, key, |r| r.bytes = bytes);
    }
}

/// Reports an edge; `more` fills in what only this edge has.
#[inline(always)]
pub fn emit_edge(edge: u32, state: &StreamState, key: u64, more: impl FnOnce(&mut Stream)) {
    // After the server's close, the object lives only as long as a session end does.
    let unread = if edge == edge::EPIPE {
        0
    } else {
        unread(state.transport, key)
    };
    emit_edge_with(edge, state, key, unread, more);
}

/// [`emit_edge`] where the number of bytes in the object is known.
#[inline(always)]
pub fn emit_edge_with(
    edge: u32,
    state: &StreamState,
    key: u64,
    unread: u64,
    more: impl FnOnce(&mut Stream),
) {
    let ends = Ends::of(state, key);
    emit(Kind::Stream, |r: &mut Stream| {
        r.session = state.session;
        r.object = state.object;
        r.slot = state.slot;
        r.edge = edge;
        r.pid = current_tgid();
        r.comm = Task::current().comm();
        r.exiting = u32::from(Task::current().exiting());
        r.unread = unread;
        r.readers = ends.readers;
        r.writers = ends.writers;
        r.counters = state.counters;
        r.packets = u32::from(state.seen[seen::PACKETS] != 0);
        if let Some(progress) = tcp::progress(state.conn) {
            let since = Sock(state.conn).write_seq().wrapping_sub(state.mark);
            r.progress = progress;
            r.held = state.held;
            // Modulo 4 GiB. Other sessions of the connection may send more than that between this
            // stream's last read and its next edge; then the result is short by a multiple of it.
            r.mark = progress.queued.saturating_sub(u64::from(since));
        }
        more(r);
    });
}
