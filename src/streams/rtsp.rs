//! RTSP cameras, using the `retina` crate, which no other file uses. Does DESCRIBE, SETUP and PLAY and passes on raw
//! RTP; `h264::shape` interprets the packets. retina has no timeouts, so each step gets one here. Start at
//! [`RtspConnection::connect`].

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use retina::client::{
    Credentials, InitialTimestampPolicy, PacketItem, PlayOptions, Playing, SessionOptions, SetupOptions,
    TcpTransportOptions, Transport as RetinaTransport, UdpTransportOptions, UnknownRtcpSsrcPolicy,
};
use retina::codec::{ParametersRef, VideoParametersCodec};
use url::Url;

use super::memory;
use super::packet::{AudioCodec, RtpIn, Track, VideoCodec};
use super::source::{Arrival, Offered, Secret, SourceError, Transport};
use super::status::AudioStatus;

/// Timeout for DESCRIBE, including the TCP connect and the second request for authentication.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(8);
/// Timeout for each SETUP and for PLAY.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// A camera that is playing. Dropping it sends TEARDOWN in the background.
pub struct RtspConnection {
    inner: Pin<Box<retina::client::Session<Playing>>>,
    video: usize,
    audio: Option<usize>,
    offered: Offered,
}

/// A track listed in the camera's SDP.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct ListedTrack {
    /// `video`, `audio`, `application`.
    pub media: String,
    /// The encoding name in upper case, such as `H264`.
    pub codec: String,
    /// RTP clock in Hz.
    pub clock_rate: u32,
}

impl ListedTrack {
    /// The audio codec, if browsers can play it as it is.
    pub fn audio_codec(&self) -> Option<AudioCodec> {
        AudioCodec::by_name(&self.codec)
            .filter(|codec| self.media == "audio" && codec.clock() == self.clock_rate)
    }
}

/// A camera that has answered DESCRIBE.
pub struct Described {
    inner: retina::client::Session<retina::client::Described>,
    /// All tracks of its SDP.
    pub tracks: Vec<ListedTrack>,
}

