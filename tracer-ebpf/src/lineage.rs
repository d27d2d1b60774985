//! Fork, exec, exit: which process belongs to which session.
//!
//! A child inherits the session of its parent here, inside the kernel, so that no descendant is
//! missed because user space is slow.
//!
//! Where programs have backups, the first of two programs that reaches a fork, exec or exit reports
//! it. The other finds that it has been reported.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_probe_read_user, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{
    ARGV_LEN, EXE_LEN, Exec, Exit, Fork, Kind, StreamEnds, Task as Entry, role, transport,
};

use crate::{
    emit::emit,
    kernel::{File, Task, current_tgid},
    session::start_session,
    streams,
    tasks::{may_lead, role_of, session, track, tracked, untrack},
};

/// Bits of an exit status that are the number of the signal (wait(2)).
const TERMSIG: u32 = 0x7f;
const SIGHUP: u32 = 1;

/// `parent` has forked `child`.
#[inline(always)]
pub fn fork(parent: Task, child: Task) {
    let pid = child.tgid();
    if child.tid() != pid {
        return;
    }
    let from = parent.tgid();
    let Some(entry) = tracked(from) else { return };
    let proc = child.proc();
    if tracked(pid).is_some_and(|known| known.start == proc.start) {
        return;
    }
    if may_lead(entry.flags) {
        start_session();
    }
    let flags = entry.flags & (role::SERVER | role::GIVES_ALL);
    let session = entry.session;
    track(
        pid,
        &Entry {
            session,
            start: proc.start,
            flags,
            execs: 0,
        },
    );
    emit(Kind::Fork, |r: &mut Fork| {
        r.session = session;
        r.parent = parent.proc();
        r.child = proc;
        r.flags = flags;
        r.uid = child.uid();
        r.comm = child.comm();
    });
}

/// The current process, `task`, has executed a program.
#[inline(always)]
pub fn exec(ctx: &BtfTracePointContext, task: Task) {
    let mut exe = [0; EXE_LEN];
    task.exe(&mut exe);
    // By reference: a copy would take stack again.
    let name: &[u8; EXE_LEN] = &exe;
    let kind = role_of(name);
    let server = kind != 0;
    let pid = task.tgid();
    let execs = task.exec_id();
    match tracked(pid) {
        None if server => {
            let entry = Entry {
                session: 0,
                start: task.proc().start,
                flags: kind,
                execs,
            };
            track(pid, &entry);
        }
        None => return,
        Some(entry) => {
            if entry.execs == execs {
                return;
            }
            entry.execs = execs;
            // A server that executes another server without a stdin shares its work with it.
            if may_lead(entry.flags) && (!server || entry.flags & role::GIVES_ALL != 0) {
                start_session();
            }
            entry.flags = entry.flags & !(role::SERVER | role::GIVES_ALL) | kind;
        }
    }
    let Some(entry) = tracked(pid) else { return };
    debug!(
        ctx,
        "exec pid {} session {} flags {}", pid, entry.session, entry.flags
    );
    let (start, end) = task.args();
    emit(Kind::Exec, |r: &mut Exec| {
        r.session = entry.session;
        r.proc = task.proc();
        r.parent = task.parent().tgid();
        r.uid = task.uid();
        r.flags = entry.flags;
        r.comm = task.comm();
        r.exe = exe;
        r.argv_full = end.wrapping_sub(start) as u32;
        // The environment follows the arguments and must not be recorded.
        let len = r.argv_full.min(ARGV_LEN as u32);
        // SAFETY: the helper checks the source, `len` is within the destination. The arguments
        // were written by this very exec, so their pages are there.
        if unsafe { bpf_probe_read_user(r.argv.as_mut_ptr().cast(), len, start as *const c_void) }
            == 0
        {
            r.argv_len = len;
        }
    });
    if entry.session == 0 && !server {
        // A subprocess of a server's own (AuthorizedKeysCommand, that of a PAM module) is no
        // session. It is reported once, so that nobody takes it for the server that forked it.
        untrack(pid);
    }
}

/// A thread of the current process exits. Reports the exit of the last one.
#[inline(always)]
pub fn exit(task: Task) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    if !task.group_dead() || entry.flags & role::EXITED != 0 {
        return;
    }
    if may_lead(entry.flags) {
        start_session();
    }
    entry.flags |= role::EXITED;
    let (id, flags) = (entry.session, entry.flags);
    // What a process such as `tee` leaves unread when a hangup kills it is lost within the command.
    let status = task.exit_code();
    let stdin = if status & TERMSIG == SIGHUP {
        task.fds().file(0)
    } else {
        File(0)
    };
    emit(Kind::Exit, |r: &mut Exit| {
        r.session = id;
        r.proc = task.proc();
        r.status = status;
        if let Some(pipe) = stdin.pipe() {
            r.stdin_object = stdin.ino();
            r.stdin_unread = pipe.unread();
        }
        if stdin.0 != 0 {
            describe_output(task.fds().file(1), &mut r.stdout);
        }
        r.flags = flags;
        if flags & role::LEADER != 0
            && let Some(session) = session(id)
        {
            streams::snapshot(id, session, &mut r.streams);
        }
    });
}

/// Describes a file that is a pipe or a terminal.
#[inline(always)]
fn describe_output(file: File, out: &mut StreamEnds) {
    out.transport = if file.pipe().is_some() {
        transport::PIPE
    } else if file.pts().is_some() {
        transport::PTY
    } else {
        transport::NONE
    };
    if out.transport != transport::NONE {
        out.object = file.ino();
    }
}

/// The kernel frees a task: its process has been reaped, and no event will be about it.
#[inline(always)]
pub fn free(task: Task) {
    let pid = task.tgid();
    if task.tid() == pid
        && let Some(entry) = tracked(pid)
        // A new process may have the pid already: this comes an RCU grace period late.
        && entry.start == task.proc().start
    {
        untrack(pid);
    }
}
