//! SIGCHLD, and the signals that end servers and members of sessions.

use tracer_ebpf::{Chld, Kind, Signal, chld, role};

use crate::{
    emit::emit,
    kernel::{Task, constant, current_tgid, read},
    lineage::{session, tracked},
    streams,
};

const SIGCHLD: u32 = 17;
/// HUP, INT, QUIT, ILL, ABRT, BUS, FPE, KILL, SEGV, PIPE, TERM: what usually ends a process.
const DEADLY: u64 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 13
    | 1 << 15;

/// A signal is sent to `target` by the current process, or by the kernel on its behalf.
#[inline(always)]
pub fn generated(signal: u32, target: Task) {
    if signal == SIGCHLD {
        // Stopping and continuing send it as well: only the dead count.
        died(current_tgid(), target.tgid(), chld::GENERATED);
    } else if signal < 64 && DEADLY & (1 << signal) != 0 {
        let Some(entry) = tracked(target.tgid()) else {
            return;
        };
        let session = entry.session;
        emit(Kind::Signal, |r: &mut Signal| {
            r.session = session;
            r.target = target.proc();
            r.signal = signal;
            r.sender = current_tgid();
            r.comm = Task::current().comm();
        });
    }
}

/// A signal is delivered to the current process; `info` is its `struct kernel_siginfo`.
#[inline(always)]
pub fn delivered(signal: u32, info: u64) {
    if signal != SIGCHLD {
        return;
    }
    let server = current_tgid();
    if tracked(server).is_some_and(|entry| entry.flags & role::SERVER != 0) {
        // si_pid is the first of the fields (include/uapi/asm-generic/siginfo.h).
        died(
            read(info, constant!(layout.siginfo_fields)),
            server,
            chld::DELIVERED,
        );
    }
}

/// Tells the server's news of the death of a leader.
#[inline(always)]
pub fn died(leader: u32, server: u32, stage: u32) {
    let Some(entry) = tracked(leader) else { return };
    let both = role::LEADER | role::EXITED;
    if entry.flags & both != both {
        return;
    }
    let id = entry.session;
    let Some(session) = session(id) else { return };
    emit(Kind::Chld, |r: &mut Chld| {
        r.session = id;
        r.server = server;
        r.stage = stage;
        streams::now(id, session, &mut r.streams);
    });
}
