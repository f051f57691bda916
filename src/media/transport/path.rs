//! A network path to a peer: its address, over our UDP socket or one of our TCP connections.

use std::net::{IpAddr, SocketAddr};

/// One ICE-TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnectionId(pub u64);

/// What carries the datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Via {
    /// The one UDP socket.
    Udp,
    /// A TCP connection with RFC 4571 framing.
    Tcp(ConnectionId),
}

/// Where a datagram came from and where the response is sent.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The remote address as reported by the socket (IPv4 may be mapped into IPv6).
    pub remote: SocketAddr,
    /// What carries it.
    pub via: Via,
    /// Our address that the datagram was sent to: a host with several must respond from the same one.
    pub local: Option<IpAddr>,
}

impl Path {
    /// The remote address with mapped IPv4 converted to plain IPv4.
    pub fn canonical_remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote.ip().to_canonical(), self.remote.port())
    }
}

impl PartialEq for Path {
    /// Compares the remote side only; which of our addresses it uses does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.remote == other.remote && self.via == other.via
    }
}

impl Eq for Path {}
