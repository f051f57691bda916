//! Passes on what a playing camera sends to retina, and keeps the camera's session alive. An answer that is wrong, late
//! or missing never ends a session that delivers. Start at [`start`].

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tracing::debug;
use url::Url;

use super::camera::{Camera, Way};
pub use super::strict::StrictTrack;
use super::strict::{Asked, Connection, Strict};
use crate::rtsp::framing::Item;
use crate::rtsp::repair::{Patience, Repair};
use crate::streams::source::SourceError;

/// For retina to connect and to ask for PLAY.
const STRICT_LIMIT: Duration = Duration::from_secs(5);
/// Receiver reports: some cameras end sessions without.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// The largest and the smallest time between two keep-alives.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_secs(25));
/// For the camera to take a goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// How long packets wait for the end of their frame, and how many bytes: each write costs system calls on both sides and
/// wakes a task, and nobody can show a part of a frame. What is longer than this goes on in parts.
const HOLD: Duration = Duration::from_millis(4);
const MAX_HELD: usize = 32 * 1024;
/// Datagrams that are read before others get their turn.
const BURST: usize = 64;

/// A track that has been set up.
pub struct FrontTrack {
    /// How its packets come.
    pub way: Way,
    /// How retina sees it.
    pub strict: StrictTrack,
}

/// A running pump. It ends when this is dropped.
pub struct Pump {
    /// Where retina finds it.
    pub url: Url,
    /// Why it has ended.
    pub reason: Arc<Mutex<Option<SourceError>>>,
    _stop: DropGuard,
}

struct Running {
    camera: Camera,
    tracks: Vec<(Way, Repair)>,
    /// For retina.
    out: Vec<u8>,
    /// Whether the end of a frame is in `out`.
    frame_ended: bool,
    /// Since when there is something in `out`.
    held_since: Option<Instant>,
    /// The method for keep-alives.
    method: &'static str,
    /// The current keep-alive has been repeated with a new login.
    asked_again: bool,
    ssrc: u32,
}

