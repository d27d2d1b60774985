//! Streams whatever they are made of: counters on the hot path, records on the edges.
//!
//! A stream is known by the address of the kernel object that keeps its unread bytes: the pipe, the
//! receiving socket, the receiving tty.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{
    Kind, STREAMS, Session, Stream, StreamNow, StreamState, edge, loss, role, told, transport,
};

use crate::{
    emit::{emit, lost},
    kernel::{File, Pipe, Sock, Task, current_tgid, now as clock},
    lineage::{bind, tracked},
    tcp,
    tty::Tty,
    unix::Unix,
};

/// Streams, and objects of servers that may become streams, by address of the object.
#[map]
static STREAM_TABLE: HashMap<u64, StreamState> = HashMap::with_max_entries(65_536, 0);

const EIO: i64 = -5;
const EPIPE: i64 = -32;

/// The stream of an object, looked up on every read and write of every object of its kind.
#[inline(always)]
pub fn stream(key: u64) -> Option<&'static mut StreamState> {
    // SAFETY: entries are plain data. Sums are added to atomically; the rest is written under the
    // object's own lock or tells a time, of which any of two is right.
    STREAM_TABLE
        .get_ptr_mut(key)
        .map(|state| unsafe { &mut *state })
}

/// The same for the current process's read or write. A child of the server that uses its server's
/// object may be a leader that never execs; what the server itself does before that counts too.
#[inline(always)]
fn used(key: u64) -> Option<&'static mut StreamState> {
    let state = stream(key)?;
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

/// Whether the current process is a server.
#[inline(always)]
pub fn by_server() -> bool {
    tracked(current_tgid()).is_some_and(|entry| entry.flags & role::SERVER != 0)
}

/// A stream of which nothing is known. In read-only memory, not on the stack: all frames of a chain
/// of calls share 512 bytes.
#[unsafe(no_mangle)]
static NEW_STREAM: StreamState = StreamState::NEW;

/// A server made an object that may become a stream: its entry, to be filled in.
#[inline(always)]
pub fn created(key: u64, transport: u32) -> Option<&'static mut StreamState> {
    // By reference: a copy would be on the stack again.
    let new: &StreamState = &NEW_STREAM;
    if STREAM_TABLE.insert(key, new, u64::from(BPF_ANY)).is_err() {
        lost(loss::STREAMS);
        return None;
    }
    let state = stream(key)?;
    state.transport = transport;
    Some(state)
}

/// The object is about to be freed, and its address to be used again.
#[inline(always)]
pub fn freed(key: u64) {
    if stream(key).is_some() {
        let _ = STREAM_TABLE.remove(key);
    }
}

/// The key of the stream that a leader has as its descriptor `slot`, if it can be one. A global
/// function: checked once by the verifier, called for each slot.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn key_of(file: u64, slot: u32) -> u64 {
    let file = File(file);
    if let Some(pipe) = file.pipe() {
        pipe_stream(pipe.0, file)
    } else if let Some(socket) = file.unix() {
        if slot == 0 { socket.0 } else { socket.peer().0 }
    } else if let Some(tty) = file.pts() {
        if slot == 0 { tty.0 } else { tty.link().0 }
    } else {
        0
    }
}

/// Key of the stream that this end of a pipe belongs to, 0 for none. Where freeing is not seen, what is
/// known of the address may be of an older pipe.
#[inline(always)]
pub fn pipe_stream(pipe: u64, file: File) -> u64 {
    match stream(pipe) {
        Some(state) if state.object == file.ino() => pipe,
        _ => 0,
    }
}

/// Whether the stream is a session's by now.
#[inline(always)]
pub fn has_session(state: &StreamState) -> bool {
    // SAFETY: live. Volatile, as its leader may set it on another CPU between two looks.
    unsafe { core::ptr::read_volatile(&raw const state.session) != 0 }
}

/// The stream is a session's from here on.
#[inline(always)]
pub fn give(state: &mut StreamState, session: u64, slot: u32) {
    // SAFETY: live. Volatile, so that whoever sees the session sees the slot.
    unsafe {
        core::ptr::write_volatile(&raw mut state.slot, slot);
        core::ptr::write_volatile(&raw mut state.session, session);
    }
}

/// Whether an object is, or may become, a stream.
#[inline(always)]
pub fn is_stream(key: u64) -> bool {
    stream(key).is_some()
}

/// A write begins, to this open file if it is a pipe: from now on it waits, unless it ends soon. Tells
/// whether it is to a stream.
#[inline(always)]
pub fn write_enter(key: u64, pipe: File) -> bool {
    let Some(state) = used(key) else { return false };
    state.counters.blocked_since = clock();
    // Looked at once: who wants packets says so first.
    if state.told[told::FIRST_WRITE] == 0 {
        note_packets(state, pipe);
    }
    true
}

/// Remembers whether what is written to this end of a pipe is packets.
#[inline(always)]
pub fn note_packets(state: &mut StreamState, pipe: File) {
    if pipe.is_packetized() {
        state.told[told::PACKETS] = 1;
    }
}

/// A write ended with `result`: bytes or a negative errno; it was asked to write `len`. Tells whether it
/// was to a stream.
#[inline(always)]
pub fn write_exit(key: u64, result: i64, len: u64) -> bool {
    let Some(state) = used(key) else { return false };
    let counters = &mut state.counters;
    counters.blocked_since = 0;
    if result > 0 {
        let time = clock();
        add(&mut counters.written, result as u64);
        add(&mut counters.writes, 1);
        counters.last_write = time;
        let level = counters
            .written
            .saturating_sub(counters.read + counters.taken);
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
            key,
            result as u64,
        );
    } else if result == EPIPE || result == EIO {
        state.epipes += 1;
        once(told::EPIPE, edge::EPIPE, state, key, len);
    }
    true
}

