//! Reads and writes of streams, whatever they are made of.
//!
//! This is the hot path: it updates counters, and emits records only the first time that something
//! happens. It starts sessions, too, because a leader that never execs is found by its first read or
//! write.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use tracer_ebpf::{StreamState, edge, seen};

use crate::{
    kernel::{File, Sock, current_tgid, now},
    session::start_session,
    streams::{Ends, emit_once, has_session, note_packets, stream},
    tasks::{current_is_server, may_lead, tracked},
};

const EIO: i64 = -5;
const EPIPE: i64 = -32;

/// The stream that the current process reads or writes. A child of the server that uses its server's
/// object may be a leader that never execs. What the server itself does before that counts, too.
#[inline(always)]
fn used(key: u64) -> Option<&'static mut StreamState> {
    let state = stream(key)?;
    if state.session == 0 {
        let pid = current_tgid();
        if pid != state.server && may_lead(tracked(pid)?.flags) {
            start_session();
        }
    }
    Some(state)
}

/// A write begins; `pipe` is the open file if it is a pipe's. The write counts as blocked from now
/// on, until it ends. Returns whether it is a stream's.
#[inline(always)]
pub fn write_enter(key: u64, pipe: File) -> bool {
    let Some(state) = used(key) else { return false };
    state.counters.blocked_since = now();
    // It is enough to look once: a program that wants packets says so before its first write.
    if state.seen[seen::FIRST_WRITE] == 0 {
        note_packets(state, pipe);
    }
    true
}

/// A write of `len` bytes ended with `result`: bytes or a negative errno. Returns whether it was a
/// stream's.
#[inline(always)]
pub fn write_exit(key: u64, result: i64, len: u64) -> bool {
    let Some(state) = used(key) else { return false };
    let counters = &mut state.counters;
    counters.blocked_since = 0;
    if result > 0 {
        let time = now();
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
        emit_once(
            seen::FIRST_WRITE,
            edge::FIRST_WRITE,
            state,
            key,
            result as u64,
        );
    } else if result == EPIPE || result == EIO {
        state.epipes += 1;
        emit_once(seen::EPIPE, edge::EPIPE, state, key, len);
    }
    true
}

/// A read ended with `result`: bytes, 0 for end-of-file, or a negative errno. Returns whether it was
/// a stream's and is counted.
#[inline(always)]
pub fn read_exit(key: u64, result: i64) -> bool {
    // The master of a pty whose other side is closed returns EIO (n_tty_read, drivers/tty/n_tty.c).
    if result < 0 && result != EIO {
        return false;
    }
    let Some(state) = used(key) else { return false };
    if state.slot != 0
        && current_tgid() != state.server
        && has_session(state)
        && !current_is_server()
    {
        count_taken(state, key, result);
        return true;
    }
    if result > 0 {
        let time = now();
        count_held(state, result as u64);
        let counters = &mut state.counters;
        add(&mut counters.read, result as u64);
        add(&mut counters.reads, 1);
        counters.last_read = time;
        // A writer that waits for room is blocked anew from here.
        if counters.blocked_since != 0 {
            counters.blocked_since = time;
        }
        if counters.first_read == 0 {
            counters.first_read = time;
        }
        emit_once(
            seen::FIRST_READ,
            edge::FIRST_READ,
            state,
            key,
            result as u64,
        );
    } else if result == EIO || Ends::of(state, key).writers == 0 {
        emit_once(seen::EOF, edge::EOF, state, key, 0);
    }
    true
}

/// A process that is no server has read from an output, for example through /proc/PID/fd. The server
/// can no longer get those bytes.
#[inline(always)]
fn count_taken(state: &mut StreamState, key: u64, result: i64) {
    if result > 0 {
        add(&mut state.counters.taken, result as u64);
        emit_once(seen::TAKEN, edge::TAKEN, state, key, result as u64);
    }
}

/// The server has read `bytes` of a stream. It holds them at least until it writes to its connection
/// again.
#[inline(always)]
fn count_held(state: &mut StreamState, bytes: u64) {
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

#[inline(always)]
fn add(sum: &mut u64, n: u64) {
    // SAFETY: aligned and live; two threads may add to it at once.
    // The target has no compare-and-swap, so core offers no atomic type for it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, n) };
}
