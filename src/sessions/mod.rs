//! What runs on a right: pictures to viewers, pictures from publishers, open sockets. `registry` knows all of them and
//! admits new ones within the limits; `revocation` ends them when their right ends. What the rights are is decided by
//! [`crate::gate`].

pub mod registry;
pub mod revocation;
