//! Who may watch and publish which stream: cameras by their rules, the streams of people and calls by what signaling
//! has granted for the moment. It decides, and remembers nothing. Start at [`Gate::allows`].

use crate::accounts::Accounts;
use crate::accounts::credentials::Caller;
use crate::accounts::permissions::Action;
use crate::cameras::Cameras;
use crate::names::StreamName;
use crate::signaling::grants::{Direction, Grants};
use crate::streams::{StreamHandle, Streams};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    accounts: Accounts,
    cameras: Cameras,
    streams: Streams,
    grants: Grants,
}

impl Gate {
    /// Over these.
    pub fn new(accounts: Accounts, cameras: Cameras, streams: Streams, grants: Grants) -> Self {
        Self { accounts, cameras, streams, grants }
    }

    /// What signaling has granted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The cameras.
    pub fn cameras(&self) -> &Cameras {
        &self.cameras
    }

    /// The streams.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Whether somebody may watch or publish a stream now.
    pub fn allows(&self, caller: &Caller, stream: &StreamName, direction: Direction) -> bool {
        if let Some(entry) = self.cameras.of_stream(stream) {
            let action = match direction {
                Direction::Watch => Action::WatchCamera(&entry.rule),
                Direction::Publish => Action::PublishCamera(&entry.rule),
            };
            return self.accounts.may(caller, action);
        }
        let Some(identity) = caller.identity() else { return false };
        let in_scope = match direction {
            Direction::Watch => identity.scopes.watch,
            Direction::Publish => identity.scopes.publish,
        };
        let name = &identity.person.name;
        // One's own camera may be published without anybody's asking: who watches it is decided then.
        let own = *stream == StreamName::user_camera(name)
            && (direction == Direction::Watch || self.accounts.may(caller, Action::Publish));
        in_scope && (own || self.grants.has(name, stream, direction))
    }

    /// A stream that somebody is allowed to watch or publish; made if it is one of people.
    pub fn stream(&self, id: &StreamName) -> Option<StreamHandle> {
        match self.streams.get(id) {
            None if id.camera_id().is_none() => Some(self.streams.passing(id)),
            known => known,
        }
    }
}
