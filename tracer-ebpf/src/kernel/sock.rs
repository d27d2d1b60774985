//! TCP sockets.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_probe_read_kernel_buf};
use tracer_ebpf::{ConnId, OPTIONAL, Progress};

use super::{File, constant, field, now};

pub const S_IFSOCK: u16 = 0o140_000;
pub const SOCK_STREAM: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

/// A `struct sock`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sock(pub u64);

impl Sock {
    #[inline(always)]
    fn is_tcp(self) -> bool {
        let family = field!(self.0, sock_family: u16);
        (family == AF_INET || family == AF_INET6)
            && field!(self.0, sock_type: u16) == SOCK_STREAM
            && (field!(self.0, sock_protocol: u16) & 0xff) == IPPROTO_TCP
    }

    /// `TCP_*` of include/net/tcp_states.h.
    #[inline(always)]
    pub fn state(self) -> u8 {
        field!(self.0, sock_state: u8)
    }

    /// Port on this side, host byte order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        field!(self.0, sock_lport: u16)
    }

    /// Port on the other side, host byte order.
    #[inline(always)]
    pub fn peer_port(self) -> u16 {
        u16::from_be(field!(self.0, sock_dport: u16))
    }

    /// Pending error, a positive errno; 0 for none.
    #[inline(always)]
    pub fn error(self) -> u32 {
        field!(self.0, sock_err: u32)
    }

    /// Sequence number of the next byte that is written to it, modulo 2^32.
    #[inline(always)]
    pub fn write_seq(self) -> u32 {
        field!(self.0, tcp_write_seq: u32)
    }

    #[inline(always)]
    pub fn progress(self) -> Progress {
        let unacked = field!(self.0, tcp_snd_una: u32);
        let acked = field!(self.0, tcp_bytes_acked: u64);
        let past = |at: u32| acked + u64::from(at.wrapping_sub(unacked));
        Progress {
            queued: past(self.write_seq()),
            sent: past(field!(self.0, tcp_snd_nxt: u32)),
            acked,
            heard: self.heard(),
        }
    }

    /// Time when the peer last sent data; `tcp_event_data_recv` (net/ipv4/tcp_input.c) notes the
    /// jiffy.
    #[inline(always)]
    fn heard(self) -> u64 {
        if constant!(layout.tcp_heard) == OPTIONAL {
            return 0;
        }
        // SAFETY: no arguments.
        let jiffies = unsafe { bpf_jiffies64() } as u32;
        let ago = jiffies.wrapping_sub(field!(self.0, tcp_heard: u32));
        now().saturating_sub(u64::from(ago) * u64::from(constant!(tick)))
    }

    /// Writes its identity to `out`, which must be zero.
    #[inline(always)]
    pub fn id(self, out: &mut ConnId) {
        let family = field!(self.0, sock_family: u16);
        out.sock = self.0;
        out.family = u32::from(family);
        out.local_port = self.local_port();
        out.peer_port = self.peer_port();
        if family == AF_INET {
            self.address(constant!(layout.sock_saddr), &mut out.local[..4]);
            self.address(constant!(layout.sock_daddr), &mut out.peer[..4]);
        } else {
            self.address(constant!(layout.sock_saddr6), &mut out.local);
            self.address(constant!(layout.sock_daddr6), &mut out.peer);
        }
    }

    #[inline(always)]
    fn address(self, offset: u32, out: &mut [u8]) {
        if offset != OPTIONAL {
            // SAFETY: the helper checks the address.
            let _ = unsafe {
                bpf_probe_read_kernel_buf((self.0 + u64::from(offset)) as *const u8, out)
            };
        }
    }
}

impl File {
    /// The TCP socket, if the file is one.
    #[inline(always)]
    pub fn tcp(self) -> Option<Sock> {
        if self.0 == 0 || self.kind() != S_IFSOCK {
            return None;
        }
        let sock = Sock(field!(self.private(), socket_sk: u64));
        sock.is_tcp().then_some(sock)
    }
}
