//! Who holds which end of which stream, exactly, now: one step of the kernel's own walk over all
//! descriptors of all processes (`iter/task_file`, kernel/bpf/task_iter.c).

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_seq_write, macros::map, maps::Array};
use tracer_ebpf::{Fork, Header, Holder, Kind, StreamState, transport};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, Task, now},
    streams,
};

/// What the next walk is to tell: 0 what belongs to sessions, 1 every end of every pipe and every
/// TCP socket.
#[map]
static SCAN_ALL: Array<u32> = Array::with_max_entries(1, 0);

/// See [`SCAN_ALL`].
#[inline(always)]
pub fn wants_all() -> bool {
    SCAN_ALL.get(0).is_some_and(|all| *all != 0)
}

/// One descriptor of one task; `seq` is the iterator's output.
#[inline(always)]
pub fn descriptor(seq: *mut c_void, task: Task, fd: u32, file: File) {
    let all = wants_all();
    // Its parent has the same and waits for it.
    if !all && task.is_vforked() {
        return;
    }
    let out = Out {
        seq,
        task,
        fd,
        file,
    };
    if let Some(pipe) = file.pipe() {
        let mode = file.mode() & (FMODE_READ | FMODE_WRITE);
        let object = file.ino();
        match streams::stream(pipe.0).filter(|state| state.object == object) {
            Some(state) if state.session != 0 || all => out.stream(pipe.0, state, mode),
            None if all => out.write(Ends {
                transport: transport::PIPE,
                key: pipe.0,
                mode,
                object,
                unread: pipe.unread(),
                capacity: pipe.capacity(),
                ..Ends::default()
            }),
            _ => {}
        }
    } else if let Some(sock) = file.unix() {
        out.both_ways(sock.0, sock.peer().0);
    } else if let Some(tty) = file.pty() {
        out.both_ways(tty.0, tty.link().0);
    }
}

/// One descriptor, and where it is to be told.
#[derive(Clone, Copy)]
struct Out {
    seq: *mut c_void,
    task: Task,
    fd: u32,
    file: File,
}

impl Out {
    /// A socket or tty reads the one stream and writes the other.
    #[inline(always)]
    fn both_ways(self, reads: u64, writes: u64) {
        if let Some(state) = streams::stream(reads)
            && state.reader == reads
            && state.session != 0
        {
            self.stream(reads, state, FMODE_READ);
        }
        if let Some(state) = streams::stream(writes)
            && state.writer == reads
            && state.session != 0
        {
            self.stream(writes, state, FMODE_WRITE);
        }
    }

    #[inline(always)]
    fn stream(self, key: u64, state: &StreamState, mode: u32) {
        self.write(Ends {
            session: state.session,
            slot: state.slot,
            transport: state.transport,
            key,
            mode,
            object: state.object,
            unread: streams::unread(state.transport, key),
            capacity: 0,
        });
    }

    #[inline(always)]
    fn write(self, ends: Ends) {
        let Self {
            seq,
            task,
            fd,
            file,
        } = self;
        let holder = Holder {
            header: Header {
                time: now(),
                kind: Kind::Holder as u16,
                size: size_of::<Holder>() as u16,
                cpu: 0,
            },
            session: ends.session,
            key: ends.key,
            object: ends.object,
            proc: task.proc(),
            parent: task.parent().tgid(),
            ns_pid: task.ns_pid(),
            uid: task.uid(),
            fd,
            slot: ends.slot,
            mode: ends.mode,
            unread: ends.unread,
            file: file.0,
            capacity: ends.capacity,
            transport: ends.transport,
            comm: task.comm(),
        };
        // SAFETY: `seq` is the context's own, the bytes are a padding-free struct on the stack.
        unsafe {
            bpf_seq_write(
                seq.cast(),
                (&raw const holder).cast(),
                size_of::<Holder>() as u32,
            );
        }
    }
}

/// What is told of an object beside who holds it.
#[derive(Default)]
struct Ends {
    session: u64,
    slot: u32,
    transport: u32,
    key: u64,
    mode: u32,
    object: u64,
    unread: u64,
    capacity: u32,
}

/// One process, told as if its parent had just forked it; for the start-up snapshot.
#[inline(always)]
pub fn process(seq: *mut c_void, task: Task) {
    let child = task.proc();
    if task.tid() != child.pid {
        return;
    }
    let fork = Fork {
        header: Header {
            time: now(),
            kind: Kind::Fork as u16,
            size: size_of::<Fork>() as u16,
            cpu: 0,
        },
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
