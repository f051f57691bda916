//! Who may watch and publish which stream: cameras by their rules, the streams of users and calls by what signaling
//! currently grants. It decides but has no state of its own. Start at [`Gate::allows`].

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
    /// Creates it from its dependencies.
    pub fn new(accounts: Accounts, cameras: Cameras, streams: Streams, grants: Grants) -> Self {
        Self { accounts, cameras, streams, grants }
    }

    /// The current grants of signaling.
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
        // Users may publish their own camera without a grant: each viewer is checked separately.
        let own = *stream == StreamName::user_camera(name)
            && (direction == Direction::Watch || self.accounts.may(caller, Action::Publish));
        in_scope && (own || self.grants.has(name, stream, direction))
    }

    /// A stream by name, after the permission check; streams of users and calls are created on demand.
    pub fn stream(&self, id: &StreamName) -> Option<StreamHandle> {
        match self.streams.get(id) {
            None if id.camera_id().is_none() => Some(self.streams.passing(id)),
            known => known,
        }
    }
}
