//! Unix sockets, their receive queues, and the files that messages carry.

use super::{
    File, constant, field, long, read,
    sock::{S_IFSOCK, SOCK_STREAM},
};

const AF_UNIX: u16 = 1;
/// Most buffers of a receive queue that are added up. A sender's buffer space (`wmem_default`,
/// 208 KiB) holds some 280 at most, because each is charged for its bookkeeping as well.
const BUFFERS: u32 = 1024;
/// State of a socket that accepts connections, whatever its family (include/net/tcp_states.h).
const TCP_LISTEN: u8 = 10;
/// Bit of `sk_flags` (`enum sock_flags`, include/net/sock.h).
const SOCK_DEAD: u64 = 1;

/// A `struct sock` of a unix socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unix(pub u64);

impl Unix {
    /// The socket of a `struct socket`.
    #[inline(always)]
    pub fn of_socket(socket: u64) -> Self {
        Self(field!(socket, socket_sk: u64))
    }

    /// Inode number of a `struct socket`.
    #[inline(always)]
    pub fn ino_of_socket(socket: u64) -> u64 {
        let inode = socket + u64::from(constant!(layout.socket_inode));
        field!(inode, inode_ino: u64)
    }

    /// The socket that it is connected to.
    #[inline(always)]
    pub fn peer(self) -> Self {
        Self(field!(self.0, unix_peer: u64))
    }

    /// Whether no process has it any more.
    #[inline(always)]
    pub fn is_dead(self) -> bool {
        self.0 == 0 || field!(self.0, sock_flags: u64) & SOCK_DEAD != 0
    }

    /// Size of its send buffer in bytes.
    #[inline(always)]
    pub fn capacity(self) -> u32 {
        field!(self.0, sock_sndbuf: u32)
    }

    /// Bytes in its receive queue.
    #[inline(always)]
    pub fn unread(self) -> u64 {
        unix_unread(self.0)
    }

    /// Whether it accepts connections. They wait in its receive queue until they are accepted.
    #[inline(always)]
    pub fn is_listener(self) -> bool {
        field!(self.0, sock_state: u8) == TCP_LISTEN
    }

    /// Whether its receive queue is empty.
    #[inline(always)]
    pub fn is_drained(self) -> bool {
        self.queue().is_empty()
    }

    /// Its receive queue.
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
}

impl File {
    /// The unix socket of any type, if the file is one.
    #[inline(always)]
    pub fn any_unix(self) -> Option<Unix> {
        if self.0 == 0 || self.kind() != S_IFSOCK {
            return None;
        }
        let sock = Unix::of_socket(self.private());
        (field!(sock.0, sock_family: u16) == AF_UNIX).then_some(sock)
    }

    /// The unix stream socket, if the file is one.
    #[inline(always)]
    pub fn unix(self) -> Option<Unix> {
        self.any_unix()
            .filter(|sock| field!(sock.0, sock_type: u16) == SOCK_STREAM)
    }
}

/// Bytes in a socket's receive queue: of each buffer, its length less what was received from it
/// already. It is a global function, so that the verifier checks its loop once.
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

/// Bytes of one buffer; for a loop, see [`super::word`].
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
    /// The files that it carries; address 0 for none.
    #[inline(always)]
    pub fn files(self) -> ScmFiles {
        ScmFiles(read(
            self.0,
            constant!(layout.skb_cb) + constant!(layout.unix_cb_files),
        ))
    }

    /// In a listener's queue: the socket that accept(2) will return for it (`unix_accept`,
    /// net/unix/af_unix.c).
    #[inline(always)]
    pub fn connection(self) -> Unix {
        Unix(field!(self.0, skb_sk: u64))
    }
}

/// A `struct scm_fp_list`: the files of one message.
#[derive(Clone, Copy)]
pub struct ScmFiles(pub u64);

impl ScmFiles {
    /// Most files of one message (`SCM_MAX_FD`, include/net/scm.h).
    pub const MAX: u32 = 253;

    /// The files of a `struct scm_cookie`, a message that is being received.
    #[inline(always)]
    pub fn of_cookie(message: u64) -> Self {
        Self(field!(message, scm_files: u64))
    }

    /// Number of files.
    #[inline(always)]
    pub fn count(self) -> u32 {
        u32::from(field!(self.0, scm_count: u16))
    }

    /// The file with index `i`.
    #[inline(always)]
    pub fn file(self, i: u32) -> File {
        File(read(
            self.0,
            constant!(layout.scm_list).wrapping_add(i.wrapping_mul(8)),
        ))
    }
}
