//! Ends that processes pass over unix sockets (`SCM_RIGHTS`, unix(7)): reports senders and receivers.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_probe_read_user, macros::map, maps::LruHashMap};
use tracer_ebpf::{Kind, Passed, Proc, way};

use crate::{
    emit::emit,
    holders,
    kernel::{File, ScmFiles, Task},
};

/// A pass that is reported only once.
#[derive(Clone, Copy)]
#[repr(C)]
struct Handover {
    session: u64,
    file: u64,
    proc: Proc,
    way: u64,
}

/// Passes that have been reported: a process may send the same file again and again.
#[map]
static HANDOVERS: LruHashMap<Handover, u32> = LruHashMap::with_max_entries(4096, 0);

/// The current process makes a message with these files (`struct scm_fp_list`).
#[inline(always)]
pub fn sent(files: u64) {
    report_files(files, way::SENT, 0);
}

/// The current process is about to get descriptors for the files of a message (`struct scm_cookie`).
#[inline(always)]
pub fn received(message: u64) {
    report_files(ScmFiles::of_cookie(message).0, way::RECEIVED, 0);
}

/// Reports the files of a message. It is a global function, so that the verifier checks its loop
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_files(files: u64, way: u32, peer: u32) -> u64 {
    let files = ScmFiles(files);
    let count = files.count();
    for i in 0..ScmFiles::MAX {
        if i >= count {
            break;
        }
        report_file(files.file(i).0, way, peer);
    }
    0
}

/// Reports that the current process passes a file, if the file is an end of a session's stream.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_file(file: u64, way: u32, peer: u32) -> u64 {
    holders::each_end(File(file), |end| {
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

/// Most descriptors of a message that are looked at where only the system call is seen.
const FDS: u32 = 16;

/// The beginning of a `struct user_msghdr` (include/linux/socket.h).
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

/// The current process calls sendmsg(2) on a descriptor, with a message at this user address.
#[inline(always)]
pub fn sendmsg(fd: u32, message: u64) {
    // SAFETY: the helper checks the address.
    let Ok(message) = (unsafe { bpf_probe_read_user(message as *const Message) }) else {
        return;
    };
    if message.control != 0 && message.control_len as usize > size_of::<Control>() {
        sendmsg_control(fd, message.control);
    }
}

/// Reports the files of the first control message, the only one that programs send. It is a global
/// function, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sendmsg_control(fd: u32, at: u64) -> u64 {
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
    for i in 0..FDS {
        if u64::from(i) * 4 + size_of::<Control>() as u64 >= control.len {
            break;
        }
        // SAFETY: the helper checks the address.
        let Ok(fd) = (unsafe { bpf_probe_read_user((first + u64::from(i) * 4) as *const u32) })
        else {
            break;
        };
        report_file(fds.file(fd).0, way::SENT, peer);
    }
    0
}
