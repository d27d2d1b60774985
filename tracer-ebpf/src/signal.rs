//! SIGCHLD, and the signals that end servers and members of sessions.

use tracer_ebpf::{Chld, Kind, Signal, chld, role};

use crate::{
    emit::emit,
    kernel::{Task, constant, current_tgid, read},
    streams,
    tasks::{session, tracked},
};

const SIGCHLD: u32 = 17;
/// The signals that usually end a process: HUP, INT, QUIT, ILL, ABRT, BUS, FPE, KILL, SEGV, PIPE,
/// TERM.
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

/// The current process sends a signal to `target`, or the kernel does on its behalf.
#[inline(always)]
pub fn generated(signal: u32, target: Task) {
    if signal == SIGCHLD {
        // A child that stops or continues sends it, too. Only a dead one counts.
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
        // si_pid comes first (include/uapi/asm-generic/siginfo.h).
        died(
            read(info, constant!(layout.siginfo_fields)),
            server,
            chld::DELIVERED,
        );
    }
}

/// Reports how far the server has learned of a leader's death: a stage of [`chld`].
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
        streams::snapshot(id, session, &mut r.streams);
    });
}
