//! Ptys: how a server's become streams, and how their ends are released.
//!
//! What the session writes to the slave waits in the master's flip buffers and line discipline. What
//! the server writes to the master waits in the slave's.

use tracer_ebpf::{seen, transport};

use crate::{
    kernel::{File, Task, Tty},
    streams::{self, server_close, stream},
};

/// Descriptors of a server that are searched for the master.
const FDS: u32 = 64;

/// The current process, a server's child, may have a pty as its stdin. If its parent has the master,
/// both directions become streams of that server.
///
/// It is a function of its own, also for the verifier: it needs its own share of the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_pty() -> u64 {
    let task = Task::current();
    let parent = task.parent();
    let Some(slave) = task.fds().file(0).pts() else {
        return 0;
    };
    let master = slave.link();
    // An old pty at the address may still have its entry.
    let is_known = stream(master.0)
        .is_some_and(|state| state.server == parent.tgid() && state.seen[seen::SERVER_CLOSED] == 0);
    if is_known || find_master(parent.0, master.0) == 0 {
        return 0;
    }
    add_direction(master, slave, parent);
    add_direction(slave, master, parent);
    1
}

#[inline(always)]
fn add_direction(reader: Tty, writer: Tty, server: Task) {
    if let Some(state) = streams::add(reader.0, transport::PTY) {
        state.object = reader.object();
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = server.tgid();
    }
}

/// Whether a server has the master open. It is a global function, so that the verifier checks its
/// loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_master(server: u64, master: u64) -> u64 {
    let fds = Task(server).fds();
    for fd in 0..FDS {
        if is_master(fds.nth(fd).0, master) != 0 {
            return 1;
        }
    }
    0
}

/// Whether a file is this master; for a loop, see [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_master(file: u64, master: u64) -> u64 {
    let file = File(file);
    u64::from(file.is_ptmx() && Tty::of_file(file).0 == master)
}

/// A tty's file is being released; `refs` references to it are left, this one included. The release
/// of the master ends both directions, whichever process closes it last. Often that is the
/// privileged monitor, which has a copy.
#[inline(always)]
pub fn release(file: File, refs: u32) {
    let tty = Tty::of_file(file);
    let Some(state) = stream(tty.0) else { return };
    if state.session == 0 || state.slot == 0 || state.reader != tty.0 {
        return;
    }
    let slave = state.writer;
    server_close(state, tty.0, refs);
    if let Some(state) = stream(slave) {
        server_close(state, slave, refs);
    }
}

/// Process `pid` closes a descriptor, where the backend cannot see releases: the last one of a
/// master, or any that a dying server has.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    if !file.is_ptmx() {
        return;
    }
    let refs = file.refs();
    let is_dying_servers = || {
        Task::current().exiting()
            && stream(Tty::of_file(file).0)
                .is_some_and(|state| state.server == pid && state.seen[seen::SERVER_CLOSED] == 0)
    };
    if refs == 1 || is_dying_servers() {
        release(file, refs);
    }
}
