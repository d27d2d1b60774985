//! TCP sockets that may be the reason why a connection stays open.
//!
//! This is another step of the walk over all descriptors (see `holders`). It is a program of its own,
//! because the stack and the number of instructions that the verifier accepts are limited for each.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use tracer_ebpf::{ConnId, Header, Kind, Socket, Task as Entry, X11_PORTS, role};

use crate::{
    holders, kernel,
    kernel::{File, Sock, Task},
    tasks, tcp,
};

/// One descriptor of one task; `seq` is the iterator's output.
#[inline(always)]
pub fn descriptor(seq: *mut c_void, task: Task, fd: u32, file: File) {
    let Some(sock) = file.tcp() else { return };
    let session = if holders::scans_all() {
        0
    } else {
        let Some(entry) = tasks::tracked(task.tgid()) else {
            return;
        };
        if !tcp::is_connected(sock.state()) || !matters(sock, entry) {
            return;
        }
        entry.session
    };
    let mut socket = Socket {
        header: Header::new(Kind::Socket, kernel::now()),
        session,
        proc: task.proc(),
        parent: task.parent().tgid(),
        ns_pid: task.ns_pid(),
        uid: task.uid(),
        fd,
        state: u32::from(sock.state()),
        pad: 0,
        conn: ConnId::default(),
        progress: sock.progress(),
        comm: task.comm(),
    };
    sock.id(&mut socket.conn);
    // SAFETY: `seq` is the context's own, the bytes are a padding-free struct on the stack.
    unsafe {
        bpf_seq_write(
            seq.cast(),
            (&raw const socket).cast(),
            size_of::<Socket>() as u32,
        );
    }
}

/// Whether the socket is a server's (the connection of its sessions, or possibly a forward), or the
/// X11 client's end of one.
#[inline(always)]
fn matters(sock: Sock, process: &Entry) -> bool {
    process.flags & role::SERVER != 0
        || (process.session != 0 && X11_PORTS.contains(&sock.peer_port()))
}
