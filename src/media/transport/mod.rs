//! How datagrams travel between a peer and us: the sockets, whose a datagram is, connectivity (ICE), keys (DTLS) and
//! encryption (SRTP). It does not know what the media is; that is `publish` and `subscribe`.

pub mod dtls;
pub mod ice;
pub mod path;
pub mod routes;
pub mod socket;
pub mod srtp;
pub mod stun;
pub mod tcp;
