//! Which shard an address, a session or a user fragment belongs to: the routing tables shared between the threads.
//! Written when peers come and go, read for every incoming datagram. Start at [`Routes::by_address`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};

use rand::Rng;

use crate::media::transport::ice::Credentials;
use tokio::sync::mpsc::UnboundedSender;

use crate::ids::SessionId;

/// ICE's characters (RFC 8839 §5.1) without `+` and `/`, so that a user fragment can be used in logs and URLs.
const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// As many as the first character of a user fragment can distinguish.
pub const MAX_SHARDS: usize = CHARACTERS.len();

/// See the module.
pub struct Routes {
    /// Proven addresses with the shard and session that own them.
    addresses: RwLock<HashMap<SocketAddr, (usize, SessionId)>>,
    sessions: RwLock<HashMap<SessionId, usize>>,
    /// Unbounded, but each session sends at most one message.
    endings: UnboundedSender<SessionId>,
}

impl Routes {
    /// Empty tables. The ids of ended sessions are sent to `endings`.
    pub fn new(endings: UnboundedSender<SessionId>) -> Self {
        Self { addresses: RwLock::default(), sessions: RwLock::default(), endings }
    }

    /// The shard of a proven address.
    pub fn by_address(&self, address: &SocketAddr) -> Option<usize> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(address).map(|(shard, _)| *shard)
    }

    /// Assigns an address to the session that has proven it, replacing any previous owner (for example a client that
    /// was restarted and uses the same port).
    pub fn add_address(&self, address: SocketAddr, shard: usize, owner: SessionId) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).insert(address, (shard, owner));
    }

    /// Removes an address of this session; does nothing if another session owns it by now.
    pub fn remove_address(&self, address: &SocketAddr, owner: SessionId) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(address).is_some_and(|(_, session)| *session == owner) {
            addresses.remove(address);
        }
    }

    /// The number of known addresses.
    pub fn addresses(&self) -> usize {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The shard of a session.
    pub fn by_session(&self, session: &SessionId) -> Option<usize> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(session).copied()
    }

    /// The number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Adds a session to a shard; `false` if there are `limit` sessions already.
    pub fn add_session(&self, session: SessionId, shard: usize, limit: usize) -> bool {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let room = sessions.len() < limit;
        if room {
            sessions.insert(session, shard);
        }
        room
    }

    /// Removes a session and announces its end.
    pub fn remove_session(&self, session: &SessionId) {
        if self.sessions.write().unwrap_or_else(PoisonError::into_inner).remove(session).is_some() {
            let _ = self.endings.send(*session);
        }
    }
}

/// New random ICE credentials; the first character of the user fragment names the shard.
pub fn new_credentials(shard: usize) -> Credentials {
    let mut random = rand::rng();
    let mut text = |length: usize| -> String {
        (0..length).map(|_| CHARACTERS[random.random_range(0..CHARACTERS.len())] as char).collect()
    };
    let (ufrag, pwd) = (text(11), text(32));
    Credentials { ufrag: format!("{}{ufrag}", CHARACTERS[shard % MAX_SHARDS] as char), pwd }
}

/// The shard that one of our user fragments names.
pub fn shard_of(ufrag: &str) -> Option<usize> {
    let &first = ufrag.as_bytes().first()?;
    CHARACTERS.iter().position(|&character| character == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_fragment_names_its_shard() {
        for shard in [0, 1, 31, MAX_SHARDS - 1] {
            let credentials = new_credentials(shard);
            assert_eq!(shard_of(&credentials.ufrag), Some(shard));
            assert_ne!(credentials.pwd, new_credentials(shard).pwd);
        }
        assert_eq!(shard_of(""), None);
        assert_eq!(shard_of("-x"), None);
    }

    #[test]
    fn an_address_has_one_owner() {
        let routes = Routes::new(tokio::sync::mpsc::unbounded_channel().0);
        let (old, new) = (SessionId::random(), SessionId::random());
        let address = ([192, 0, 2, 1], 5000).into();
        routes.add_address(address, 0, old);
        // The same program again, from the same port, on another shard.
        routes.add_address(address, 1, new);
        routes.remove_address(&address, old);
        assert_eq!(routes.by_address(&address), Some(1));
        routes.remove_address(&address, new);
        assert_eq!((routes.by_address(&address), routes.addresses()), (None, 0));
    }

    #[test]
    fn sessions_are_limited() {
        let (endings, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let routes = Routes::new(endings);
        let (one, two) = (SessionId::random(), SessionId::random());
        assert!(routes.add_session(one, 3, 1));
        assert!(!routes.add_session(two, 3, 1));
        assert_eq!(routes.by_session(&one), Some(3));
        routes.remove_session(&one);
        routes.remove_session(&one);
        assert!(routes.add_session(two, 3, 1));
        assert_eq!(ended.try_recv(), Ok(one));
        assert!(ended.try_recv().is_err(), "announced once");
    }
}
