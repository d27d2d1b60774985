//! Who holds which end of which stream, exactly, now: one step of the kernel's own walk over all
//! descriptors of all processes (`iter/task_file`, kernel/bpf/task_iter.c).

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_seq_write, macros::map, maps::Array};
use tracer_ebpf::{Fork, Header, Holder, Kind, transport};

use crate::{
    kernel::{FMODE_READ, FMODE_WRITE, File, Task, now},
    pipe,
};

/// What the next walk is to tell: 0 the ends of streams, 1 every end of every pipe and TCP socket.
#[map]
static SCAN_ALL: Array<u32> = Array::with_max_entries(1, 0);

/// One descriptor of one task; `seq` is the iterator's output.
#[inline(always)]
pub fn descriptor(seq: *mut c_void, task: Task, fd: u32, file: File) {
    let all = SCAN_ALL.get(0).is_some_and(|all| *all != 0);
    let Some(pipe) = file.pipe() else {
        if all && let Some(sock) = file.tcp() {
            let id = Ends {
                transport: transport::TCP,
                key: sock.0,
                ..Ends::default()
            };
            write(seq, task, fd, file, id);
        }
        return;
    };
    let object = file.ino();
    let state = pipe::stream(pipe.0).filter(|state| state.object == object);
    let (session, slot) = match &state {
        Some(state) => (state.session, state.slot),
        None => (0, 0),
    };
    if session == 0 && !all {
        return;
    }
    write(
        seq,
        task,
        fd,
        file,
        Ends {
            session,
            slot,
            transport: transport::PIPE,
            key: pipe.0,
            unread: pipe.unread(),
            capacity: pipe.capacity(),
        },
    );
}

/// What is told of an object beside who holds it.
#[derive(Default)]
struct Ends {
    session: u64,
    slot: u32,
    transport: u32,
    key: u64,
    unread: u64,
    capacity: u32,
}

#[inline(always)]
fn write(seq: *mut c_void, task: Task, fd: u32, file: File, ends: Ends) {
    let holder = Holder {
        header: Header {
            time: now(),
            kind: Kind::Holder as u16,
            size: size_of::<Holder>() as u16,
            cpu: 0,
        },
        session: ends.session,
        key: ends.key,
        object: file.ino(),
        proc: task.proc(),
        parent: task.parent().tgid(),
        ns_pid: task.ns_pid(),
        uid: task.uid(),
        fd,
        slot: ends.slot,
        mode: file.mode() & (FMODE_READ | FMODE_WRITE),
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
