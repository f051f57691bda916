//! Running sessions that depend on permissions: media sessions of viewers and publishers, and open sockets. `registry`
//! lists all of them and admits new ones within the limits; `revocation` terminates them when their permission ends.
//! The permissions themselves are decided by [`crate::gate`].

pub mod registry;
pub mod revocation;
