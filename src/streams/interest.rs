//! Whether somebody needs a source to run: a reference count, raised by cloning an [`Interest`] and lowered by dropping
//! it.

use std::sync::Arc;

use tokio::sync::Notify;

/// As long as one exists, the source keeps running, even without a sink.
pub struct Interest {
    count: Option<Arc<()>>,
    pub(super) changed: Arc<Notify>,
}

impl Interest {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { count: Some(Arc::new(())), changed }
    }

    pub(super) fn is_wanted(&self) -> bool {
        // Two always exist: the task's own, and the one in the handles from which the others are cloned.
        self.count.as_ref().is_some_and(|count| Arc::strong_count(count) > 2)
    }
}

impl Clone for Interest {
    fn clone(&self) -> Self {
        let clone = Self { count: self.count.clone(), changed: self.changed.clone() };
        self.changed.notify_one();
        clone
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.count = None;
        self.changed.notify_one();
    }
}
