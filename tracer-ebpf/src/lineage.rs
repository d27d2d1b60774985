//! Fork, exec, exit: who belongs to which session.
//!
//! A process is tracked when its executable is a server's, or an ancestor's was. A server's child
//! leads a session once it has ends of its server's streams as stdin, stdout and stderr; that is
//! seen at its exec, or, when it never execs (internal-sftp), at its first read, write or fork.
//!
//! Where programs have twins, fork, exec and exit are each told by the first of the two that comes to it,
//! since they find that it has been told.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::generated::bpf_probe_read_user,
    macros::map,
    maps::HashMap,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use tracer_ebpf::{
    ARGV_LEN, EXE_LEN, Exec, Exit, Fork, Kind, OPTIONAL, STREAMS, Session, SessionStart,
    StreamState, Task as Entry, loss, role, session_id, transport,
};

use crate::{
    emit::{emit, lost},
    kernel::{File, Pipe, Sock, Task, constant, current_tgid},
    pipe, streams, tcp, tty,
    unix::Unix,
};

/// The signal's part of a status as of wait(2).
const TERMSIG: u32 = 0x7f;
const SIGHUP: u32 = 1;

/// Roles of servers by the base name of their executables.
#[map]
static SERVERS: HashMap<[u8; EXE_LEN], u32> = HashMap::with_max_entries(256, 0);

/// Tracked processes by pid.
#[map]
static TASKS: HashMap<u32, Entry> = HashMap::with_max_entries(65_536, 0);

/// Sessions by id.
#[map]
pub static SESSIONS: HashMap<u64, Session> = HashMap::with_max_entries(32_768, 0);

#[inline(always)]
pub fn tracked(pid: u32) -> Option<&'static mut Entry> {
    // SAFETY: entries are plain data; each field is written by one program at a time, and a stale
    // read only delays what the next event finds.
    TASKS.get_ptr_mut(pid).map(|entry| unsafe { &mut *entry })
}

#[inline(always)]
pub fn session(id: u64) -> Option<&'static Session> {
    // SAFETY: written once, before its id is given to anyone.
    unsafe { SESSIONS.get(id) }
}

fn keep(pid: u32, entry: &Entry, flags: u64) {
    if TASKS.insert(pid, entry, flags).is_err() && flags != u64::from(BPF_NOEXIST) {
        lost(loss::TASKS);
    }
}

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
    if entry.flags & (role::SERVER | role::LEADER) == role::SERVER {
        bind();
    }
    let flags = entry.flags & (role::SERVER | role::GIVES_ALL);
    let session = entry.session;
    keep(
        pid,
        &Entry {
            session,
            start: proc.start,
            flags,
            execs: 0,
        },
        u64::from(BPF_ANY),
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

#[inline(always)]
pub fn exec(ctx: &BtfTracePointContext, task: Task) {
    let mut exe = [0; EXE_LEN];
    task.exe(&mut exe);
    // By reference: a copy would be on the stack again.
    let name: &[u8; EXE_LEN] = &exe;
    // SAFETY: never written by programs.
    let kind = unsafe { SERVERS.get(name) }.copied().unwrap_or(0);
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
            keep(pid, &entry, u64::from(BPF_ANY));
        }
        None => return,
        Some(entry) => {
            if entry.execs == execs {
                return;
            }
            entry.execs = execs;
            let begins = entry.flags & (role::SERVER | role::LEADER) == role::SERVER;
            // A server that runs another one with no stdin shares its work with it.
            if begins && (!server || entry.flags & role::GIVES_ALL != 0) {
                bind();
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
        // The environment follows the arguments and is nobody's business.
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
        // A server's helper (AuthorizedKeysCommand, a PAM module's) is no session: told once, so
        // that no one goes on to take it for the server that it was forked as.
        let _ = TASKS.remove(pid);
    }
}

#[inline(always)]
pub fn exit(task: Task) {
    let pid = current_tgid();
    let Some(entry) = tracked(pid) else { return };
    if !task.group_dead() || entry.flags & role::EXITED != 0 {
        return;
    }
    if entry.flags & (role::SERVER | role::LEADER) == role::SERVER {
        bind();
    }
    entry.flags |= role::EXITED;
    let (id, flags) = (entry.session, entry.flags);
    // What the hangup of a terminal cuts off is lost inside the command, as `tee`'s input.
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
            task.fds().file(1).output(&mut r.stdout);
        }
        r.flags = flags;
        if flags & role::LEADER != 0
            && let Some(session) = session(id)
        {
            streams::now(id, session, &mut r.streams);
        }
    });
}

/// The process is gone for good: reaped, and no one can ask for it any more.
#[inline(always)]
pub fn free(task: Task) {
    let pid = task.tgid();
    if task.tid() == pid
        && let Some(entry) = tracked(pid)
        // A newcomer may have the pid already: this comes an RCU grace period late.
        && entry.start == task.proc().start
    {
        let _ = TASKS.remove(pid);
    }
}

