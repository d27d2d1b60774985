//! The tables of processes and of sessions.
//!
//! A process is tracked when its executable is a server's, or the executable of one of its ancestors
//! was.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use tracer_ebpf::{EXE_LEN, Session, Task as Entry, loss, role};

use crate::{emit::count_loss, kernel::current_tgid};

/// Roles of servers by the base name of their executables. User space writes it.
#[map]
static SERVERS: HashMap<[u8; EXE_LEN], u32> = HashMap::with_max_entries(256, 0);

/// Tracked processes by pid.
#[map]
static TASKS: HashMap<u32, Entry> = HashMap::with_max_entries(65_536, 0);

/// Sessions by id.
#[map]
static SESSIONS: HashMap<u64, Session> = HashMap::with_max_entries(32_768, 0);

/// The [`role`] of a server with this executable; 0 when it is no server's.
#[inline(always)]
pub fn role_of(exe: &[u8; EXE_LEN]) -> u32 {
    // SAFETY: never written by programs.
    unsafe { SERVERS.get(exe) }.copied().unwrap_or(0)
}

/// The entry of a tracked process.
#[inline(always)]
pub fn tracked(pid: u32) -> Option<&'static mut Entry> {
    // SAFETY: entries are plain data; each field is written by one program at a time, and a stale
    // read only delays what the next event finds.
    TASKS.get_ptr_mut(pid).map(|entry| unsafe { &mut *entry })
}

/// Tracks a process from now on.
pub fn track(pid: u32, entry: &Entry) {
    if TASKS.insert(pid, entry, u64::from(BPF_ANY)).is_err() {
        count_loss(loss::TASKS);
    }
}

/// Tracks a process no longer.
#[inline(always)]
pub fn untrack(pid: u32) {
    let _ = TASKS.remove(pid);
}

/// Whether the current process is a server.
#[inline(always)]
pub fn current_is_server() -> bool {
    tracked(current_tgid()).is_some_and(|entry| entry.flags & role::SERVER != 0)
}

/// Whether a process with this [`role`] may become a leader: a server's child that leads no session
/// yet.
#[inline(always)]
pub fn may_lead(flags: u32) -> bool {
    flags & (role::SERVER | role::LEADER) == role::SERVER
}

/// The session with this id.
#[inline(always)]
pub fn session(id: u64) -> Option<&'static Session> {
    // SAFETY: written once, before its id is given to anyone.
    unsafe { SESSIONS.get(id) }
}

/// Adds a session.
#[inline(always)]
pub fn add_session(id: u64, session: Session) {
    if SESSIONS.insert(id, session, u64::from(BPF_ANY)).is_err() {
        count_loss(loss::SESSIONS);
    }
}
