//! The queues that lead to a shard. Messages that must not be lost (sessions, replies, revocations) have their own,
//! which never drops. Media and datagrams are dropped if a shard is overloaded, each from its own queue, so that a
//! flood of checks from unproven addresses displaces neither media nor the reports of connected peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use crate::media::shard::Control;
use crate::media::transport::path::Path;
use crate::streams::packet::SharedBatch;

/// Batches of streams: about eight seconds of 32 cameras at 30 frames per second.
const MEDIA: usize = 8192;
/// Datagrams from proven addresses.
const DATAGRAMS: usize = 4096;
/// Datagrams from unproven addresses.
const STRANGERS: usize = 512;

/// A datagram and where it came from.
pub type Datagram = (Path, Vec<u8>);
/// A batch of packets and the number of the stream generation that it belongs to.
pub type Media = (u64, SharedBatch);

/// The sending side. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    /// Wakes the shard: it blocks on this channel only, whichever queue a message is in.
    bell: SyncSender<()>,
    /// Unbounded, but each request and each session sends only a few messages.
    control: Sender<Control>,
    media: SyncSender<Media>,
    datagrams: SyncSender<Datagram>,
    strangers: SyncSender<Datagram>,
    dropped: Arc<AtomicU64>,
}

/// The receiving side, which a shard owns.
pub struct Inbox {
    bell: Receiver<()>,
    /// Messages that must not be lost.
    pub control: Receiver<Control>,
    /// Batches of streams.
    pub media: Receiver<Media>,
    /// Datagrams from proven addresses.
    pub datagrams: Receiver<Datagram>,
    /// Datagrams from all other addresses.
    pub strangers: Receiver<Datagram>,
}

/// Both sides of a shard's queues.
pub fn queues() -> (ShardHandle, Inbox) {
    let (bell, woken) = sync_channel(1);
    let (control, controls) = channel();
    let (media, medias) = sync_channel(MEDIA);
    let (datagrams, known) = sync_channel(DATAGRAMS);
    let (strangers, unknown) = sync_channel(STRANGERS);
    let dropped = Arc::default();
    let handle = ShardHandle { bell, control, media, datagrams, strangers, dropped };
    (handle, Inbox { bell: woken, control: controls, media: medias, datagrams: known, strangers: unknown })
}

impl ShardHandle {
    /// Sends a message that must arrive. `false` if the shard has ended.
    pub fn control(&self, control: Control) -> bool {
        let sent = self.control.send(control).is_ok();
        self.wake();
        sent
    }

    /// Sends a batch. `false` if the queue is full.
    pub fn media(&self, media: Media) -> bool {
        let sent = self.media.try_send(media).is_ok();
        self.wake();
        sent
    }

    /// Sends a datagram, or drops it. `false` if the shard has ended.
    pub fn datagram(&self, path: Path, data: Vec<u8>, proven: bool) -> bool {
        let queue = if proven { &self.datagrams } else { &self.strangers };
        let sent = queue.try_send((path, data));
        self.wake();
        if matches!(sent, Err(TrySendError::Full(_))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        !matches!(sent, Err(TrySendError::Disconnected(_)))
    }

    /// Datagrams that found their queue full, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        // If the bell is full, the shard has a wake-up pending already.
        let _ = self.bell.try_send(());
    }
}

impl Inbox {
    /// Waits until a message may be available or the time has elapsed. `false` if all senders are gone.
    pub fn wait(&self, limit: Duration) -> bool {
        !matches!(self.bell.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionId;
    use crate::media::transport::path::Via;
    use crate::streams::packet::{Batch, Clocks};

    #[test]
    fn a_flood_of_one_kind_displaces_no_other() {
        let (handle, inbox) = queues();
        let path = Path { remote: ([192, 0, 2, 1], 9).into(), via: Via::Udp, local: None };
        let batch = || Arc::new(Batch { packets: Vec::new(), replay: false, clocks: Clocks::default() });
        for _ in 0..20_000 {
            assert!(handle.datagram(path, vec![0], false));
        }
        assert!(handle.media((1, batch())) && handle.datagram(path, vec![1], true));
        let full = (0..20_000).filter(|_| handle.media((1, batch()))).count();
        assert_eq!(full, MEDIA - 1);
        for _ in 0..20_000 {
            assert!(handle.control(Control::Remove(SessionId::random())), "never dropped");
        }
        assert!(inbox.wait(Duration::ZERO));
        assert_eq!(handle.dropped(), 20_000 - STRANGERS as u64);
        assert_eq!(inbox.strangers.try_iter().count(), STRANGERS);
        assert_eq!(inbox.datagrams.try_iter().map(|(_, data)| data[0]).collect::<Vec<_>>(), [1]);
        assert_eq!(inbox.control.try_iter().count(), 20_000);
        drop(handle);
        assert!(!inbox.wait(Duration::from_secs(9)));
    }
}
