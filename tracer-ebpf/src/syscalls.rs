//! The `syscall` backend: stream operations as their system calls begin and end.
//!
//! It is for kernels that allow neither fentry nor kprobes. Each system call of any process costs one
//! lookup. What does not go through read(2), write(2) and close(2) shows only in the object itself.
//!
//! Where the kernel may skip a program (see `functions`), a backup program sees each call again. It
//! finds the pending call that the first of the two made, and at the call's end it finds none.

use aya_ebpf::helpers::bpf_probe_read_user;
use tracer_ebpf::{chld, role};

use crate::{
    calls::{self, Syscall, operation},
    functions::{self, Program},
    io,
    kernel::{File, Task, constant, current_tgid, field},
    pipe, scm_rights, signal, streams,
    tasks::{current_is_server, tracked},
    tty, unix,
};

/// Most descriptors of a dying server that are looked at: OpenSSH has some twenty.
const FDS: u32 = 1024;

/// A system call of the current process begins; `regs` is the address of its `struct pt_regs`.
#[inline(always)]
pub fn enter(regs: u64, nr: u32, this: Program) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    let by = this as u64;
    if let Some(call) = calls::pending() {
        if constant!(backups) != 0 && call.syscall().by != by {
            return;
        }
        // The kernel skipped the end of the previous call: its bytes are not counted.
        functions::count_stale();
    }
    let begin = |operation, target, len| {
        calls::begin(Syscall {
            operation,
            target,
            len,
            by,
        });
    };
    let arg0 = field!(regs, regs_arg0: u64);
    if nr == constant!(sys.sendmsg) {
        scm_rights::sendmsg(arg0 as u32, field!(regs, regs_arg1: u64));
    }
    if is_write(nr) {
        let key = write_target(arg0 as u32);
        if key != 0 {
            // Only these two have the length as an argument; that of a vector is not worth reading.
            let plain = nr == constant!(sys.write) || nr == constant!(sys.sendto);
            let len = if plain {
                field!(regs, regs_arg2: u64)
            } else {
                0
            };
            let file = Task::current().fds().file(arg0 as u32);
            io::write_enter(key, file);
            begin(operation::WRITE, key, len);
        }
    } else if is_read(nr) {
        let key = read_source(arg0 as u32);
        if key != 0 {
            begin(operation::READ, key, 0);
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
            begin(operation::PIPE, arg0, 0);
        } else if nr == constant!(sys.socketpair) {
            begin(operation::SOCKETPAIR, field!(regs, regs_arg3: u64), 0);
        } else if nr == constant!(sys.wait4) {
            begin(operation::WAIT, 0, 0);
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

/// A system call of the current process ends.
#[inline(always)]
pub fn exit(result: i64) {
    let pid = current_tgid();
    if tracked(pid).is_none() {
        return;
    }
    let Some(call) = calls::end() else { return };
    let Syscall {
        operation,
        target,
        len,
        ..
    } = call.syscall();
    match operation {
        operation::READ => {
            io::read_exit(target, result);
        }
        // The end of another call, whose beginning was skipped.
        operation::WRITE if len != 0 && result > len as i64 => {}
        operation::WRITE => {
            io::write_exit(target, result, len);
        }
        operation::PIPE | operation::SOCKETPAIR if result == 0 => {
            // SAFETY: the helper checks the address.
            let Ok(fds) = (unsafe { bpf_probe_read_user(target as *const [u32; 2]) }) else {
                return;
            };
            let table = Task::current().fds();
            let (a, b) = (table.file(fds[0]), table.file(fds[1]));
            if operation == operation::PIPE {
                pipe::created(a, b);
            } else if a.unix().is_some() {
                unix::paired(a.private(), b.private());
            }
        }
        operation::WAIT if result > 0 => signal::died(result as u32, pid, chld::REAPED),
        _ => {}
    }
}

/// A thread of the current process exits. The release of a process's descriptors is not seen, so the
/// exit of its last thread counts as closing them.
#[inline(always)]
pub fn process_exit(task: Task) {
    let _ = calls::end();
    if task.group_dead() && current_is_server() {
        close_all(current_tgid());
    }
}

/// Closes all descriptors of the current process. It is a global function, so that the verifier
/// checks its loop once.
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
    // Only for the backup program; at the end of the call nothing is left to do.
    if constant!(backups) != 0 {
        calls::begin(Syscall {
            operation: operation::CLOSE,
            target: 0,
            len: 0,
            by,
        });
    }
}

/// Process `pid` closes a descriptor of this file. It is a global function, so that the verifier
/// checks it once and not at each turn of [`close_all`].
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
fn write_target(fd: u32) -> u64 {
    let file = Task::current().fds().file(fd);
    if let Some(pipe) = file.pipe() {
        return streams::pipe_key(pipe.0, file);
    }
    if let Some(sock) = file.unix() {
        return unix::write_target(sock);
    }
    file.pty().map_or(0, |tty| tty.link().0)
}

/// Key of the stream that a read from a descriptor of the current process reads, 0 for none.
#[inline(always)]
fn read_source(fd: u32) -> u64 {
    let file = Task::current().fds().file(fd);
    if let Some(pipe) = file.pipe() {
        return streams::pipe_key(pipe.0, file);
    }
    if let Some(sock) = file.unix() {
        return unix::read_source(sock);
    }
    file.pty().map_or(0, |tty| tty.0)
}
