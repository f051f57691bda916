//! RTSP cameras, pulled with the `retina` crate, which no other file uses. `front` speaks with the camera; retina gets
//! well-formed RTSP from it and hands out raw RTP, which `h264::shape` interprets. Start at
//! [`Described::fetch`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use retina::client::{
    InitialTimestampPolicy, PacketItem, PlayOptions, Playing, SessionOptions, SetupOptions,
    TcpTransportOptions, Transport as RetinaTransport, UnknownRtcpSsrcPolicy,
};
use url::Url;

pub use super::front::camera::Greeting;
use super::front::camera::{Camera, Way};
use super::front::pump::{self, FrontTrack, Pump, StrictTrack};
use super::packet::{AudioCodec, RtpIn, Track, VideoCodec};
use super::source::{Arrival, Offered, Secret, SourceError, TlsTrust, Transport};
use super::status::AudioStatus;
use crate::rtsp::sdp;

/// Timeout for each step between retina and the front.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// The payload types between them.
const PAYLOAD_TYPES: [u8; 2] = [96, 97];

/// A camera that is playing. Dropping it sends TEARDOWN in the background.
pub struct RtspConnection {
    inner: Pin<Box<retina::client::Session<Playing>>>,
    pump: Pump,
    tracks: Vec<Track>,
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
    camera: Camera,
    description: sdp::Description,
    /// The tracks that it sends; its loudspeaker is none of them.
    pub tracks: Vec<ListedTrack>,
}

impl Described {
    /// Connects, authenticates and reads the camera's SDP.
    ///
    /// # Errors
    /// Unreachable, timed out, login rejected, no such path, or not RTSP.
    pub async fn fetch(
        url: &Url,
        credentials: Option<&(String, Secret)>,
        tls: TlsTrust,
        follow: &[String],
    ) -> Result<Self, SourceError> {
        Self::fetch_greeted(url, credentials, tls, follow, &mut Greeting::default()).await
    }

    /// The same; `greeting` is filled in even if it fails.
    ///
    /// # Errors
    /// Those of [`Self::fetch`].
    pub async fn fetch_greeted(
        url: &Url,
        credentials: Option<&(String, Secret)>,
        tls: TlsTrust,
        follow: &[String],
        greeting: &mut Greeting,
    ) -> Result<Self, SourceError> {
        let describe = Box::pin(Camera::describe(url, credentials, tls, follow, greeting));
        let (camera, mut description) = describe.await?;
        description.tracks.retain(|track| !track.is_loudspeaker);
        let tracks = description.tracks.iter().map(|track| ListedTrack {
            media: track.media.clone(),
            codec: track.codec.clone(),
            clock_rate: track.clock_rate,
        });
        Ok(Self { tracks: tracks.collect(), description, camera })
    }

    /// The SHA-256 of the camera's certificate, over TLS.
    pub fn fingerprint(&self) -> Option<&str> {
        self.camera.fingerprint.as_deref()
    }

    fn video(&self) -> Result<usize, SourceError> {
        let video = self.tracks.iter().position(|track| track.codec == "H264" && track.media == "video");
        video.ok_or_else(|| no_h264(&self.tracks))
    }

    /// The best of the audio tracks that browsers can play.
    fn playable_audio(&self) -> Option<usize> {
        AudioCodec::ALL
            .iter()
            .find_map(|codec| self.tracks.iter().position(|track| track.audio_codec() == Some(*codec)))
    }

    /// Whether it can be played.
    ///
    /// # Errors
    /// No H.264 among the tracks.
    pub fn check(&self) -> Result<(), SourceError> {
        self.video().map(drop)
    }

    /// Its sound, playable or not.
    pub fn audio(&self) -> Option<AudioStatus> {
        self.audio_status(self.playable_audio())
    }

    /// Sets up the H.264 track and a playable audio track, and starts playing.
    ///
    /// # Errors
    /// No H.264 among the tracks, or the camera refuses.
    pub async fn play(mut self, transport: Transport) -> Result<RtspConnection, SourceError> {
        let video = self.video()?;
        let audio = self.playable_audio();
        let mut tracks = vec![(Track::Video, self.set_up(video, 0, transport).await?)];
        let mut heard = None;
        if let Some(audio) = audio {
            let is_udp = matches!(tracks[0].1.way, Way::Udp { .. });
            let transport = if is_udp { Transport::Udp } else { Transport::Tcp };
            // Without its sound, a camera still has a picture.
            match self.set_up(audio, 1, transport).await {
                Ok(track) => {
                    tracks.push((Track::Audio, track));
                    heard = Some(audio);
                }
                Err(error) if error.code == "camera_closed" => return Err(error),
                Err(error) => tracing::debug!("the camera refuses its sound: {error}"),
            }
        }
        self.camera.play().await?;
        let mut offered = self.offered(video, heard);
        offered.notes.extend(tracks[0].1.way.receive_buffer_note());
        let (kinds, tracks): (Vec<_>, Vec<_>) = tracks.into_iter().unzip();
        let failed = |error: std::io::Error| SourceError::soon("internal", format!("the front: {error}"));
        let pump = pump::start(self.camera, tracks).await.map_err(failed)?;
        let inner =
            connect_retina(&pump.url, kinds.len()).await.map_err(|error| ended(&pump.reason, error))?;
        Ok(RtspConnection { inner: Box::pin(inner), pump, tracks: kinds, offered })
    }

