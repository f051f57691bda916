//! What the core of signaling is told, and what it answers. Words alone: what becomes of them is `Core`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accounts::calls::CallRecord;
use crate::accounts::permissions::{Person, Rules};
use crate::accounts::preferences::Preferences;
use crate::names::StreamName;

/// A socket's number, given by the driver and never twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Conn(pub u64);

/// Somebody who can be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Login name, role, groups.
    pub person: Person,
    /// The name for people.
    pub display: String,
    /// What they have decided for themselves.
    pub preferences: Preferences,
}

/// Everybody with an account, and what admins decide between them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directory {
    /// By login name in lower case.
    pub members: BTreeMap<String, Member>,
    /// Who may what.
    pub rules: Rules,
}

impl Directory {
    /// Whether somebody may see somebody differently: what people decide for themselves is nobody else's.
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

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// A socket was opened by somebody who is logged in. `secret` names a session that may begin on it: 128 random
    /// bits from the driver.
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
        /// From where.
        conn: Conn,
        /// Its text.
        text: String,
    },
    /// A socket is gone.
    Disconnected {
        /// Which.
        conn: Conn,
        /// Its login has ended: there is nothing to come back to.
        for_good: bool,
    },
    /// A picture of a stream has begun, or has ended, on its way to a user.
    Picture {
        /// The login name.
        user: String,
        /// What is watched.
        stream: StreamName,
        /// Which of the two.
        began: bool,
    },
    /// Accounts or rules have changed.
    Directory(Arc<Directory>),
    /// Time has passed: due at `Core::next_deadline`.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A frame for a socket.
    Send(Conn, Arc<str>),
    /// Frames for a socket that take one place among those that wait for it, however many they are.
    SendAll(Conn, Arc<[Arc<str>]>),
    /// A socket is to be closed, with a code of the WebSocket protocol and a word.
    Close(Conn, u16, &'static str),
    /// A call has ended: for the history.
    Ended(CallRecord),
}
