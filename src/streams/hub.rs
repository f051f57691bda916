//! Fans a stream's packets out to its sinks and caches the current GOP, which new sinks get first. Pure: no task, no
//! clock; `stream` drives it. What a sink does with a batch is not its concern. Start at [`Hub`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frames::MAX_PASSED;
use super::packet::{AudioCodec, Batch, Clock, Clocks, MAX_PAYLOAD, Packet, SharedBatch, Track};

/// A frame is forwarded when it is complete, or once it has this many packets.
const BATCH_PACKETS: usize = 40;
/// …or after this time.
const BATCH_DELAY: Duration = Duration::from_millis(4);

/// A receiver of batches: a shard of the media engine, for all its viewers of the stream.
pub trait Sink: Send + Sync {
    /// Takes a batch without waiting. `false` if the sink's queue is full: the sink will see a gap.
    fn deliver(&self, batch: &SharedBatch) -> bool;

    /// The stream can no longer be watched: the viewers must be disconnected.
    fn end(&self);
}

/// An audio packet.
pub struct Sound<'a> {
    /// On the stream's timeline.
    pub timestamp: u32,
    /// The RTP marker bit.
    pub marker: bool,
    /// How many packets are missing just before it.
    pub lost: u16,
    /// The RTP payload.
    pub payload: &'a Bytes,
}

/// Identifies a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct SinkId(pub u64);

/// See the module documentation.
pub struct Hub {
    sinks: Vec<(SinkId, Arc<dyn Sink>)>,
    cache: Cache,
    pending: Vec<Packet>,
    pending_since: Option<Instant>,
    video_index: u64,
    audio_index: u64,
    clocks: Clocks,
}

/// The packets since the newest key frame began.
struct Cache {
    packets: Vec<Packet>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    fn push(&mut self, packet: &Packet) {
        if packet.key_start {
            self.packets.clear();
            self.bytes = 0;
        } else if self.packets.is_empty() {
            return;
        }
        self.bytes += packet.payload.len();
        if self.bytes > self.limit {
            // Too large to be replayed: new viewers wait for the next key frame.
            self.packets = Vec::new();
            self.bytes = 0;
            return;
        }
        self.packets.push(packet.clone());
    }
}

impl Hub {
    /// A hub that caches a GOP of at most `cache_limit` bytes.
    pub fn new(cache_limit: usize) -> Self {
        Self {
            sinks: Vec::new(),
            cache: Cache { packets: Vec::new(), bytes: 0, limit: cache_limit },
            pending: Vec::new(),
            pending_since: None,
            video_index: 0,
            audio_index: 0,
            clocks: Clocks::default(),
        }
    }

    /// Bytes of the cached GOP.
    pub fn cached(&self) -> usize {
        self.cache.bytes
    }

    /// Whether there are any sinks.
    pub fn has_sinks(&self) -> bool {
        !self.sinks.is_empty()
    }

    /// Adds a sink and sends it the cached GOP.
    pub fn add(&mut self, id: SinkId, sink: Arc<dyn Sink>) {
        self.remove(id);
        let packets = self.cache.packets.clone();
        sink.deliver(&Arc::new(Batch { packets, replay: true, clocks: self.clocks }));
        self.sinks.push((id, sink));
    }

    /// Removes a sink.
    pub fn remove(&mut self, id: SinkId) {
        self.sinks.retain(|(other, _)| *other != id);
    }

    /// Disconnects all viewers. Sinks unsubscribe by themselves.
    pub fn end(&self) {
        for (_, sink) in &self.sinks {
            sink.end();
        }
    }

    /// Appends a video packet. `after_gap` skips an index.
    pub fn video(&mut self, now: Instant, timestamp: u32, shaped: super::h264::shape::Shaped) {
        self.video_index += 1 + u64::from(shaped.after_gap);
        let packet = Packet {
            track: Track::Video,
            index: self.video_index,
            timestamp,
            marker: shaped.marker,
            key_start: shaped.key_start,
            payload: shaped.payload,
        };
        self.cache.push(&packet);
        let ripe = packet.marker;
        self.push(now, packet, ripe);
    }

    /// Appends audio. G.711, one byte per sample, is split where it would not fit into a packet.
    pub fn audio(&mut self, now: Instant, codec: AudioCodec, sound: &Sound<'_>) {
        let Sound { timestamp, marker, lost, payload } = *sound;
        self.audio_index += u64::from(lost.min(1));
        if !codec.is_g711() && payload.len() > MAX_PASSED {
            // An Opus packet has 1,275 bytes a frame at most (RFC 6716 §3.2.1), and nobody sends several that long.
            self.audio_index += 1;
            return;
        }
        let piece = if codec.is_g711() { MAX_PAYLOAD } else { payload.len().max(1) };
        for (number, start) in (0..payload.len()).step_by(piece).enumerate() {
            self.audio_index += 1;
            let packet = Packet {
                track: Track::Audio,
                index: self.audio_index,
                timestamp: timestamp.wrapping_add(start as u32),
                marker: marker && number == 0,
                key_start: false,
                payload: payload.slice(start..payload.len().min(start + piece)),
            };
            // While a video frame is incomplete, audio waits for it, for at most 4 ms.
            let ripe = self.pending.is_empty();
            self.push(now, packet, ripe);
        }
    }

    fn push(&mut self, now: Instant, packet: Packet, ripe: bool) {
        self.pending.push(packet);
        self.pending_since.get_or_insert(now);
        if ripe || self.pending.len() >= BATCH_PACKETS {
            self.flush();
        }
    }

