//! What a simulated camera sends and when: frames at the frame rate, audio, sender reports, faults. Not RTSP; that is
//! `rtsp`. Start at [`Player::send`].

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Clip, Shared, tone};
use crate::streams::h264::nal::fu_a_header;

/// Interval between two sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// From the NTP epoch to the Unix epoch, in seconds (RFC 5905 §6).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// How one track's packets reach the client.
pub enum Carrier {
    /// Inside the RTSP connection, on these channels.
    Interleaved { rtp: u8, rtcp: u8 },
    /// In datagrams, from connected sockets.
    Udp { rtp: UdpSocket, rtcp: UdpSocket },
}

struct RtpTrack {
    carrier: Option<Carrier>,
    payload_type: u8,
    clock: f64,
    ssrc: u32,
    sequence: u16,
    base: u32,
    packets: u32,
    octets: u32,
}

impl RtpTrack {
    fn new(payload_type: u8, clock: f64) -> Self {
        let (ssrc, sequence, base) = rand::random();
        Self { carrier: None, payload_type, clock, ssrc, sequence, base, packets: 0, octets: 0 }
    }

    fn timestamp(&self, media_time: f64) -> u32 {
        self.base.wrapping_add((media_time * self.clock).round() as u64 as u32)
    }

    fn header(&mut self, timestamp: u32, marker: bool, size: usize) -> [u8; 12] {
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = self.payload_type | if marker { 0x80 } else { 0 };
        header[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(size as u32);
        header
    }

    /// RFC 3550 §6.4.1.
    fn report(&self, timestamp: u32, now: SystemTime) -> Vec<u8> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        let mut out = vec![0x80, 200, 0, 6];
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&((since.as_secs() + NTP_TO_UNIX) as u32).to_be_bytes());
        out.extend_from_slice(&(fraction as u32).to_be_bytes());
        for word in [timestamp, self.packets, self.octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out
    }
}

struct Playing {
    started: Instant,
    first_frame: u64,
    frame: u64,
    audio_packet: u64,
    next_report: Instant,
}

/// Sends to one client.
pub struct Player {
    shared: Arc<Shared>,
    writer: OwnedWriteHalf,
    tracks: [RtpTrack; 2],
    playing: Option<Playing>,
    finished: bool,
    jumped: bool,
    sent: u64,
}

impl Player {
    pub fn new(shared: Arc<Shared>, writer: OwnedWriteHalf) -> Self {
        let tracks = [RtpTrack::new(96, 90_000.0), RtpTrack::new(0, 8_000.0)];
        Self { shared, writer, tracks, playing: None, finished: false, jumped: false, sent: 0 }
    }

    pub fn writer(&mut self) -> &mut OwnedWriteHalf {
        &mut self.writer
    }

    pub fn ssrc(&self, track: usize) -> u32 {
        self.tracks[track].ssrc
    }

    pub fn set_up(&mut self, track: usize, carrier: Carrier) {
        self.tracks[track].carrier = Some(carrier);
    }

