//! What is told of a server's TCP connections.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Header;

/// A TCP connection.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ConnId {
    /// Address of the kernel's `struct sock`: unique among live ones.
    pub sock: u64,
    /// `AF_INET` or `AF_INET6`; 0 when not known.
    pub family: u32,
    /// Port on the server, host byte order.
    pub local_port: u16,
    /// Port on the client, host byte order.
    pub peer_port: u16,
    /// The server's address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// The client's address; IPv4 in the first four bytes.
    pub peer: [u8; 16],
}

/// How far what a server sends to its client has come, in bytes since the connection was accepted:
/// TCP payload, which is what SSH makes of the sessions' data, and one for a FIN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Progress {
    /// The server has written it to its socket (`tcp_sock.write_seq`).
    pub queued: u64,
    /// It has been on the network, once at least (`snd_nxt`).
    pub sent: u64,
    /// The client's kernel has acknowledged it (`bytes_acked`).
    pub acked: u64,
    /// When the client last sent something, ns of `CLOCK_BOOTTIME`, no more exact than the kernel's tick
    /// (1 to 10 ms); 0 when not known.
    pub heard: u64,
}

/// See [`Kind::Conn`](crate::Kind::Conn).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Conn {
    /// Time and kind.
    pub header: Header,
    /// Which.
    pub conn: ConnId,
    /// State before (`TCP_*` of include/net/tcp_states.h).
    pub old: u32,
    /// State after.
    pub new: u32,
    /// Error of the socket (`sk_err`), a positive errno; 0 for none.
    pub error: u32,
    /// Always 0.
    pub pad: u32,
    /// How far it has come.
    pub progress: Progress,
}

/// TCP ports of X11 displays 0 to 999; OpenSSH gives its clients no others (`MAX_DISPLAYS`,
/// channels.c).
pub const X11_PORTS: core::ops::Range<u16> = 6000..7000;