    /// When [`Self::flush`] is due, if anything is pending.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + BATCH_DELAY)
    }

    /// Sends what is pending.
    pub fn flush(&mut self) {
        self.pending_since = None;
        if self.pending.is_empty() {
            return;
        }
        let packets = std::mem::take(&mut self.pending);
        let batch = Arc::new(Batch { packets, replay: false, clocks: self.clocks });
        for (_, sink) in &self.sinks {
            // A sink that was full notices the missing indexes and handles the gap.
            let _ = sink.deliver(&batch);
        }
    }

    /// Sets a track's clock: the instant at which a timestamp was sampled.
    pub fn set_clock(&mut self, track: Track, clock: Clock) {
        match track {
            Track::Video => self.clocks.video = Some(clock),
            Track::Audio => self.clocks.audio = Some(clock),
        }
    }

    /// Whether a track's clock is known.
    pub fn has_clock(&self, track: Track) -> bool {
        match track {
            Track::Video => self.clocks.video.is_some(),
            Track::Audio => self.clocks.audio.is_some(),
        }
    }

    /// The picture has stopped: what is cached of it is stale for whoever joins later.
    pub fn forget_video(&mut self) {
        self.cache.packets = Vec::new();
        self.cache.bytes = 0;
    }

    /// The source went away: what it sent is stale for whoever joins later.
    pub fn forget(&mut self) {
        self.flush();
        self.forget_video();
        self.clocks = Clocks::default();
        // The next packets come after a gap, because the last frame may be incomplete.
        self.video_index += 1;
        self.audio_index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::h264::shape::Shaped;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Collector(Mutex<Vec<SharedBatch>>);

    impl Sink for Collector {
        fn deliver(&self, batch: &SharedBatch) -> bool {
            self.0.lock().unwrap().push(batch.clone());
            true
        }

        fn end(&self) {}
    }

    fn shaped(key_start: bool, marker: bool, size: usize) -> Shaped {
        Shaped { timestamp: 0, marker, key_start, after_gap: false, payload: vec![0; size].into() }
    }

    fn indexes(batch: &SharedBatch) -> Vec<u64> {
        batch.packets.iter().map(|packet| packet.index).collect()
    }

    #[test]
    fn frames_go_out_whole_and_joiners_get_the_gop() {
        let now = Instant::now();
        let mut hub = Hub::new(10_000);
        let first = Arc::new(Collector::default());
        hub.add(SinkId(1), first.clone());
        hub.video(now, 1, shaped(true, false, 10));
        hub.video(now, 1, shaped(false, true, 10));
        hub.video(now, 2, shaped(false, false, 10));
        assert_eq!(hub.deadline(), Some(now + BATCH_DELAY));
        let second = Arc::new(Collector::default());
        hub.add(SinkId(2), second.clone());
        hub.flush();
        let batches = first.0.lock().unwrap();
        assert_eq!(batches.iter().map(indexes).collect::<Vec<_>>(), [vec![], vec![1, 2], vec![3]]);
        let batches = second.0.lock().unwrap();
        assert!(batches[0].replay && !batches[1].replay);
        assert_eq!(indexes(&batches[0]), [1, 2, 3]);
    }

    #[test]
    fn the_cache_is_bounded_and_starts_at_a_key_frame() {
        let now = Instant::now();
        let mut hub = Hub::new(100);
        hub.video(now, 1, shaped(false, true, 10));
        assert!(hub.cache.packets.is_empty());
        hub.video(now, 2, shaped(true, true, 60));
        assert_eq!(hub.cache.packets.len(), 1);
        hub.video(now, 3, shaped(false, true, 60));
        hub.video(now, 4, shaped(false, true, 1));
        assert!(hub.cache.packets.is_empty());
    }

    #[test]
    fn gaps_leave_out_an_index() {
        let now = Instant::now();
        let mut hub = Hub::new(100);
        let sink = Arc::new(Collector::default());
        hub.add(SinkId(1), sink.clone());
        hub.video(now, 1, shaped(true, true, 1));
        hub.video(now, 2, Shaped { after_gap: true, ..shaped(false, true, 1) });
        hub.forget();
        hub.video(now, 3, shaped(true, true, 1));
        let payload = Bytes::from(vec![0; 2000]);
        let sound = Sound { timestamp: 0, marker: true, lost: 0, payload: &payload };
        hub.audio(now, AudioCodec::Pcmu, &sound);
        // Too long for Opus: a gap.
        hub.audio(now, AudioCodec::Opus, &sound);
        let payload = payload.slice(..1275);
        hub.audio(now, AudioCodec::Opus, &Sound { payload: &payload, ..sound });
        let batches = sink.0.lock().unwrap();
        let flat: Vec<u64> = batches.iter().flat_map(indexes).collect();
        assert_eq!(flat, [1, 3, 5, 2, 3, 5]);
    }

    #[test]
    fn large_frames_go_out_in_parts() {
        let now = Instant::now();
        let mut hub = Hub::new(1 << 20);
        let sink = Arc::new(Collector::default());
        hub.add(SinkId(1), sink.clone());
        for number in 0..100 {
            hub.video(now, 1, shaped(number == 0, number == 99, 1000));
        }
        let sizes: Vec<usize> = sink.0.lock().unwrap().iter().map(|batch| batch.packets.len()).collect();
        assert_eq!(sizes, [0, 40, 40, 20]);
    }
}
