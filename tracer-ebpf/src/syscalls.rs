//! The `syscall` backend: stream operations as their system calls begin and end.
//!
//! For kernels that allow neither fentry nor kprobes. Each call of any process costs one lookup;
//! what goes around read(2), write(2) and close(2) is seen only by its effect on the object.

use aya_ebpf::{
    bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, helpers::bpf_probe_read_user,
    macros::map, maps::HashMap,
};
use tracer_ebpf::{chld, loss, role};

use crate::{
    emit::lost,
    kernel::{Task, constant, current_tgid, field},
    lineage::tracked,
    pipe, signal,
};

/// A call under way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    /// Address of the pipe, or of the user's two descriptors for [`PIPE`].
    at: u64,
    /// Bytes asked for.
    len: u64,
    kind: u64,
}

const READ: u64 = 1;
const WRITE: u64 = 2;
const PIPE: u64 = 3;
const WAIT: u64 = 4;

/// Calls under way by thread.
#[map]
static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(65_536, 0);

/// Descriptors of a dying server that are looked at: OpenSSH has some twenty.
const FDS: u32 = 1024;

#[inline(always)]
pub fn enter(regs: u64, nr: u32) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    let arg0 = field!(regs, regs_arg0: u64);
    if nr == constant!(sys.write) || nr == constant!(sys.writev) {
        let Some(key) = stream_at(arg0 as u32) else {
            return;
        };
        // For writev the length is not worth reading the vector: any writev may block.
        let len = if nr == constant!(sys.write) {
            field!(regs, regs_arg2: u64)
        } else {
            0
        };
        pipe::write_enter(key, len);
        begin(Call {
            at: key,
            len,
            kind: WRITE,
        });
    } else if nr == constant!(sys.read) || nr == constant!(sys.readv) {
        let Some(key) = stream_at(arg0 as u32) else {
            return;
        };
        begin(Call {
            at: key,
            len: 0,
            kind: READ,
        });
    } else if nr == constant!(sys.close) {
        pipe::close(Task::current().fds().file(arg0 as u32), pid);
    } else if nr == constant!(sys.dup2) || nr == constant!(sys.dup3) {
        let onto = field!(regs, regs_arg1: u64) as u32;
        if onto != arg0 as u32 {
            pipe::close(Task::current().fds().file(onto), pid);
        }
    } else if entry.flags & role::SERVER != 0 {
        if nr == constant!(sys.pipe) || nr == constant!(sys.pipe2) {
            begin(Call {
                at: arg0,
                len: 0,
                kind: PIPE,
            });
        } else if nr == constant!(sys.wait4) {
            begin(Call {
                at: 0,
                len: 0,
                kind: WAIT,
            });
        }
    }
}

#[inline(always)]
pub fn exit(result: i64) {
    let pid = current_tgid();
    if tracked(pid).is_none() {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread uses its entry.
    let Some(call) = (unsafe { CALLS.get(thread) }).copied() else {
        return;
    };
    let _ = CALLS.remove(thread);
    match call.kind {
        READ => pipe::read_exit(call.at, result),
        WRITE => pipe::write_exit(call.at, result, call.len),
        PIPE if result == 0 => {
            // SAFETY: the helper checks the address.
            let Ok(fds) = (unsafe { bpf_probe_read_user(call.at as *const [u32; 2]) }) else {
                return;
            };
            let table = Task::current().fds();
            pipe::created(table.file(fds[0]), table.file(fds[1]));
        }
        WAIT if result > 0 => signal::died(result as u32, pid, chld::REAPED),
        _ => {}
    }
}

/// The current process ends with these descriptors open; their release is not seen.
#[inline(always)]
pub fn process_exit(task: Task) {
    // SAFETY: only this thread uses its entry.
    let _ = CALLS.remove(bpf_get_current_pid_tgid());
    let pid = current_tgid();
    if task.group_dead() && tracked(pid).is_some_and(|entry| entry.flags & role::SERVER != 0) {
        close_all(pid);
    }
}

/// Global, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close_all(pid: u32) -> u64 {
    let fds = Task::current().fds();
    for fd in 0..FDS {
        if fd >= fds.max {
            break;
        }
        pipe::close(fds.file(fd), pid);
    }
    0
}

#[inline(always)]
fn begin(call: Call) {
    if CALLS
        .insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY))
        .is_err()
    {
        lost(loss::CALLS);
    }
}

/// The stream behind a descriptor of the current process.
#[inline(always)]
fn stream_at(fd: u32) -> Option<u64> {
    let file = Task::current().fds().file(fd);
    let pipe = file.pipe()?;
    let state = pipe::stream(pipe.0)?;
    (state.object == file.ino()).then_some(pipe.0)
}