    async fn set_up(
        &mut self,
        index: usize,
        number: u8,
        transport: Transport,
    ) -> Result<FrontTrack, SourceError> {
        let track = &self.description.tracks[index];
        let control = track.control.as_deref();
        let way = match transport {
            // What the camera refuses is not asked for twice.
            Transport::Udp => match self.camera.set_up_udp(control).await {
                Err(error) if error.code == "camera_transport" => self.camera.set_up(control, number).await?,
                result => result?,
            },
            Transport::Tcp => self.camera.set_up(control, number).await?,
            Transport::Auto => match self.camera.set_up(control, number).await {
                Err(error) if error.code == "camera_transport" => self.camera.set_up_udp(control).await?,
                result => result?,
            },
        };
        let channels = if track.channels > 1 { format!("/{}", track.channels) } else { String::new() };
        let strict = StrictTrack {
            media: if number == 0 { "video" } else { "audio" },
            payload_type: PAYLOAD_TYPES[usize::from(number)],
            encoding: format!("{}/{}{channels}", track.codec, track.clock_rate),
            ssrc: rand::random(),
        };
        Ok(FrontTrack { way, strict })
    }

    fn offered(&self, video: usize, audio: Option<usize>) -> Offered {
        let sets = self.description.tracks[video].parameter_sets.iter();
        let parameter_sets = sets.map(|set| Bytes::copy_from_slice(set)).collect();
        let audio_codec = audio.and_then(|index| self.tracks[index].audio_codec());
        let status = self.audio_status(audio);
        Offered {
            parameter_sets,
            video: Some(VideoCodec::H264),
            audio: status,
            audio_codec,
            notes: Vec::new(),
        }
    }

    fn audio_status(&self, audio: Option<usize>) -> Option<AudioStatus> {
        let passed = audio.and_then(|index| self.tracks[index].audio_codec());
        let listed = audio.or_else(|| self.tracks.iter().position(|track| track.media == "audio"))?;
        let codec = self.tracks[listed].codec.clone();
        Some(AudioStatus { codec, playable: passed.is_some(), silent: false, passed })
    }
}

/// Connects retina to the front.
async fn connect_retina(url: &Url, tracks: usize) -> Result<retina::client::Session<Playing>, SourceError> {
    let options = SessionOptions::default().user_agent("Gatehouse".into());
    let describe = retina::client::Session::describe(url.clone(), options);
    let mut session = limited("DESCRIBE", Box::pin(describe)).await?;
    for track in 0..tracks {
        let options = SetupOptions::default().transport(RetinaTransport::Tcp(TcpTransportOptions::default()));
        limited("SETUP", Box::pin(session.setup(track, options))).await?;
    }
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    limited("PLAY", Box::pin(session.play(options))).await
}

/// Why the session has ended: the front knows better.
fn ended(reason: &Arc<Mutex<Option<SourceError>>>, otherwise: SourceError) -> SourceError {
    reason.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(otherwise)
}

impl RtspConnection {
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
                Some(Err(error)) => return Err(ended(&self.pump.reason, translate("playing", &error))),
                None => {
                    let closed = SourceError::soon("camera_closed", "the camera closed the connection");
                    return Err(ended(&self.pump.reason, closed));
                }
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
        self.tracks.get(stream).copied()
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
    work: Pin<Box<impl Future<Output = Result<T, retina::Error>> + ?Sized>>,
) -> Result<T, SourceError> {
    match tokio::time::timeout(STEP_LIMIT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(translate(step, &error)),
        Err(_) => Err(SourceError::soon("internal", format!("retina: no answer to {step}"))),
    }
}

/// Retina speaks only with the front: an error of its own is a bug, an end is the front's. Its errors are long; only the
/// first line is kept.
fn translate(step: &str, error: &retina::Error) -> SourceError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with("Error reading") {
        return SourceError::soon("camera_closed", "the camera closed the connection");
    }
    SourceError::soon("camera_protocol", format!("{step}: {line}"))
}

/// For tests and the probe: the parameter sets of the SDP.
impl RtspConnection {
    /// SPS and PPS that the SDP carried.
    pub fn parameter_sets(&self) -> &[Bytes] {
        &self.offered.parameter_sets
    }
}