/// Makes the current process, a server's child, the leader of a session if it has ends of its
/// server's streams as stdin, stdout and stderr. A global function: checked once by the verifier,
/// called from many places.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bind() -> u64 {
    let task = Task::current();
    let proc = task.proc();
    let Some(entry) = tracked(proc.pid) else {
        return 0;
    };
    let fds = task.fds();
    let parent = task.parent();
    if constant!(layout.tty_link) != OPTIONAL {
        tty::adopt_pty();
    }
    let mut keys = [0u64; STREAMS];
    // Loops over indices are unrolled. Before 6.4 the verifier takes no jump back to where a call
    // returns (push_insn, kernel/bpf/verifier.c).
    #[expect(clippy::needless_range_loop, reason = "see above")]
    for slot in 0..STREAMS {
        keys[slot] = streams::key_of(fds.nth(slot as u32).0, slot as u32);
    }
    let gives_all = entry.flags & role::GIVES_ALL != 0;
    let server = if gives_all {
        server_of_all(&keys)
    } else {
        first_server(keys[0], first_server(keys[1], first_server(keys[2], 0)))
    };
    if server == 0 || server == proc.pid || !gives_all && server != parent.tgid() {
        return 0;
    }
    let id = session_id(proc);
    let mut streams = [0u64; STREAMS];
    for slot in 0..STREAMS {
        let key = keys[slot];
        if let Some(stream) = streams::stream(key)
            && stream.server == server
            && (stream.session == 0 || stream.session == id)
            && is_listened_to(stream, key, slot)
        {
            streams[slot] = key;
            if stream.session == 0 {
                streams::give(stream, id, slot as u32);
            }
        }
    }
    if SESSIONS
        .insert(
            id,
            Session {
                streams,
                leader: proc.pid,
                server,
            },
            u64::from(BPF_ANY),
        )
        .is_err()
    {
        lost(loss::SESSIONS);
    }
    entry.session = id;
    entry.flags = role::LEADER;
    let conn = if parent.tgid() == server {
        tcp::connection(parent)
    } else {
        None
    };
    if let Some(sock) = conn {
        follow(streams[1], sock);
        follow(streams[2], sock);
    }

    emit(Kind::SessionStart, |r: &mut SessionStart| {
        r.session = id;
        r.leader = proc;
        r.uid = task.uid();
        r.server.pid = server;
        #[expect(clippy::needless_range_loop, reason = "unrolled, as above")]
        for slot in 0..STREAMS {
            if let Some(stream) = streams::stream(streams[slot]) {
                let ends = &mut r.streams[slot];
                ends.transport = stream.transport;
                ends.object = stream.object;
                ends.capacity = match stream.transport {
                    transport::PIPE => Pipe(streams[slot]).capacity(),
                    transport::UNIX => Unix(stream.writer).capacity(),
                    _ => 0,
                };
            }
        }
        if parent.tgid() == server {
            r.server = parent.proc();
            r.owner = parent.program().owner();
            parent.exe(&mut r.exe);
        }
        if let Some(sock) = conn {
            sock.id(&mut r.conn);
            r.progress = sock.progress();
        }
    });
    pipe::tell_closed_early(streams[0]);
    pipe::tell_closed_early(streams[1]);
    pipe::tell_closed_early(streams[2]);
    id
}

/// The server of a stream that no session has yet, else `other`.
#[inline(always)]
fn first_server(key: u64, other: u32) -> u32 {
    match streams::stream(key) {
        Some(stream) if stream.session == 0 => stream.server,
        _ => other,
    }
}

/// The server that gives all that a session has. Its helpers have less of it: `subprocess` (misc.c of
/// OpenSSH) gives AuthorizedKeysCommand a stdout alone, pam_exec(8) has one pipe for stdout and stderr.
#[inline(always)]
fn server_of_all(keys: &[u64; STREAMS]) -> u32 {
    let server = first_server(keys[0], 0);
    match streams::stream(keys[1]) {
        Some(output)
            if output.server == server
                && (output.transport != transport::PIPE || keys[1] != keys[2]) =>
        {
            server
        }
        _ => 0,
    }
}

/// What the server reads from this stream goes to that connection.
#[inline(always)]
fn follow(key: u64, conn: Sock) {
    if let Some(stream) = streams::stream(key) {
        stream.conn = conn.0;
    }
}

/// OpenSSH does not listen to a subsystem's stderr: its end of that pipe may be closed before the
/// session is known to be one.
#[inline(always)]
fn is_listened_to(stream: &StreamState, key: u64, slot: usize) -> bool {
    slot == 0 || stream.transport != transport::PIPE || Pipe(key).readers() != 0
}
