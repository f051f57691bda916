//! What signaling allows for the moment: who may watch, and who may publish, the stream of a person's camera or of a
//! call. The core says it, its driver puts it here, whoever serves streams looks it up.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::names::StreamName;

/// Which way a stream goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// To whoever has the grant.
    Watch,
    /// From them.
    Publish,
}

/// One permission, as long as it lasts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Grant {
    /// The login name, in lower case.
    pub user: String,
    /// The stream's name.
    pub stream: StreamName,
    /// Which direction.
    pub direction: Direction,
}

/// All of them. Cheap to clone.
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
    /// Whether somebody has it.
    pub fn has(&self, user: &str, stream: &StreamName, direction: Direction) -> bool {
        let grant = Grant { user: user.to_lowercase(), stream: stream.clone(), direction };
        self.held.load().contains(&grant)
    }

    /// These and no others.
    pub(super) fn set(&self, grants: Vec<Grant>) {
        self.held.store(Arc::new(grants.into_iter().collect()));
        self.changed.send_replace(());
    }

    /// Follows changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
