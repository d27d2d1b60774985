//! Ends that are handed on over unix sockets (`SCM_RIGHTS`, unix(7)): who sent them, who received.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_probe_read_user, macros::map, maps::LruHashMap};
use tracer_ebpf::{Kind, Passed, Proc, way};

use crate::{
    emit::emit,
    holders,
    kernel::{File, Task, constant, field, read},
};

/// Files of one message at most (`SCM_MAX_FD`, include/net/scm.h).
pub const MOST: u32 = 253;

/// Who passed which file in which way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Handover {
    session: u64,
    file: u64,
    proc: Proc,
    way: u64,
}

/// What has been told: someone may send the same file again and again.
#[map]
static HANDOVERS: LruHashMap<Handover, u32> = LruHashMap::with_max_entries(4096, 0);

/// How many files a message has.
#[inline(always)]
pub fn count(files: u64) -> u32 {
    u32::from(field!(files, scm_count: u16))
}

/// One of them.
#[inline(always)]
pub fn file(files: u64, i: u32) -> File {
    File(read(
        files,
        constant!(layout.scm_list).wrapping_add(i.wrapping_mul(8)),
    ))
}

/// The current process makes a message with these files (`struct scm_fp_list`).
#[inline(always)]
pub fn sent(files: u64) {
    each(files, way::SENT, 0);
}

/// The current process is about to get descriptors for what came with a message.
#[inline(always)]
pub fn received(message: u64) {
    each(field!(message, scm_files: u64), way::RECEIVED, 0);
}

/// A global function, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn each(files: u64, way: u32, peer: u32) -> u64 {
    let count = count(files);
    for i in 0..MOST {
        if i >= count {
            break;
        }
        passes(file(files, i).0, way, peer);
    }
    0
}

/// A file of a message is told if it is a session's end.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn passes(file: u64, way: u32, peer: u32) -> u64 {
    holders::ends(File(file), |end| {
        let task = Task::current();
        let key = Handover {
            session: end.session,
            file,
            proc: task.proc(),
            way: u64::from(way),
        };
        // SAFETY: never written to.
        if end.session == 0 || unsafe { HANDOVERS.get(key) }.is_some() {
            return;
        }
        let _ = HANDOVERS.insert(key, 1, u64::from(BPF_ANY));
        emit(Kind::Passed, |r: &mut Passed| {
            r.session = end.session;
            r.proc = key.proc;
            r.file = file;
            r.way = way;
            r.peer = peer;
            r.comm = task.comm();
        });
    });
    0
}

/// Descriptors of one message that are looked at where only the system call is seen.
const ASKED: u32 = 16;

/// A `struct user_msghdr` as far as it is of use (include/linux/socket.h).
#[derive(Clone, Copy)]
#[repr(C)]
struct Message {
    name: u64,
    name_len: u64,
    pieces: u64,
    pieces_len: u64,
    control: u64,
    control_len: u64,
}

/// A `struct cmsghdr`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    len: u64,
    level: u32,
    kind: u32,
}

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;

/// The current process calls sendmsg(2) on a descriptor with a message in its memory.
#[inline(always)]
pub fn asked(fd: u32, message: u64) {
    // SAFETY: the helper checks the address.
    let Ok(message) = (unsafe { bpf_probe_read_user(message as *const Message) }) else {
        return;
    };
    if message.control != 0 && message.control_len as usize > size_of::<Control>() {
        asked_with(fd, message.control);
    }
}

/// The first of its control messages, which is the only one that programs send. A global function,
/// so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn asked_with(fd: u32, at: u64) -> u64 {
    // SAFETY: the helper checks the address.
    let Ok(control) = (unsafe { bpf_probe_read_user(at as *const Control) }) else {
        return 0;
    };
    if control.level != SOL_SOCKET || control.kind != SCM_RIGHTS {
        return 0;
    }
    let fds = Task::current().fds();
    let Some(sock) = fds.file(fd).any_unix() else {
        return 0;
    };
    let peer = sock.peer_pid();
    let first = at + size_of::<Control>() as u64;
    for i in 0..ASKED {
        if u64::from(i) * 4 + size_of::<Control>() as u64 >= control.len {
            break;
        }
        // SAFETY: the helper checks the address.
        let Ok(fd) = (unsafe { bpf_probe_read_user((first + u64::from(i) * 4) as *const u32) })
        else {
            break;
        };
        passes(fds.file(fd).0, way::SENT, peer);
    }
    0
}