/// A read ended with `result`: bytes, 0 for end-of-file, or a negative errno. Tells whether it was from a
/// stream.
#[inline(always)]
pub fn read_exit(key: u64, result: i64) -> bool {
    // The master of a pty whose other side is closed gives EIO (n_tty_read, drivers/tty/n_tty.c).
    if result < 0 && result != EIO {
        return false;
    }
    let Some(state) = used(key) else { return false };
    if state.slot != 0 && current_tgid() != state.server && has_session(state) && !by_server() {
        taken(state, key, result);
        return true;
    }
    if result > 0 {
        let time = clock();
        hold(state, result as u64);
        let counters = &mut state.counters;
        add(&mut counters.read, result as u64);
        add(&mut counters.reads, 1);
        counters.last_read = time;
        // Whoever waits for room waits anew.
        if counters.blocked_since != 0 {
            counters.blocked_since = time;
        }
        if counters.first_read == 0 {
            counters.first_read = time;
        }
        once(
            told::FIRST_READ,
            edge::FIRST_READ,
            state,
            key,
            result as u64,
        );
    } else if result == EIO || Ends::of(state, key).writers == 0 {
        once(told::EOF, edge::EOF, state, key, 0);
    }
    true
}

/// A process that is no server has read from an output, by /proc/PID/fd for example: what it got, the
/// server can get no more.
#[inline(always)]
fn taken(state: &mut StreamState, key: u64, result: i64) {
    if result > 0 {
        add(&mut state.counters.taken, result as u64);
        once(told::TAKEN, edge::TAKEN, state, key, result as u64);
    }
}

/// The server has read `bytes` of a stream: they stay with it at least until it writes to its
/// connection again.
#[inline(always)]
fn hold(state: &mut StreamState, bytes: u64) {
    if state.conn == 0 {
        return;
    }
    let mark = Sock(state.conn).write_seq();
    if state.mark != mark {
        state.mark = mark;
        state.held = 0;
    }
    state.held += bytes;
}

/// The server's own end of a stream is being released; `refs` references to it are left.
#[inline(always)]
pub fn server_close(state: &mut StreamState, key: u64, refs: u32) {
    if refs == 1 {
        if state.told[told::RELEASED] != 0 {
            // By a twin.
            return;
        }
        state.told[told::RELEASED] = 1;
    }
    tell(edge::SERVER_CLOSE, state, key, |r| r.refs = refs);
    state.told[told::SERVER_CLOSED] = 1;
}

/// The streams of a session as they are now.
#[inline(always)]
pub fn now(id: u64, session: &Session, out: &mut [StreamNow; STREAMS]) {
    // Unrolled: before 6.4 the verifier takes no jump back to where a call returns (push_insn,
    // kernel/bpf/verifier.c).
    #[expect(clippy::needless_range_loop, reason = "see above")]
    for slot in 0..STREAMS {
        let key = session.streams[slot];
        let now = &mut out[slot];
        if key != 0
            && let Some(state) = stream(key)
            // Of a stream that is closed the address may be another session's by now.
            && state.session == id
        {
            // The server's open end keeps the object in memory.
            if state.told[told::SERVER_CLOSED] == 0 {
                now.unread = unread(state.transport, key);
            }
            now.written = state.counters.written;
            now.read = state.counters.read;
        }
    }
}

/// Bytes in the object. A global function: checked once by the verifier, called from many places.
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

/// How many open files can read and write a stream.
struct Ends {
    readers: u32,
    writers: u32,
}

impl Ends {
    #[inline(always)]
    fn of(state: &StreamState, key: u64) -> Self {
        match state.transport {
            transport::PIPE => Self {
                readers: Pipe(key).readers(),
                writers: Pipe(key).writers(),
            },
            // A socket is one file; whether any process still has it is all that can be told.
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

/// Tells an edge of a session's stream the first time it is passed.
#[inline(always)]
pub fn once(what: usize, edge: u32, state: &mut StreamState, key: u64, bytes: u64) {
    if state.told[what] == 0 && state.session != 0 {
        state.told[what] = 1;
        tell(edge, state, key, |r| r.bytes = bytes);
    }
}

/// Tells an edge.
#[inline(always)]
pub fn tell(edge: u32, state: &StreamState, key: u64, more: impl FnOnce(&mut Stream)) {
    // After the server's close the object lives only as long as some session end does.
    let unread = if edge == edge::EPIPE {
        0
    } else {
        unread(state.transport, key)
    };
    tell_of(edge, state, key, unread, more);
}

/// The same where the bytes in the object are known.
#[inline(always)]
pub fn tell_of(
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
        r.packets = u32::from(state.told[told::PACKETS] != 0);
        if let Some(progress) = tcp::progress(state.conn) {
            let since = Sock(state.conn).write_seq().wrapping_sub(state.mark);
            r.progress = progress;
            r.held = state.held;
            // Modulo 4 GiB: what other sessions of the connection send between this stream's last
            // read and its next edge may be more, and is then taken for so much less.
            r.mark = progress.queued.saturating_sub(u64::from(since));
        }
        more(r);
    });
}

#[inline(always)]
fn add(sum: &mut u64, n: u64) {
    // SAFETY: aligned and live; two threads may add to it at once.
    // The target has no compare-and-swap, so core offers no atomic type for it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, n) };
}
