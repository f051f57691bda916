//! How datagrams travel between peers and us: sockets, routing of datagrams to peers, connectivity (ICE), keys (DTLS)
//! and encryption (SRTP). It knows nothing about media; that is `publish` and `subscribe`. Start at [`ice`].

pub mod dtls;
pub mod ice;
pub mod path;
pub mod routes;
pub mod socket;
pub mod srtp;
pub mod stun;
pub mod tcp;
