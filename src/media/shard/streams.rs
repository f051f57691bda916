//! The streams that a shard's viewers watch, and the switching between their layers (`streams::layer`). A viewer goes on
//! with the layer that it has until the other one has a key frame, so that the picture is never interrupted. Start at
//! [`Shard::watch`] and [`Shard::select_layer`].

use std::sync::Arc;
use std::time::Instant;

use super::{Control, Shard};
use crate::ids::SessionId;
use crate::media::inbox::ShardHandle;
use crate::media::peer::NewPeer;
use crate::media::subscribe::ring::Ring;
use crate::media::subscribe::subscriber::LayerView;
use crate::streams::StreamHandle;
use crate::streams::hub::{Sink, SinkId};
use crate::streams::packet::{Clocks, SharedBatch, Track};
use crate::streams::stream::Command;

/// Hands a stream's batches to a shard.
struct ShardSink {
    stream: u64,
    shard: ShardHandle,
}

impl Sink for ShardSink {
    fn deliver(&self, batch: &SharedBatch) -> bool {
        let sent = self.shard.media((self.stream, batch.clone()));
        // Viewers do not start before the replay arrives, so it must not be dropped.
        sent || (batch.replay && self.shard.control(Control::Replay(self.stream, batch.clone())))
    }

    fn end(&self) {
        self.shard.control(Control::EndStream(self.stream));
    }
}

/// A stream as a shard sees it.
pub(super) struct Watched {
    pub(super) handle: StreamHandle,
    sink: SinkId,
    pub(super) ring: Ring,
    pub(super) clocks: Clocks,
    pub(super) peers: Vec<u32>,
    /// Viewers of another layer that go on with this one as soon as it has a key frame.
    waiting: Vec<u32>,
    /// Whether the replay that a new subscription begins with has arrived; viewers join only then.
    pub(super) primed: bool,
}

impl Watched {
    fn publish_viewers(&self) {
        self.handle.send_blocking(Command::Viewers(self.sink, self.peers.len()));
    }
}

impl Shard {
    pub(super) fn watch(&mut self, now: Instant, new: NewPeer, handle: StreamHandle) {
        let Some(key) = self.add(now, new) else { return };
        if handle.has_ended() {
            // `EndStream` arrived before this viewer.
            return self.remove(key, now, "stream ended");
        }
        let watched = self.watched(handle);
        watched.peers.push(key);
        watched.publish_viewers();
    }

    /// A stream, subscribed to with its first viewer.
    fn watched(&mut self, handle: StreamHandle) -> &mut Watched {
        let stream = handle.number();
        self.streams.entry(stream).or_insert_with(|| {
            let sink = SinkId(self.number as u64);
            let batches = Arc::new(ShardSink { stream, shard: self.handle.clone() });
            handle.send_blocking(Command::Subscribe(sink, batches));
            let (ring, clocks) = (Ring::new(handle.answers_key_frames()), Clocks::default());
            Watched { handle, sink, ring, clocks, peers: Vec::new(), waiting: Vec::new(), primed: false }
        })
    }

    /// A peer no longer gets a stream, which is unsubscribed from with its last viewer.
    pub(super) fn leave(&mut self, key: u32, stream: u64) {
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        watched.peers.retain(|other| *other != key);
        if watched.peers.is_empty() && watched.waiting.is_empty() {
            watched.handle.send_blocking(Command::Unsubscribe(watched.sink));
            self.streams.remove(&stream);
        } else {
            watched.publish_viewers();
        }
    }

    /// Takes packets of a stream and passes them on to its viewers.
    pub(super) fn batch(&mut self, now: Instant, stream: u64, batch: &SharedBatch) {
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        watched.clocks = batch.clocks;
        if !batch.replay {
            watched.ring.touch(now);
        }
        for packet in batch.packets.iter().filter(|packet| packet.track == Track::Video) {
            watched.ring.push(packet.clone());
        }
        if batch.replay && !watched.primed {
            watched.primed = true;
            // Peers that connected before the replay arrived join now.
            for key in &watched.peers {
                self.current = Some(*key);
                if let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_connected())
                    && peer.join(&watched.ring, now)
                {
                    watched.handle.try_send(Command::KeyFrame);
                }
            }
        }
        if !watched.waiting.is_empty() {
            self.switch_waiting(now, stream);
        }
        let Some(watched) = self.streams.get(&stream) else { return };
        for key in &watched.peers {
            self.current = Some(*key);
            let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_connected()) else { continue };
            peer.send_video(now, &watched.ring, &mut self.egress, &mut self.gso);
            for packet in batch.packets.iter().filter(|packet| packet.track == Track::Audio) {
                peer.send_audio(packet, &mut self.egress, &mut self.gso);
            }
        }
    }

    /// A viewer wants the layer `handle`.
    pub(super) fn select_layer(&mut self, now: Instant, session: SessionId, handle: StreamHandle) {
        let Some(&key) = self.by_session.get(&session) else { return };
        let Some(stream) = self.peers.get(&key).and_then(|peer| peer.watches()) else { return };
        let wanted = handle.number();
        if stream == wanted || handle.has_ended() {
            return self.stop_waiting(key);
        }
        let watched = self.watched(handle);
        if !watched.waiting.contains(&key) {
            watched.waiting.push(key);
        }
        self.switch_waiting(now, wanted);
    }

    /// Switches those who wait for this layer, if it can be shown.
    pub(super) fn switch_waiting(&mut self, now: Instant, stream: u64) {
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        let has_key_frame = watched.primed && watched.ring.gop_start().is_some();
        if !has_key_frame || !watched.ring.is_fresh(now) || !watched.handle.status().is_watchable() {
            return;
        }
        for key in std::mem::take(&mut watched.waiting) {
            self.current = Some(key);
            self.switch(now, key, stream);
        }
    }

    fn switch(&mut self, now: Instant, key: u32, stream: u64) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(before) = peer.watches() else { return };
        let from = self.streams.get(&before).map(|watched| watched.clocks).unwrap_or_default();
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        let sound = watched.handle.status().audio.as_ref().and_then(|audio| audio.passed);
        let to = LayerView { stream, ring: &watched.ring, clocks: watched.clocks, sound };
        peer.switch(now, &from, &to);
        watched.peers.push(key);
        watched.publish_viewers();
        // The cached GOP is paced.
        self.connecting = true;
        self.leave(key, before);
    }

    /// A viewer keeps the layer that it has, or is gone.
    pub(super) fn stop_waiting(&mut self, key: u32) {
        let waits = self.streams.iter().find(|(_, watched)| watched.waiting.contains(&key));
        let Some(stream) = waits.map(|(stream, _)| *stream) else { return };
        if let Some(watched) = self.streams.get_mut(&stream) {
            watched.waiting.retain(|other| *other != key);
        }
        self.leave(key, stream);
    }

    /// A layer has ended: whoever waits for it keeps what it has.
    pub(super) fn give_up_waiting(&mut self, stream: u64) {
        let waiting = self.streams.get_mut(&stream).map(|watched| std::mem::take(&mut watched.waiting));
        for key in waiting.unwrap_or_default() {
            self.leave(key, stream);
        }
    }
}
