//! Ends that no descriptor shows: they were sent over a unix socket and not received yet, or are
//! registered with an io_uring. A process that has the socket or the ring holds them.
//!
//! This is another step of the walk over all descriptors (see `holders`). It is a program of its own,
//! because the stack and the number of instructions that the verifier accepts are limited for each.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_seq_write, macros::map, maps::PerCpuArray};
use tracer_ebpf::{Holder, OPTIONAL, via};

use crate::{
    holders,
    kernel::{File, ScmFiles, Task, Unix, constant, field, read},
};

/// Most ends that are reported of one descriptor.
const ROOM: usize = 16;
/// Most messages of a queue that are looked at: a datagram socket holds 11
/// (`net.unix.max_dgram_qlen` + 1), a stream socket some 280 (see `BUFFERS` in `kernel::unix`).
const MESSAGES: u32 = 288;
/// Most connections of a listener that are looked at: `net.core.somaxconn` was 128 up to 5.3.
const BACKLOG: u32 = 256;
/// Most files of a ring that are looked at.
const RING_FILES: u32 = 1024;
/// Low bits of a registered file's address that are flags (io_uring/filetable.h).
const FLAGS: u64 = 7;

/// The ends that one descriptor leads to.
#[repr(C)]
struct Found {
    /// The task that has the descriptor. The verifier accepts no typed pointer as an argument of a
    /// global function; what comes from a map is a number.
    task: u64,
    fd: u32,
    via: u32,
    count: u64,
    holders: [Holder; ROOM],
}

/// Too large for the stack.
#[map]
static FOUND: PerCpuArray<Found> = PerCpuArray::with_max_entries(1, 0);

/// One descriptor of one task; `seq` is the iterator's output.
#[inline(always)]
pub fn descriptor(seq: *mut c_void, task: Task, fd: u32, file: File) {
    if !holders::is_scanned(task) {
        return;
    }
    if let Some(sock) = file.any_unix() {
        if sock.is_drained() || !begin(task, fd, via::SOCKET) {
            return;
        }
        if sock.is_listener() {
            in_backlog(sock.0);
        } else {
            in_queue(sock.0);
        }
        write_found(seq);
    } else if constant!(layout.ring_files) != OPTIONAL
        && let Some(ring) = file.ring()
        && begin(task, fd, via::RING)
    {
        in_ring(ring);
        write_found(seq);
    }
}

#[inline(always)]
fn begin(task: Task, fd: u32, via: u32) -> bool {
    let Some(found) = FOUND.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot of a live map; a walk does not migrate within a descriptor.
    unsafe {
        (*found).task = task.0;
        (*found).fd = fd;
        (*found).via = via;
        (*found).count = 0;
    }
    true
}

#[inline(always)]
fn write_found(seq: *mut c_void) {
    let Some(found) = FOUND.get_ptr(0) else {
        return;
    };
    // SAFETY: as above.
    let count = unsafe { (*found).count } as usize;
    if count == 0 || count > ROOM {
        return;
    }
    // SAFETY: `seq` is the context's own, the bytes are padding-free structs of a live map.
    unsafe {
        bpf_seq_write(
            seq.cast(),
            (&raw const (*found).holders).cast(),
            (count * size_of::<Holder>()) as u32,
        );
    }
}

/// Finds ends in messages on connections that are not accepted yet. The loops of this module are
/// global functions, so that the verifier checks each of them once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn in_backlog(listener: u64) -> u64 {
    let mut queue = Unix(listener).queue();
    for _ in 0..BACKLOG {
        let Some(buffer) = queue.next() else { break };
        in_queue(buffer.connection().0);
    }
    0
}

/// Finds ends in messages of a socket's receive queue.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn in_queue(sock: u64) -> u64 {
    let mut queue = Unix(sock).queue();
    for _ in 0..MESSAGES {
        let Some(buffer) = queue.next() else { break };
        // Also of messages without files: a branch here would double the verifier's work at each
        // turn.
        in_message(buffer.files().0);
    }
    0
}

/// Finds ends among the files of one message ([`ScmFiles`]).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn in_message(files: u64) -> u64 {
    let files = ScmFiles(files);
    let count = files.count();
    for i in 0..ScmFiles::MAX {
        if i >= count {
            break;
        }
        add_ends(files.file(i).0);
    }
    0
}

/// Finds ends among the files that are registered with a ring (`struct io_ring_ctx`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn in_ring(ring: u64) -> u64 {
    let count = field!(ring, ring_count: u32);
    let table = field!(ring, ring_files: u64);
    for i in 0..RING_FILES {
        if i >= count {
            break;
        }
        let mut file: u64 = read(table, i.wrapping_mul(8));
        if constant!(ring_node_file) != OPTIONAL {
            file = read(file, constant!(ring_node_file));
        }
        add_ends(file & !FLAGS);
    }
    0
}

/// Adds the ends that a file is to what was [`FOUND`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_ends(file: u64) -> u64 {
    holders::each_end(File(file), |end| {
        let Some(found) = FOUND.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: as above.
        let found = unsafe { &mut *found };
        if let Some(holder) = found.holders.get_mut(found.count as usize) {
            *holder = end.held_by(Task(found.task), found.fd, found.via);
            found.count += 1;
        }
    });
    0
}
