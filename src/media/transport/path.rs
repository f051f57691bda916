//! The way to a peer's address: over our UDP socket, or over one of our TCP connections.

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

/// Where a datagram came from, and so where an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The other side, as the socket gives it (IPv4 may be mapped into IPv6).
    pub remote: SocketAddr,
    /// What carries it.
    pub via: Via,
    /// Our address that was written to: a host with several must answer from that one.
    pub local: Option<IpAddr>,
}

impl Path {
    /// The other side's address as it would name itself.
    pub fn canonical_remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote.ip().to_canonical(), self.remote.port())
    }
}

impl PartialEq for Path {
    /// The same way to the other side; which of our addresses it chose does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.remote == other.remote && self.via == other.via
    }
}

impl Eq for Path {}
