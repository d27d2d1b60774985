//! The `syscall` backend: stream operations as their system calls begin and end.
//!
//! For kernels that allow neither fentry nor kprobes. Each call of any process costs one lookup;
//! what goes around read(2), write(2) and close(2) is seen only by its effect on the object.

use aya_ebpf::helpers::bpf_probe_read_user;
use tracer_ebpf::{chld, role};

use crate::{
    calls::{self, begin},
    functions::{self, Twin},
    kernel::{File, Task, constant, current_tgid, field},
    lineage::tracked,
    passed, pipe, signal, streams, tty, unix,
};

/// What is called: of a [`READ`] the key of the stream is kept, of a [`WRITE`] also the bytes asked
/// for, of a [`PIPE`] and [`SOCKETPAIR`] the address of the user's two descriptors; of each which of two
/// twins saw it begin.
const READ: u64 = 1;
const WRITE: u64 = 2;
const PIPE: u64 = 3;
const WAIT: u64 = 4;
const SOCKETPAIR: u64 = 5;
const CLOSE: u64 = 6;

/// Descriptors of a dying server that are looked at: OpenSSH has some twenty.
const FDS: u32 = 1024;

/// Where a program may be skipped (see `functions`) a twin sees each call again: it finds what the other
/// has kept of the call's beginning, and nothing of its end any more.
#[inline(always)]
pub fn enter(regs: u64, nr: u32, this: Twin) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    let by = this as u64;
    if let Some(call) = calls::under_way() {
        if constant!(twins) != 0 && call.args[2] != by {
            return;
        }
        // The kernel skipped the end of the call before: what that moved is not counted.
        functions::missed();
    }
    let arg0 = field!(regs, regs_arg0: u64);
    if nr == constant!(sys.sendmsg) {
        passed::asked(arg0 as u32, field!(regs, regs_arg1: u64));
    }
    if is_write(nr) {
        let key = written(arg0 as u32);
        if key != 0 {
            // Only these two give the length as it is; of a vector it is not worth reading.
            let plain = nr == constant!(sys.write) || nr == constant!(sys.sendto);
            let len = if plain {
                field!(regs, regs_arg2: u64)
            } else {
                0
            };
            let file = Task::current().fds().file(arg0 as u32);
            streams::write_enter(key, file);
            begin(WRITE, [key, len, by]);
        }
    } else if is_read(nr) {
        let key = taken(arg0 as u32);
        if key != 0 {
            begin(READ, [key, 0, by]);
        }
    } else if nr == constant!(sys.close) {
        close(arg0 as u32, pid, by);
    } else if nr == constant!(sys.dup2) || nr == constant!(sys.dup3) {
        let onto = field!(regs, regs_arg1: u64) as u32;
        if onto != arg0 as u32 {
            close(onto, pid, by);
        }
    } else if entry.flags & role::SERVER != 0 {
        if nr == constant!(sys.pipe) || nr == constant!(sys.pipe2) {
            begin(PIPE, [arg0, 0, by]);
        } else if nr == constant!(sys.socketpair) {
            begin(SOCKETPAIR, [field!(regs, regs_arg3: u64), 0, by]);
        } else if nr == constant!(sys.wait4) {
            begin(WAIT, [0, 0, by]);
        }
    }
}

#[inline(always)]
fn is_write(nr: u32) -> bool {
    nr == constant!(sys.write)
        || nr == constant!(sys.writev)
        || nr == constant!(sys.sendto)
        || nr == constant!(sys.sendmsg)
}

#[inline(always)]
fn is_read(nr: u32) -> bool {
    nr == constant!(sys.read)
        || nr == constant!(sys.readv)
        || nr == constant!(sys.recvfrom)
        || nr == constant!(sys.recvmsg)
}

#[inline(always)]
pub fn exit(result: i64) {
    let pid = current_tgid();
    if tracked(pid).is_none() {
        return;
    }
    let Some(call) = calls::end() else { return };
    let [at, len, _] = call.args;
    match call.what {
        READ => {
            streams::read_exit(at, result);
        }
        // Another call's end, whose beginning was skipped as well.
        WRITE if len != 0 && result > len as i64 => {}
        WRITE => {
            streams::write_exit(at, result, len);
        }
        PIPE | SOCKETPAIR if result == 0 => {
            // SAFETY: the helper checks the address.
            let Ok(fds) = (unsafe { bpf_probe_read_user(at as *const [u32; 2]) }) else {
                return;
            };
            let table = Task::current().fds();
            let (a, b) = (table.file(fds[0]), table.file(fds[1]));
            if call.what == PIPE {
                pipe::created(a, b);
            } else if a.unix().is_some() {
                unix::paired(a.private(), b.private());
            }
        }
        WAIT if result > 0 => signal::died(result as u32, pid, chld::REAPED),
        _ => {}
    }
}

/// The current process ends with these descriptors open; their release is not seen.
#[inline(always)]
pub fn process_exit(task: Task) {
    let _ = calls::end();
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
        close_file(fds.file(fd).0, pid);
    }
    0
}

#[inline(always)]
fn close(fd: u32, pid: u32, by: u64) {
    close_file(Task::current().fds().file(fd).0, pid);
    // Only a twin asks; nothing is left to do at the call's end.
    if constant!(twins) != 0 {
        begin(CLOSE, [0, 0, by]);
    }
}

/// Global, so that the verifier checks it once and not at each turn of [`close_all`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close_file(file: u64, pid: u32) -> u64 {
    let file = File(file);
    pipe::close(file, pid);
    unix::close(file, pid);
    tty::close(file, pid);
    0
}

/// Key of the stream that a write to a descriptor of the current process goes to, 0 for none.
#[inline(always)]
fn written(fd: u32) -> u64 {
    let file = Task::current().fds().file(fd);
    if let Some(pipe) = file.pipe() {
        return streams::pipe_stream(pipe.0, file);
    }
    if let Some(sock) = file.unix() {
        return unix::written(sock);
    }
    file.pty().map_or(0, |tty| tty.link().0)
}

/// Key of the stream that a read from a descriptor of the current process takes from, 0 for none.
#[inline(always)]
fn taken(fd: u32) -> u64 {
    let file = Task::current().fds().file(fd);
    if let Some(pipe) = file.pipe() {
        return streams::pipe_stream(pipe.0, file);
    }
    if let Some(sock) = file.unix() {
        return unix::taken(sock);
    }
    file.pty().map_or(0, |tty| tty.0)
}
