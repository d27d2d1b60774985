//! Unix socketpairs. Bytes wait in the receive queue of the socket that is to read them: the
//! server's for stdout and stderr, the session's for stdin.

use tracer_ebpf::{StreamState, edge, told, transport};

use crate::{
    kernel::{File, constant, current_tgid, field, long, read},
    streams::{self, by_server, once, server_close, stream},
};

/// Buffers of a receive queue that are added up. A sender's buffer space (`wmem_default`, 208 KiB)
/// holds some 280 at most, since each is charged its bookkeeping as well.
const BUFFERS: u32 = 1024;
/// State of a socket that takes connections, whatever its family (include/net/tcp_states.h).
const TCP_LISTEN: u8 = 10;
/// Bit of `sk_flags` (`enum sock_flags`, include/net/sock.h).
const SOCK_DEAD: u64 = 1;

/// A `struct sock` of a unix stream socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unix(pub u64);

impl Unix {
    /// The socket behind a `struct socket`.
    #[inline(always)]
    pub fn of_socket(socket: u64) -> Self {
        Self(field!(socket, socket_sk: u64))
    }

    #[inline(always)]
    pub fn peer(self) -> Self {
        Self(field!(self.0, unix_peer: u64))
    }

    /// No process has it any more.
    #[inline(always)]
    pub fn is_dead(self) -> bool {
        self.0 == 0 || field!(self.0, sock_flags: u64) & SOCK_DEAD != 0
    }

    #[inline(always)]
    pub fn capacity(self) -> u32 {
        field!(self.0, sock_sndbuf: u32)
    }

    #[inline(always)]
    pub fn unread(self) -> u64 {
        unix_unread(self.0)
    }

    /// It takes connections, which wait in its receive queue until they are accepted.
    #[inline(always)]
    pub fn is_listener(self) -> bool {
        field!(self.0, sock_state: u8) == TCP_LISTEN
    }

    /// Nothing waits to be received.
    #[inline(always)]
    pub fn is_drained(self) -> bool {
        self.queue().is_empty()
    }

    /// What waits to be received.
    #[inline(always)]
    pub fn queue(self) -> Queue {
        // A queue is a ring of buffers through its own head.
        let head = self.0 + u64::from(constant!(layout.sock_receive_queue));
        Queue {
            head,
            next: read(head, 0),
        }
    }

    /// Pid of the process that made the socket at the other end, or listens for it; 0 for none.
    #[inline(always)]
    pub fn peer_pid(self) -> u32 {
        let pid = field!(self.0, sock_peer_pid: u64);
        field!(pid, pid_numbers: u32)
    }

    /// The stream that this socket reads.
    #[inline(always)]
    fn incoming(self) -> Option<&'static mut StreamState> {
        stream(self.0).filter(|state| state.reader == self.0)
    }
}

/// Bytes in a socket's receive queue: what each buffer holds less what was taken from it. A global
/// function, so that the verifier checks its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unix_unread(sock: u64) -> u64 {
    let mut queue = Unix(sock).queue();
    let mut sum = 0u64;
    for _ in 0..BUFFERS {
        let Some(buffer) = queue.next() else { break };
        sum += skb_bytes(buffer.0);
    }
    sum
}

/// Bytes of one buffer; for a loop, see [`crate::kernel::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn skb_bytes(buffer: u64) -> u64 {
    let consumed = read::<u32>(
        buffer,
        constant!(layout.skb_cb) + constant!(layout.unix_cb_consumed),
    );
    u64::from(field!(buffer, skb_len: u32).saturating_sub(consumed))
}

/// A walk along a receive queue.
pub struct Queue {
    head: u64,
    next: u64,
}

impl Queue {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.next == 0 || self.next == self.head
    }

    /// The next buffer, if there is one.
    #[inline(always)]
    pub fn next(&mut self) -> Option<Buffer> {
        if self.is_empty() {
            return None;
        }
        let buffer = Buffer(self.next);
        self.next = long(buffer.0);
        Some(buffer)
    }
}

/// A `struct sk_buff` of a unix socket's receive queue.
#[derive(Clone, Copy)]
pub struct Buffer(u64);

impl Buffer {
    /// Files that come with it (`struct scm_fp_list`), 0 for none.
    #[inline(always)]
    pub fn files(self) -> u64 {
        read(
            self.0,
            constant!(layout.skb_cb) + constant!(layout.unix_cb_files),
        )
    }

    /// In a listener's queue: the socket that accept(2) will give for it (`unix_accept`,
    /// net/unix/af_unix.c).
    #[inline(always)]
    pub fn connection(self) -> Unix {
        Unix(field!(self.0, skb_sk: u64))
    }
}

/// A server made a pair of sockets; which end is the session's is seen when it starts.
#[inline(always)]
pub fn paired(a: u64, b: u64) {
    if by_server() {
        let (x, y) = (Unix::of_socket(a), Unix::of_socket(b));
        half(x, y, a);
        half(y, x, b);
    }
}

#[inline(always)]
fn half(reader: Unix, writer: Unix, socket: u64) {
    if reader.0 == 0 {
        return;
    }
    let inode = socket + u64::from(constant!(layout.socket_inode));
    if let Some(state) = streams::created(reader.0, transport::UNIX) {
        state.object = field!(inode, inode_ino: u64);
        state.reader = reader.0;
        state.writer = writer.0;
        state.server = current_tgid();
    }
}

/// Key of the stream that a write to this socket goes to, 0 for none.
#[inline(always)]
pub fn written(sock: Unix) -> u64 {
    let peer = sock.peer().0;
    match stream(peer) {
        Some(state) if state.writer == sock.0 => peer,
        _ => 0,
    }
}

/// Key of the stream that a read from this socket takes from, 0 for none.
#[inline(always)]
pub fn taken(sock: Unix) -> u64 {
    sock.incoming().map_or(0, |_| sock.0)
}

/// A socket is being released by its last holder, or (`refs` > 1) closed by one of them.
#[inline(always)]
pub fn release(sock: Unix, refs: u32) {
    if let Some(state) = sock.incoming() {
        if state.session == 0 {
            streams::freed(sock.0);
        } else if state.slot != 0 {
            server_close(state, sock.0, refs);
        } else if refs == 1 {
            once(told::SESSION_CLOSED, edge::SESSION_CLOSE, state, sock.0, 0);
        }
    }
    let peer = sock.peer().0;
    if let Some(state) = stream(peer).filter(|state| state.writer == sock.0 && state.session != 0) {
        if state.slot == 0 {
            server_close(state, peer, refs);
        } else if refs == 1 {
            once(told::WRITERS_GONE, edge::WRITERS_GONE, state, peer, 0);
        }
    }
}

/// A descriptor is being closed, where releases themselves cannot be seen.
#[inline(always)]
pub fn close(file: File, pid: u32) {
    let Some(sock) = file.unix() else { return };
    let refs = file.refs();
    let ours = |state: &mut StreamState| state.server == pid && state.session != 0;
    let is_server_end = sock
        .incoming()
        .is_some_and(|state| ours(state) && state.slot != 0)
        || stream(sock.peer().0).is_some_and(|state| ours(state) && state.slot == 0);
    if refs == 1 || is_server_end {
        release(sock, refs);
    }
}
