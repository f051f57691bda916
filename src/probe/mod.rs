//! `gatehouse probe`: connects to a camera, analyses its stream for some seconds, and reports whether a browser can
//! play it. `report` formats the findings, `sub_stream` guesses where its smaller stream is. Start at [`run`].

mod report;
mod sub_stream;

use std::time::{Duration, Instant};

use url::Url;

use crate::secret::{ENCODE_PASSWORD, Secret, has_raw_password, split_credentials};
use crate::streams::h264::shape::Shaper;
use crate::streams::meter::Meter;
use crate::streams::packet::Track;
use crate::streams::rtsp::{Described, Greeting};
use crate::streams::source::{Arrival, SourceError, TlsTrust, Transport};
pub use report::{Advice, Report, Severity, Stream};

/// Minimum duration: two key frames are enough to know the GOP, but measuring the rates takes longer.
const ENOUGH: Duration = Duration::from_secs(3);
/// A camera that sends no packet for this long is considered silent.
const SILENCE: Duration = Duration::from_secs(5);

/// Examines a camera for at most `limit`. `password` comes before one in the address. What fails is part of the
/// report.
pub async fn run(address: &str, password: Option<Secret>, udp: bool, limit: Duration) -> Report {
    let mut report = Report::default();
    if has_raw_password(address) {
        report.fail(&SourceError::slowly("address", ENCODE_PASSWORD));
        return report;
    }
    let mut url = match Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "rtsp" | "rtsps") && url.host().is_some() => url,
        _ => {
            report.fail(&SourceError::slowly(
                "address",
                "the address must be rtsp://[user:password@]host[:port]/path",
            ));
            return report;
        }
    };
    let mut credentials = split_credentials(&mut url);
    if let Some(password) = password {
        let user = credentials.map(|(user, _)| user).unwrap_or_default();
        credentials = Some((user, password));
    }
    examine_camera(url, credentials, udp, limit).await
}

/// The same, with the credentials given separately.
pub async fn examine_camera(
    url: Url,
    credentials: Option<(String, Secret)>,
    udp: bool,
    limit: Duration,
) -> Report {
    let mut report = Report { url: url.to_string(), ..Report::default() };
    report.username = credentials.as_ref().map(|(user, _)| user.clone());
    report.transport = if udp { "udp" } else { "tcp" };
    let transport = if udp { Transport::Udp } else { Transport::Auto };
    let mut result = examine(&url, credentials.as_ref(), transport, limit, &mut report).await;
    if matches!(&result, Err(error) if error.code == "camera_silent") && !udp {
        // It takes SETUP and PLAY over TCP, and sends nothing there.
        let over_udp = examine(&url, credentials.as_ref(), Transport::Udp, limit, &mut report).await;
        if over_udp.is_ok() {
            (result, report.transport) = (over_udp, "udp");
        }
    }
    if let Err(error) = result {
        report.fail(&error);
    } else {
        report.sub_url = sub_stream::find(&url, credentials.as_ref()).await.map(|url| url.to_string());
    }
    report.advise();
    report
}

async fn examine(
    url: &Url,
    credentials: Option<&(String, Secret)>,
    transport: Transport,
    limit: Duration,
    report: &mut Report,
) -> Result<(), SourceError> {
    // Nothing is decided by what is seen, so any certificate will do: it is part of the report.
    let mut greeting = Greeting::default();
    let described = Described::fetch_greeted(url, credentials, TlsTrust::Anything, &[], &mut greeting).await;
    report.round_trip_ms = greeting.round_trip.map(|time| time.as_secs_f64() * 1000.0);
    report.login = greeting.login.unwrap_or_else(|| "unknown".into());
    report.server = greeting.server;
    let described = described?;
    report.certificate = described.fingerprint().map(str::to_owned);
    report.tracks.clone_from(&described.tracks);
    let mut session = described.play(transport).await?;
    let mut shaper = Shaper::new(&session.offered().parameter_sets);
    let mut observation = Observation::new(Instant::now());
    let deadline = observation.started + limit;
    let result = loop {
        let now = Instant::now();
        if now >= deadline || (observation.keys >= 2 && now >= observation.started + ENOUGH) {
            break Ok(());
        }
        let patience = SILENCE.min(deadline.saturating_duration_since(now));
        match tokio::time::timeout(patience, session.next()).await {
            Ok(Ok(Arrival::Rtp(packet))) => observation.take(&packet, &mut shaper),
            Ok(Ok(Arrival::Clock { .. })) => {}
            Ok(Err(error)) => break Err(error),
            Err(_) if observation.packets == 0 => {
                break Err(SourceError::soon("camera_silent", "the camera accepted PLAY but sends nothing"));
            }
            Err(_) => {}
        }
    };
    report.stream = Some(observation.finish(&shaper, Instant::now()));
    result
}

/// What is observed of the video track.
struct Observation {
    started: Instant,
    first_packet: Option<Instant>,
    first_key: Option<Instant>,
    packets: u64,
    lost: u64,
    keys: u32,
    largest: usize,
    smallest: usize,
    audio_packets: u64,
    meter: Meter,
    shaped: Vec<crate::streams::h264::shape::Shaped>,
}

impl Observation {
    fn new(now: Instant) -> Self {
        Self {
            started: now,
            first_packet: None,
            first_key: None,
            packets: 0,
            lost: 0,
            keys: 0,
            largest: 0,
            smallest: usize::MAX,
            audio_packets: 0,
            meter: Meter::default(),
            shaped: Vec::new(),
        }
    }

    fn take(&mut self, packet: &crate::streams::packet::RtpIn, shaper: &mut Shaper) {
        let now = Instant::now();
        if packet.track == Track::Audio {
            self.audio_packets += 1;
            return;
        }
        let size = packet.payload.len();
        self.first_packet.get_or_insert(now);
        self.packets += 1;
        self.lost += u64::from(packet.lost);
        self.largest = self.largest.max(size);
        self.smallest = self.smallest.min(size);
        self.meter.packet(now, packet.timestamp, size, packet.lost);
        shaper.push(packet.timestamp, packet.marker, packet.lost, &packet.payload, &mut self.shaped);
        if self.shaped.drain(..).any(|shaped| shaped.key_start) {
            self.first_key.get_or_insert(now);
            self.keys += 1;
            self.meter.key_frame(now);
        }
    }

    fn finish(mut self, shaper: &Shaper, now: Instant) -> Stream {
        let measured = self.meter.measure(now);
        let ms = |at: Option<Instant>| at.map(|at| at.duration_since(self.started).as_secs_f64() * 1000.0);
        Stream {
            info: shaper.findings().info.clone(),
            b_frames: shaper.findings().b_frames,
            fps: measured.fps,
            bitrate: measured.bitrate,
            gop_frames: measured.gop_frames,
            gop_ms: measured.gop_ms,
            key_frames: self.keys,
            recovery_points: shaper.findings().recovery_points,
            keys_without_parameters: shaper.findings().keys_without_parameters,
            packets: self.packets,
            lost: self.lost,
            largest_payload: self.largest,
            smallest_payload: if self.packets == 0 { 0 } else { self.smallest },
            first_packet_ms: ms(self.first_packet),
            first_key_ms: ms(self.first_key),
            audio_packets: self.audio_packets,
        }
    }
}