    /// Starts with the current GOP's key frame; returns the value for `RTP-Info`.
    pub fn play(&mut self) -> String {
        let elapsed = self.shared.started.elapsed().as_secs_f64() * self.shared.options.fps;
        let frame = elapsed as u64;
        let length = self.shared.clip.frames.len() as u64;
        let in_clip = (frame % length) as usize;
        let first_frame = frame - (in_clip - self.shared.clip.key_before(in_clip)) as u64;
        let now = Instant::now();
        self.playing = Some(Playing {
            started: now,
            first_frame,
            frame: first_frame,
            audio_packet: 0,
            next_report: now,
        });
        let info = |(index, track): (usize, &RtpTrack)| {
            let (sequence, time) = (track.sequence, track.timestamp(0.0));
            format!("url=track={index};seq={sequence};rtptime={time}")
        };
        let tracks = self.tracks.iter().enumerate().filter(|(_, track)| track.carrier.is_some());
        tracks.map(info).collect::<Vec<_>>().join(",")
    }

    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    pub fn finish(&mut self) {
        self.finished = true;
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn media_time(&self) -> f64 {
        let frames = self.playing.as_ref().map_or(0, |playing| playing.frame - playing.first_frame);
        frames as f64 / self.shared.options.fps
    }

    /// Waits until the next frame is due; forever while nothing is playing.
    pub async fn due(&self) {
        match &self.playing {
            Some(playing) => {
                let due = playing.started + Duration::from_secs_f64(self.media_time());
                tokio::time::sleep_until(due.into()).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Sends the frame that is due, with its audio and sender reports. Must not be dropped half-way, as that would
    /// truncate a packet on the connection.
    pub async fn send(&mut self) -> io::Result<()> {
        let Some(playing) = &self.playing else { return Ok(()) };
        let age = playing.started.elapsed();
        let media_time = self.media_time();
        self.trouble(age).await?;
        let faults = &self.shared.options.faults;
        let past = |after: Option<Duration>| after.is_some_and(|after| age >= after);
        let (frozen, muted) = (past(faults.freeze_after), past(faults.mute_after));
        if !past(faults.silent_after) && !self.finished {
            if !frozen {
                self.send_frame(media_time, age).await?;
            }
            if !muted {
                self.send_sound(media_time).await?;
            }
            self.send_reports(media_time).await?;
        }
        if let Some(playing) = &mut self.playing {
            playing.frame += 1;
        }
        Ok(())
    }

    async fn trouble(&mut self, age: Duration) -> io::Result<()> {
        let faults = self.shared.options.faults.clone();
        let past = |after: Option<Duration>| after.is_some_and(|after| age >= after);
        if past(faults.garbage_after) {
            self.writer.write_all(b"\r\n\x00\x01 this is not RTSP \xff\xfe\r\n\r\n").await?;
        }
        if past(faults.close_after) {
            self.finished = true;
        }
        if past(faults.jump_after) && !self.jumped {
            self.jumped = true;
            for track in &mut self.tracks {
                track.base = track.base.wrapping_add((1e6 * track.clock) as u64 as u32);
            }
        }
        Ok(())
    }

    async fn send_frame(&mut self, media_time: f64, age: Duration) -> io::Result<()> {
        let shared = self.shared.clone();
        let switched = shared.options.faults.switch.as_ref().is_some_and(|(after, _)| age >= *after);
        let clip: &Clip = match &shared.second_clip {
            Some(second) if switched => second,
            _ => &shared.clip,
        };
        let Some(playing) = &self.playing else { return Ok(()) };
        let nals = &clip.frames[(playing.frame % clip.frames.len() as u64) as usize];
        let media_time = if shared.options.faults.frozen_clock { 0.0 } else { media_time };
        let timestamp = self.tracks[0].timestamp(media_time);
        for (index, nal) in nals.iter().enumerate() {
            let last_nal = index + 1 == nals.len();
            self.send_nal(nal, timestamp, last_nal).await?;
        }
        Ok(())
    }

    async fn send_nal(&mut self, nal: &Bytes, timestamp: u32, last_nal: bool) -> io::Result<()> {
        let mtu = self.shared.options.mtu.clamp(100, 65_000);
        if nal.len() <= mtu {
            return self.send_rtp(0, timestamp, last_nal, &[nal]).await;
        }
        let count = nal[1..].chunks(mtu - 2).len();
        for (index, chunk) in nal[1..].chunks(mtu - 2).enumerate() {
            let last = index + 1 == count;
            let header = fu_a_header(nal[0], index == 0, last);
            self.send_rtp(0, timestamp, last && last_nal, &[&header, chunk]).await?;
        }
        Ok(())
    }

    async fn send_sound(&mut self, media_time: f64) -> io::Result<()> {
        while let Some(playing) = &mut self.playing {
            let sample = playing.audio_packet * tone::SAMPLES as u64;
            if sample as f64 / 8000.0 > media_time {
                break;
            }
            playing.audio_packet += 1;
            let base = (playing.first_frame as f64 / self.shared.options.fps * 8000.0) as u64;
            let payload = tone::packet(base + sample);
            let timestamp = self.tracks[1].base.wrapping_add(sample as u32);
            self.send_rtp(1, timestamp, false, &[&payload]).await?;
        }
        Ok(())
    }

    async fn send_reports(&mut self, media_time: f64) -> io::Result<()> {
        let now = Instant::now();
        match &mut self.playing {
            Some(playing) if playing.next_report <= now => playing.next_report = now + REPORT_INTERVAL,
            _ => return Ok(()),
        }
        for index in 0..self.tracks.len() {
            let track = &self.tracks[index];
            let report = track.report(track.timestamp(media_time), SystemTime::now());
            match &track.carrier {
                Some(Carrier::Udp { rtcp, .. }) => drop(rtcp.send(&report).await),
                Some(Carrier::Interleaved { rtcp, .. }) => {
                    let frame = interleaved(*rtcp, &[&report]);
                    self.writer.write_all(&frame).await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn send_rtp(
        &mut self,
        index: usize,
        timestamp: u32,
        marker: bool,
        parts: &[&[u8]],
    ) -> io::Result<()> {
        let track = &mut self.tracks[index];
        if track.carrier.is_none() {
            return Ok(());
        }
        let header = track.header(timestamp, marker, parts.iter().map(|part| part.len()).sum());
        self.sent += 1;
        if self.shared.options.faults.drop_every.is_some_and(|every| self.sent.is_multiple_of(every.max(2))) {
            return Ok(());
        }
        let packet = [&[&header[..]], parts].concat();
        match &track.carrier {
            // A disconnected client is noticed on the RTSP connection.
            Some(Carrier::Udp { rtp, .. }) => drop(rtp.send(&packet.concat()).await),
            Some(Carrier::Interleaved { .. }) if self.shared.options.faults.silent_over_tcp => {}
            Some(Carrier::Interleaved { rtp, .. }) => {
                let frame = interleaved(*rtp, &packet);
                self.writer.write_all(&frame).await?;
            }
            None => {}
        }
        Ok(())
    }
}

/// RFC 2326 §10.12.
fn interleaved(channel: u8, parts: &[&[u8]]) -> Vec<u8> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(size + 4);
    frame.extend_from_slice(&[b'$', channel]);
    frame.extend_from_slice(&(size as u16).to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}
