//! The start of a session.
//!
//! A server's child leads a session once it has ends of its server's streams as stdin, stdout and
//! stderr. That is seen at its exec or, when it never execs (internal-sftp), at its first read,
//! write, fork or exit.

use tracer_ebpf::{Kind, STREAMS, Session, SessionStart, StreamState, role, session_id, transport};

use crate::{
    emit::emit,
    kernel::{File, Pipe, Sock, Task, Tty, Unix},
    pipe, streams,
    tasks::{add_session, tracked},
    tcp, tty,
};

/// Makes the current process, a server's child, the leader of a session if it has ends of its
/// server's streams as stdin, stdout and stderr. Returns the session's id, or 0.
///
/// It is a global function: the verifier checks it once, and many programs call it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn start_session() -> u64 {
    let task = Task::current();
    let proc = task.proc();
    let Some(entry) = tracked(proc.pid) else {
        return 0;
    };
    let fds = task.fds();
    let parent = task.parent();
    if Tty::is_supported() {
        tty::adopt_pty();
    }
    let mut keys = [0u64; STREAMS];
    // Loops over indices are unrolled. Before 6.4 the verifier accepts no jump back to the
    // instruction after a call (push_insn, kernel/bpf/verifier.c).
    #[expect(clippy::needless_range_loop, reason = "see above")]
    for slot in 0..STREAMS {
        keys[slot] = key_of(fds.nth(slot as u32).0, slot as u32);
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
            && server_reads(stream, key, slot)
        {
            streams[slot] = key;
            if stream.session == 0 {
                streams::assign(stream, id, slot as u32);
            }
        }
    }
    add_session(
        id,
        Session {
            streams,
            leader: proc.pid,
            server,
        },
    );
    entry.session = id;
    entry.flags = role::LEADER;
    let conn = if parent.tgid() == server {
        tcp::connection(parent)
    } else {
        None
    };
    if let Some(sock) = conn {
        set_connection(streams[1], sock);
        set_connection(streams[2], sock);
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
    pipe::report_closed_early(streams[0]);
    pipe::report_closed_early(streams[1]);
    pipe::report_closed_early(streams[2]);
    id
}

/// Key of the stream that a leader has as descriptor `slot`, or 0 if the file cannot be a stream.
///
/// It is a global function: the verifier checks it once, and each slot calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn key_of(file: u64, slot: u32) -> u64 {
    let file = File(file);
    if let Some(pipe) = file.pipe() {
        streams::pipe_key(pipe.0, file)
    } else if let Some(socket) = file.unix() {
        if slot == 0 { socket.0 } else { socket.peer().0 }
    } else if let Some(tty) = file.pts() {
        if slot == 0 { tty.0 } else { tty.link().0 }
    } else {
        0
    }
}

/// The server of a stream that no session has yet, else `other`.
#[inline(always)]
fn first_server(key: u64, other: u32) -> u32 {
    match streams::stream(key) {
        Some(stream) if stream.session == 0 => stream.server,
        _ => other,
    }
}

/// The server of a session that has all its streams from it. A subprocess of the server's own has
/// fewer: `subprocess` (misc.c of OpenSSH) gives AuthorizedKeysCommand a stdout alone, and
/// pam_exec(8) uses one pipe for stdout and stderr.
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
fn set_connection(key: u64, conn: Sock) {
    if let Some(stream) = streams::stream(key) {
        stream.conn = conn.0;
    }
}

/// Whether the server reads this output. OpenSSH ignores a subsystem's stderr, and its end of that
/// pipe may be closed before the session is known to be a subsystem.
#[inline(always)]
fn server_reads(stream: &StreamState, key: u64, slot: usize) -> bool {
    slot == 0 || stream.transport != transport::PIPE || Pipe(key).readers() != 0
}
