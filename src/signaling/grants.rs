//! The temporary permissions granted by signaling: who may currently watch or publish the stream of a person's camera
//! or of a call. The core computes them, its driver stores them here, and the code that serves streams looks them up.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::names::StreamName;

/// Direction of the stream, as seen by the user who holds the grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// The user receives it.
    Watch,
    /// The user sends it.
    Publish,
}

/// One temporary permission.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Grant {
    /// The login name, in lower case.
    pub user: String,
    /// The stream's name.
    pub stream: StreamName,
    /// Watch or publish.
    pub direction: Direction,
}

/// All current grants. Cheap to clone.
#[derive(Clone)]
pub struct Grants {
    held: Arc<ArcSwap<HashSet<Grant>>>,
    changed: watch::Sender<()>,
}

impl Default for Grants {
    fn default() -> Self {
        Self { held: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Grants {
    /// Whether a user holds this grant.
    pub fn has(&self, user: &str, stream: &StreamName, direction: Direction) -> bool {
        let grant = Grant { user: user.to_lowercase(), stream: stream.clone(), direction };
        self.held.load().contains(&grant)
    }

    /// Replaces all grants.
    pub(super) fn set(&self, grants: Vec<Grant>) {
        self.held.store(Arc::new(grants.into_iter().collect()));
        self.changed.send_replace(());
    }

    /// Notifies about changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