/// Starts to pump.
///
/// # Errors
/// There is no port for retina.
pub async fn start(camera: Camera, tracks: Vec<FrontTrack>) -> io::Result<Pump> {
    let strict = Strict::listen(tracks.iter().map(|track| track.strict.clone()).collect()).await?;
    let (url, reason, stop) = (strict.url()?, Arc::default(), CancellationToken::new());
    let repaired = tracks.into_iter().enumerate().map(|(number, track)| {
        let patience = match track.way {
            Way::Interleaved { .. } => Patience::TCP,
            Way::Udp { .. } => Patience::UDP,
        };
        let StrictTrack { ssrc, payload_type, .. } = track.strict;
        (track.way, Repair::new(number as u8 * 2, ssrc, payload_type, patience))
    });
    let method = if camera.knows_get_parameter { "GET_PARAMETER" } else { "OPTIONS" };
    let tracks = repaired.collect();
    let out = Vec::with_capacity(64 * 1024);
    let running = Running {
        camera,
        tracks,
        out,
        frame_ended: false,
        held_since: None,
        method,
        asked_again: false,
        ssrc: rand::random(),
    };
    let pump = Pump { url, reason: Arc::clone(&reason), _stop: stop.clone().drop_guard() };
    tokio::spawn(async move {
        if let Err(error) = running.run(strict, &stop).await {
            debug!("the camera's session has ended: {error}");
            *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    Ok(pump)
}

impl Running {
    async fn run(mut self, strict: Strict, stop: &CancellationToken) -> Result<(), SourceError> {
        let greeted = tokio::time::timeout(STRICT_LIMIT, greet(strict)).await;
        let Ok(Ok(mut retina)) = greeted else {
            return Err(SourceError::soon("internal", "retina does not connect to its front"));
        };
        for (channel, data) in std::mem::take(&mut self.camera.early) {
            self.packet(channel, &data);
        }
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = self.pass_on(&mut retina) => result,
        };
        let _ = tokio::time::timeout(GOODBYE_LIMIT, self.camera.send_aggregate("TEARDOWN")).await;
        result
    }

    async fn pass_on(&mut self, retina: &mut Connection) -> Result<(), SourceError> {
        let half = (self.camera.timeout / 2).clamp(KEEP_ALIVE.0, KEEP_ALIVE.1);
        let mut keep_alive = tokio::time::interval_at(tokio::time::Instant::now() + half, half);
        let mut report =
            tokio::time::interval_at(tokio::time::Instant::now() + REPORT_INTERVAL, REPORT_INTERVAL);
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => closed("the camera closed the connection"),
            _ => closed(&error.to_string()),
        };
        loop {
            self.take_items().await.map_err(gone)?;
            // Retina is gone when the stream is no longer needed.
            if self.is_due(Instant::now()) && self.write_out(retina).await.is_err() {
                return Ok(());
            }
            let repairs = self.tracks.iter().filter_map(|(_, repair)| repair.deadline());
            let late = repairs.chain(self.held_since.map(|since| since + HOLD)).min();
            tokio::select! {
                read = self.camera.read() => {
                    if read.map_err(gone)? == 0 {
                        return Err(closed("the camera closed the connection"));
                    }
                }
                result = datagrams(&self.tracks) => self.take_datagrams(result),
                asked = retina.serve() => {
                    if !matches!(asked, Ok(Asked::Other | Asked::Play)) {
                        return Ok(());
                    }
                }
                () = sleep_until(late) => {
                    let now = Instant::now();
                    for (_, repair) in &mut self.tracks {
                        repair.expire(now, &mut self.out);
                    }
                }
                _ = keep_alive.tick() => {
                    self.asked_again = false;
                    self.camera.send_aggregate(self.method).await.map_err(gone)?;
                }
                _ = report.tick() => self.report().await.map_err(gone)?,
            }
        }
    }

    /// Whether what is held is to be passed on now.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.out.is_empty() {
            return false;
        }
        let since = *self.held_since.get_or_insert(now);
        self.frame_ended || self.out.len() >= MAX_HELD || now >= since + HOLD
    }

    async fn write_out(&mut self, retina: &mut Connection) -> io::Result<()> {
        retina.write(&self.out).await?;
        self.out.clear();
        (self.frame_ended, self.held_since) = (false, None);
        Ok(())
    }

    /// Handles everything that has arrived on the connection.
    async fn take_items(&mut self) -> io::Result<()> {
        loop {
            let item = self.camera.splitter.next(&mut self.camera.bytes);
            match item.map_err(|error| io::Error::other(error.to_string()))? {
                None => return Ok(()),
                Some(Item::Packet(channel, data)) => self.packet(channel, &data),
                Some(Item::Message(head, _)) => match head.status() {
                    None => self.camera.answer_request(&head).await?,
                    // The nonce is too old: the same again with the new one, but only once.
                    Some(401) => {
                        self.camera.challenged(&head);
                        if !std::mem::replace(&mut self.asked_again, true) {
                            self.camera.send_aggregate(self.method).await?;
                        }
                    }
                    // It does not know the method after all.
                    Some(400..=599) => {
                        self.method = if self.method == "OPTIONS" { "GET_PARAMETER" } else { "OPTIONS" };
                    }
                    Some(_) => {}
                },
            }
        }
    }

    fn packet(&mut self, channel: u8, data: &[u8]) {
        let now = Instant::now();
        // The marker bit (RFC 6184 §5.1).
        self.frame_ended |= data.get(1).is_some_and(|second| second & 0x80 != 0);
        for (way, repair) in &mut self.tracks {
            let Way::Interleaved { rtp, rtcp } = way else { continue };
            // On a channel for both, RTCP is told by its packet type (RFC 5761 §4).
            let is_report = data.get(1).is_some_and(|kind| (200..=207).contains(kind));
            if channel == *rtp && !(is_report && rtp == rtcp) {
                return repair.push(now, data, &mut self.out);
            }
            if channel == *rtcp {
                return repair.push_rtcp(data, &mut self.out);
            }
        }
    }

    fn take_datagrams(&mut self, (number, is_rtcp): (usize, bool)) {
        let now = Instant::now();
        let mut buffer = [0; 2048];
        let Some((Way::Udp { rtp, rtcp }, repair)) = self.tracks.get_mut(number) else { return };
        let socket = if is_rtcp { rtcp } else { rtp };
        for _ in 0..BURST {
            let Ok(length) = socket.try_recv(&mut buffer) else { return };
            if is_rtcp {
                repair.push_rtcp(&buffer[..length], &mut self.out);
            } else {
                self.frame_ended |= buffer[1] & 0x80 != 0;
                repair.push(now, &buffer[..length], &mut self.out);
            }
        }
    }

    /// Sends a receiver report (RFC 3550 §6.4.2) for each track.
    async fn report(&mut self) -> io::Result<()> {
        for number in 0..self.tracks.len() {
            let (way, repair) = &self.tracks[number];
            let (Way::Interleaved { rtcp, .. }, Some(ssrc)) = (way, repair.incoming_ssrc()) else { continue };
            let mut packet = vec![b'$', *rtcp, 0, 32, 0x81, 201, 0, 7];
            packet.extend(self.ssrc.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(u32::from(repair.highest().unwrap_or(0)).to_be_bytes());
            packet.extend([0; 12]);
            self.camera.write(&packet).await?;
        }
        Ok(())
    }
}

/// Answers retina up to PLAY.
async fn greet(strict: Strict) -> io::Result<Connection> {
    let mut retina = strict.accept().await?;
    while retina.serve().await? != Asked::Play {}
    Ok(retina)
}

/// Waits for datagrams: on which track, and whether RTCP.
async fn datagrams(tracks: &[(Way, Repair)]) -> (usize, bool) {
    let sockets = tracks.iter().enumerate().flat_map(|(number, (way, _))| match way {
        Way::Interleaved { .. } => Vec::new(),
        Way::Udp { rtp, rtcp } => vec![(number, false, rtp), (number, true, rtcp)],
    });
    let waiting: Vec<_> = sockets
        .map(|(number, is_rtcp, socket): (usize, bool, &UdpSocket)| {
            Box::pin(async move {
                let _ = socket.readable().await;
                (number, is_rtcp)
            })
        })
        .collect();
    if waiting.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waiting).await.0
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn closed(text: &str) -> SourceError {
    SourceError::soon("camera_closed", text)
}
