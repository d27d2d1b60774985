//! Which process holds which end of which stream at this moment: one step of the kernel's own walk
//! over all descriptors of all processes (`iter/task_file`, kernel/bpf/task_iter.c).
//!
//! User space runs the walk, and reads the records from the iterator's output.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_seq_write, macros::map, maps::Array};
use tracer_ebpf::{Fork, Header, Holder, Kind, StreamState, transport, via};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, Task, now},
    streams,
};

/// What the next walk reports: with 0 only what belongs to sessions, with 1 every end of every pipe,
/// unix stream socket and pty, and every TCP socket. User space writes it.
#[map]
static SCAN_ALL: Array<u32> = Array::with_max_entries(1, 0);

/// See [`SCAN_ALL`].
#[inline(always)]
pub fn scans_all() -> bool {
    SCAN_ALL.get(0).is_some_and(|all| *all != 0)
}

/// Whether the walk looks at a task. A child in vfork(2) has the same descriptors as its parent.
#[inline(always)]
pub fn is_scanned(task: Task) -> bool {
    scans_all() || !task.is_vforked()
}

/// One descriptor of one task; `seq` is the iterator's output.
#[inline(always)]
pub fn descriptor(seq: *mut c_void, task: Task, fd: u32, file: File) {
    if !is_scanned(task) {
        return;
    }
    each_end(file, |end| {
        let holder = end.held_by(task, fd, via::DESCRIPTOR);
        // SAFETY: `seq` is the context's own, the bytes are a padding-free struct on the stack.
        unsafe {
            bpf_seq_write(
                seq.cast(),
                (&raw const holder).cast(),
                size_of::<Holder>() as u32,
            );
        }
    });
}

/// Calls `found` for each end of a stream that the file is, if the walk reports it.
#[inline(always)]
pub fn each_end(file: File, mut found: impl FnMut(End)) {
    if let Some(pipe) = file.pipe() {
        let object = file.ino();
        let mut end = End::new(file, transport::PIPE, pipe.0, object);
        end.mode = file.mode() & (FMODE_READ | FMODE_WRITE);
        end.capacity = pipe.capacity();
        if end.is_reported(|state| state.object == object) {
            found(end);
        }
        return;
    }
    // A socket or tty reads one stream and writes the other.
    let (mut reads, mut writes) = if let Some(sock) = file.unix() {
        (
            End::new(file, transport::UNIX, sock.0, file.ino()),
            End::new(file, transport::UNIX, sock.peer().0, 0),
        )
    } else if let Some(tty) = file.pty() {
        (
            End::new(file, transport::PTY, tty.0, tty.object()),
            End::new(file, transport::PTY, tty.link().0, tty.object()),
        )
    } else {
        return;
    };
    let key = reads.key;
    reads.mode = FMODE_READ;
    writes.mode = FMODE_WRITE;
    if reads.is_reported(|state| state.reader == key) {
        found(reads);
    }
    if writes.is_reported(|state| state.writer == key) {
        found(writes);
    }
}

/// One end of a stream.
#[derive(Clone, Copy)]
pub struct End {
    file: File,
    pub session: u64,
    slot: u32,
    transport: u32,
    key: u64,
    mode: u32,
    object: u64,
    capacity: u32,
}

impl End {
    #[inline(always)]
    fn new(file: File, transport: u32, key: u64, object: u64) -> Self {
        Self {
            file,
            session: 0,
            slot: 0,
            transport,
            key,
            mode: 0,
            object,
            capacity: 0,
        }
    }

    /// Whether the walk reports it: an end of a session's stream, or any end. `is_same` says whether
    /// the entry of its key is about this object, and not about an older one at the same address.
    #[inline(always)]
    fn is_reported(&mut self, is_same: impl Fn(&StreamState) -> bool) -> bool {
        match streams::stream(self.key) {
            Some(state) if state.session != 0 && is_same(state) => {
                self.session = state.session;
                self.slot = state.slot;
                self.object = state.object;
                true
            }
            _ => scans_all() && self.key != 0,
        }
    }

    /// The record that a task holds it: by a descriptor of the end, or [`via`] what the descriptor is
    /// of.
    #[inline(always)]
    pub fn held_by(self, task: Task, fd: u32, via: u32) -> Holder {
        Holder {
            header: Header::new(Kind::Holder, now()),
            session: self.session,
            key: self.key,
            object: self.object,
            proc: task.proc(),
            parent: task.parent().tgid(),
            ns_pid: task.ns_pid(),
            uid: task.uid(),
            fd,
            slot: self.slot,
            mode: self.mode,
            file: self.file.0,
            capacity: self.capacity,
            transport: self.transport,
            files: task.files(),
            via,
            pad: 0,
            comm: task.comm(),
        }
    }
}

/// One process of the start-up snapshot, reported as if its parent had just forked it.
#[inline(always)]
pub fn process(seq: *mut c_void, task: Task) {
    let child = task.proc();
    if task.tid() != child.pid {
        return;
    }
    let fork = Fork {
        header: Header::new(Kind::Fork, now()),
        session: 0,
        parent: task.parent().proc(),
        child,
        flags: 0,
        uid: task.uid(),
        comm: task.comm(),
    };
    // SAFETY: `seq` is the context's own, the bytes are a padding-free struct on the stack.
    unsafe {
        bpf_seq_write(
            seq.cast(),
            (&raw const fork).cast(),
            size_of::<Fork>() as u32,
        );
    }
}
