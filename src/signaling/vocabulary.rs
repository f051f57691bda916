//! The input and output types of the signaling core. Data types only: the logic is in `Core`; start reading there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accounts::calls::CallRecord;
use crate::accounts::permissions::{Person, Rules};
use crate::accounts::preferences::Preferences;
use crate::names::StreamName;

/// A socket's number, assigned by the driver and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Conn(pub u64);

/// A user who can be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Login name, role, groups.
    pub person: Person,
    /// The display name.
    pub display: String,
    /// The user's own settings.
    pub preferences: Preferences,
}

/// All users, and the permission rules set by admins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directory {
    /// Keyed by lower-case login name.
    pub members: BTreeMap<String, Member>,
    /// The permission rules.
    pub rules: Rules,
}

impl Directory {
    /// Whether the difference is visible to other users. Preferences are not: they only concern their owner.
    pub(super) fn looks_other_than(&self, other: &Self) -> bool {
        let look = |member: &Member| (member.person.clone(), member.display.clone());
        self.rules != other.rules
            || self.members.len() != other.members.len()
            || self
                .members
                .iter()
                .any(|(user, member)| other.members.get(user).map(look) != Some(look(member)))
    }
}

/// An input to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A logged-in user opened a socket. `secret` becomes the id of a session that starts on it; the driver supplies
    /// it because the core has no randomness.
    Connected {
        /// The socket.
        conn: Conn,
        /// The login name.
        user: String,
        /// 128 random bits.
        secret: u128,
    },
    /// A frame arrived.
    Frame {
        /// The socket it arrived on.
        conn: Conn,
        /// Its text.
        text: String,
    },
    /// A socket was closed.
    Disconnected {
        /// The socket.
        conn: Conn,
        /// Its login has ended: the session cannot be resumed.
        for_good: bool,
    },
    /// A user's subscription to a stream has begun or ended.
    Picture {
        /// The login name.
        user: String,
        /// The watched stream.
        stream: StreamName,
        /// `true` if it began.
        began: bool,
    },
    /// Accounts or rules have changed.
    Directory(Arc<Directory>),
    /// Time has passed: due at `Core::next_deadline`.
    Tick,
}

/// An output of the core: something for the driver to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a frame to a socket.
    Send(Conn, Arc<str>),
    /// Send frames to a socket; together they take one slot in its queue, however many they are.
    SendAll(Conn, Arc<[Arc<str>]>),
    /// Close a socket with a WebSocket close code and reason.
    Close(Conn, u16, &'static str),
    /// A call has ended; write it to the call history.
    Ended(CallRecord),
}
