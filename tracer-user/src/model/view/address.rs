//! Addresses of a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_ebpf::ConnId;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The client's and the server's address of a connection, when known.
pub(in crate::model) fn addresses(conn: &ConnId) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |bytes: [u8; 16]| match conn.family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::new(
            bytes[0], bytes[1], bytes[2], bytes[3],
        ))),
        // A dual-stack listener sees IPv4 clients as mapped addresses.
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()),
        _ => None,
    };
    Some((
        SocketAddr::new(ip(conn.peer)?, conn.peer_port),
        SocketAddr::new(ip(conn.local)?, conn.local_port),
    ))
}