impl Described {
    /// Connects, authenticates and reads the camera's SDP.
    ///
    /// # Errors
    /// Unreachable, timed out, login rejected, no such path, or not RTSP.
    pub async fn fetch(url: &Url, credentials: Option<&(String, Secret)>) -> Result<Self, SourceError> {
        let credentials = credentials.map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.expose().to_owned(),
        });
        let options = SessionOptions::default().creds(credentials).user_agent("Gatehouse".into());
        let describe = retina::client::Session::describe(url.clone(), options);
        let inner = limited("DESCRIBE", DESCRIBE_LIMIT, Box::pin(describe)).await?;
        let tracks = inner.streams().iter().map(|stream| ListedTrack {
            media: stream.media().to_owned(),
            codec: stream.encoding_name().to_ascii_uppercase(),
            clock_rate: stream.clock_rate_hz(),
        });
        Ok(Self { tracks: tracks.collect(), inner })
    }

    /// Sets up the H.264 track and a playable audio track, and starts playing.
    ///
    /// # Errors
    /// No H.264 among the tracks, or the camera refuses.
    pub async fn play(mut self, transport: Transport) -> Result<RtspConnection, SourceError> {
        let video = self.tracks.iter().position(|track| track.codec == "H264");
        let video = video.ok_or_else(|| no_h264(&self.tracks))?;
        let audio = AudioCodec::ALL
            .iter()
            .find_map(|codec| self.tracks.iter().position(|track| track.audio_codec() == Some(*codec)));
        let offered = self.offered(video, audio);
        for track in [Some(video), audio].into_iter().flatten() {
            let setup = self.inner.setup(
                track,
                SetupOptions::default().transport(match transport {
                    Transport::Tcp => RetinaTransport::Tcp(TcpTransportOptions::default()),
                    Transport::Udp => RetinaTransport::Udp(UdpTransportOptions::default()),
                }),
            );
            limited("SETUP", STEP_LIMIT, Box::pin(setup)).await?;
        }
        let options = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
        let inner = limited("PLAY", STEP_LIMIT, Box::pin(self.inner.play(options))).await?;
        Ok(RtspConnection { inner: Box::pin(inner), video, audio, offered })
    }

    fn offered(&self, video: usize, audio: Option<usize>) -> Offered {
        let parameter_sets = match self.inner.streams()[video].parameters() {
            Some(ParametersRef::Video(parameters)) => match parameters.codec_params() {
                VideoParametersCodec::H264 { sps, pps } => vec![sps.clone(), pps.clone()],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let audio_codec = audio.and_then(|index| self.tracks[index].audio_codec());
        let listed = audio.or_else(|| self.tracks.iter().position(|track| track.media == "audio"));
        let status = listed.map(|index| AudioStatus {
            codec: self.tracks[index].codec.clone(),
            playable: audio_codec.is_some(),
            silent: false,
            passed: audio_codec,
        });
        Offered { parameter_sets, video: Some(VideoCodec::H264), audio: status, audio_codec }
    }
}

impl RtspConnection {
    /// Connects to a camera and starts it.
    ///
    /// # Errors
    /// Those of [`Described::fetch`] and [`Described::play`].
    pub async fn connect(
        url: &Url,
        credentials: Option<&(String, Secret)>,
        transport: Transport,
    ) -> Result<Self, SourceError> {
        Described::fetch(url, credentials).await?.play(transport).await
    }

    /// What the camera offers.
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    /// The next packet or sender report. May be dropped without losing one.
    ///
    /// # Errors
    /// The camera closed the connection, or sent something that is not RTSP or RTP.
    pub async fn next(&mut self) -> Result<Arrival, SourceError> {
        loop {
            let item = match self.inner.next().await {
                Some(Ok(item)) => item,
                Some(Err(error)) => return Err(translate("playing", &error)),
                None => return Err(SourceError::soon("camera_closed", "the camera closed the connection")),
            };
            let arrival = match item {
                PacketItem::Rtp(packet) => self.packet(packet),
                PacketItem::Rtcp(compound) => self.clock(&compound),
                _ => None,
            };
            if let Some(arrival) = arrival {
                return Ok(arrival);
            }
        }
    }

    fn track(&self, stream: usize) -> Option<Track> {
        if stream == self.video {
            return Some(Track::Video);
        }
        (Some(stream) == self.audio).then_some(Track::Audio)
    }

    fn packet(&self, packet: retina::rtp::ReceivedPacket) -> Option<Arrival> {
        Some(Arrival::Rtp(RtpIn {
            track: self.track(packet.stream_id())?,
            timestamp: packet.timestamp().timestamp() as u32,
            marker: packet.mark(),
            lost: packet.loss(),
            payload: packet.into_payload_bytes(),
        }))
    }

    fn clock(&self, compound: &retina::rtcp::ReceivedCompoundPacket) -> Option<Arrival> {
        let track = self.track(compound.stream_id())?;
        let report = compound.pkts().find_map(|packet| packet.as_sender_report().ok().flatten())?;
        Some(Arrival::Clock {
            track,
            timestamp: report.rtp_timestamp(),
            at: crate::rtp::ntp::to_system_time(report.ntp_timestamp().0),
            received: Instant::now(),
        })
    }
}

fn no_h264(tracks: &[ListedTrack]) -> SourceError {
    let names: Vec<&str> = tracks.iter().map(|track| track.codec.as_str()).collect();
    let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    SourceError::slowly("camera_codec", format!("the camera offers {names}, but no H264"))
}

async fn limited<T>(
    step: &str,
    limit: Duration,
    work: Pin<Box<impl Future<Output = Result<T, retina::Error>> + ?Sized>>,
) -> Result<T, SourceError> {
    let bounded = async {
        tokio::select! {
            done = tokio::time::timeout(limit, work) => Some(done),
            () = memory::grown() => None,
        }
    };
    let Some(done) = bounded.await else {
        let text = format!("{step}: the camera's answer takes more than {} MiB", memory::MAX_GROWTH >> 20);
        return Err(SourceError::soon("camera_protocol", text));
    };
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(translate(step, &error)),
        Err(_) => {
            let seconds = limit.as_secs();
            Err(SourceError::soon("camera_timeout", format!("no answer to {step} within {seconds} s")))
        }
    }
}

/// retina's errors are long and include connection details; only the first line is kept.
fn translate(step: &str, error: &retina::Error) -> SourceError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    match error.status_code() {
        Some(401 | 403) => {
            SourceError::slowly("camera_login", "the camera rejected the user name or password".to_owned())
        }
        Some(404 | 454) => SourceError::slowly("camera_path", format!("{step}: the camera has no such path")),
        Some(461) => {
            SourceError::slowly("camera_transport", format!("{step}: {line}; try the other transport"))
        }
        Some(_) => SourceError::soon("camera_refused", format!("{step}: {line}")),
        None if line.starts_with("Unable to connect") => SourceError::soon("camera_unreachable", line),
        None if line.starts_with("Error reading") => {
            SourceError::soon("camera_closed", format!("{step}: {line}"))
        }
        None => SourceError::soon("camera_protocol", format!("{step}: {line}")),
    }
}

/// For tests and the probe: the parameter sets of the SDP.
impl RtspConnection {
    /// SPS and PPS that the SDP carried.
    pub fn parameter_sets(&self) -> &[Bytes] {
        &self.offered.parameter_sets
    }
}
