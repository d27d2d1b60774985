//! Records about the TCP connections that sessions run on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// The identity of a TCP connection.
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

/// How much of what a server sends to its client is queued, sent and acknowledged: bytes of TCP
/// payload since the connection was accepted, plus one for a FIN. The payload is what SSH makes of
/// the sessions' data.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Progress {
    /// Bytes that the server has written to its socket (`tcp_sock.write_seq`).
    pub queued: u64,
    /// Bytes that were sent at least once (`snd_nxt`).
    pub sent: u64,
    /// Bytes that the client's kernel has acknowledged (`bytes_acked`).
    pub acked: u64,
    /// Time when the client last sent data, ns of `CLOCK_BOOTTIME`, to the precision of the kernel's
    /// tick (1 to 10 ms); 0 when not known.
    pub heard: u64,
}

/// See [`Kind::Conn`](super::Kind::Conn).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Conn {
    /// Time and kind.
    pub header: Header,
    /// The connection.
    pub conn: ConnId,
    /// State before (`TCP_*` of include/net/tcp_states.h).
    pub old: u32,
    /// State after.
    pub new: u32,
    /// Error of the socket (`sk_err`), a positive errno; 0 for none.
    pub error: u32,
    /// Always 0.
    pub pad: u32,
    /// Progress at this moment.
    pub progress: Progress,
}

/// TCP ports of X11 displays 0 to 999, the only ones that OpenSSH forwards (`MAX_DISPLAYS`,
/// channels.c).
pub const X11_PORTS: core::ops::Range<u16> = 6000..7000;
