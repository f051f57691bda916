//! Who may watch and publish which stream: cameras by their rules, the streams of people and calls by what signaling
//! has granted for the moment. It decides, and remembers nothing. Start at [`Gate::allows`].

use crate::accounts::Accounts;
use crate::accounts::credentials::Caller;
use crate::accounts::permissions::Action;
use crate::cameras::Cameras;
use crate::ids::StreamId;
use crate::signaling::grants::{Grants, Way};
use crate::signaling::watch::camera_of;
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
    pub fn allows(&self, caller: &Caller, stream: &StreamId, way: Way) -> bool {
        if let Some(entry) = self.cameras.of_stream(stream) {
            let action = match way {
                Way::Watch => Action::WatchCamera(&entry.rule),
                Way::Publish => Action::PublishCamera(&entry.rule),
            };
            return self.accounts.may(caller, action);
        }
        let Some(identity) = caller.identity() else { return false };
        let in_scope = match way {
            Way::Watch => identity.scopes.watch,
            Way::Publish => identity.scopes.publish,
        };
        let name = &identity.person.name;
        // One's own camera may be published without anybody's asking: who watches it is decided then.
        let own = stream.as_str() == camera_of(name)
            && (way == Way::Watch || self.accounts.may(caller, Action::Publish));
        in_scope && (own || self.grants.has(name, stream.as_str(), way))
    }

    /// A stream that somebody is allowed to watch or publish; made if it is one of people.
    pub fn stream(&self, id: &StreamId) -> Option<StreamHandle> {
        match self.streams.get(id) {
            None if !id.as_str().starts_with("camera/") => Some(self.streams.passing(id)),
            known => known,
        }
    }
}
