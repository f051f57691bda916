//! Another WHEP server as a source: Gatehouse, MediaMTX, go2rtc. The only file that names `webrtc`, the async
//! API: one peer connection that receives, on the sockets of `runtime`. Not the server side of WHEP; that is `http::whip_whep`.

mod runtime;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::redirect::Policy;
use runtime::ScreenedRuntime;
use tokio::sync::mpsc;
use url::Url;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    register_default_interceptors,
};
use webrtc::runtime::TokioRuntime;

use crate::rtp::reorder::{self, Reorder};
use crate::streams::packet::{AudioCodec, RtpIn, Track, VideoCodec};
use crate::streams::source::{Arrival, Offered, Secret, SourceError};
use crate::streams::status::AudioStatus;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_VP8,
};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// Timeout for the POST and its answer.
const POST_LIMIT: Duration = Duration::from_secs(10);
/// Timeout for the final DELETE.
const DELETE_LIMIT: Duration = Duration::from_secs(3);
/// Timeout from the answer to the first packet.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Minimum interval between two key frame requests.
const KEY_FRAME_PAUSE: Duration = Duration::from_secs(1);
/// Dynamic payload types in our offer.
const PT_H264: u8 = 102;
const PT_VP8: u8 = 97;
const PT_OPUS: u8 = 111;
/// Capacity of the queue from the peer connection to the stream, in packets.
const QUEUE: usize = 1024;
/// A larger answer is none: ours have 2 KiB.
const MAX_ANSWER: usize = 256 * 1024;

/// A connected WHEP session. Dropping it closes the connection and sends DELETE in the background.
pub struct WhepConnection {
    events: mpsc::Receiver<Event>,
    key_frames: mpsc::Sender<()>,
    video: Reorder<RtpIn>,
    audio: Reorder<RtpIn>,
    ready: std::collections::VecDeque<RtpIn>,
    last_request: Option<Instant>,
    offered: Offered,
    closer: Closer,
}

enum Event {
    Packet(u16, RtpIn),
    Closed(&'static str),
}

struct Handler {
    events: mpsc::Sender<Event>,
    gathered: mpsc::Sender<()>,
    key_frames: std::sync::Mutex<Option<mpsc::Receiver<()>>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let reason = match state {
            RTCPeerConnectionState::Failed => "no connection to the server's media port",
            RTCPeerConnectionState::Closed => "the server closed the connection",
            RTCPeerConnectionState::Disconnected => "the server stopped responding",
            _ => return,
        };
        let _ = self.events.try_send(Event::Closed(reason));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let kind = match track.kind().await {
            RtpCodecKind::Video => Track::Video,
            RtpCodecKind::Audio => Track::Audio,
            _ => return,
        };
        let requests = match kind {
            Track::Video => self.key_frames.lock().ok().and_then(|mut slot| slot.take()),
            Track::Audio => None,
        };
        if let Some(requests) = requests {
            tokio::spawn(forward_requests(track.clone(), requests));
        }
        tokio::spawn(forward_packets(track, kind, self.events.clone()));
    }
}

async fn forward_packets(track: Arc<dyn TrackRemote>, kind: Track, events: mpsc::Sender<Event>) {
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
        if packet.payload.is_empty() {
            continue;
        }
        let rtp = RtpIn {
            track: kind,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            lost: 0,
            payload: packet.payload,
        };
        if events.send(Event::Packet(packet.header.sequence_number, rtp)).await.is_err() {
            return;
        }
    }
}

async fn forward_requests(track: Arc<dyn TrackRemote>, mut requests: mpsc::Receiver<()>) {
    while requests.recv().await.is_some() {
        let Some(&media_ssrc) = track.ssrcs().await.first() else { continue };
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc };
        if track.write_rtcp(vec![Box::new(request)]).await.is_err() {
            return;
        }
    }
}

impl WhepConnection {
    /// Connects to a WHEP server and waits for its first packet.
    ///
    /// # Errors
    /// Unreachable, refused (401, 403, 404 and others), no common codec, or no media within the limit.
    pub async fn connect(url: &Url, token: Option<&Secret>) -> Result<Self, SourceError> {
        let (events, mut received) = mpsc::channel(QUEUE);
        let (key_frames, requests) = mpsc::channel(1);
        let (gathered, mut gathering) = mpsc::channel(1);
        let handler = Handler { events, gathered, key_frames: std::sync::Mutex::new(Some(requests)) };
        let client = http_client()?;
        let peer = Box::pin(build_peer(url, handler)).await.map_err(|error| internal(&error))?;
        let mut closer = Closer { peer, client, resource: None, token: token.cloned() };
        let offer = closer.make_offer(&mut gathering).await?;
        let answer = closer.post(url, offer).await?;
        let audio_codec = audio_of(&answer);
        let video = video_of(&answer);
        let audio = audio_codec.map(|codec| AudioStatus {
            codec: codec.name().into(),
            playable: true,
            silent: false,
            passed: Some(codec),
        });
        let answer = RTCSessionDescription::answer(answer).map_err(|error| unusable(&error))?;
        closer.peer.set_remote_description(answer).await.map_err(|error| unusable(&error))?;
        let first = match tokio::time::timeout(CONNECT_LIMIT, received.recv()).await {
            Ok(Some(Event::Packet(sequence, packet))) => (sequence, packet),
            Ok(Some(Event::Closed(reason))) => return Err(SourceError::soon("camera_unreachable", reason)),
            Ok(None) | Err(_) => {
                let text = format!("no media within {} s of the answer", CONNECT_LIMIT.as_secs());
                return Err(SourceError::soon("camera_timeout", text));
            }
        };
        let mut session = Self {
            events: received,
            key_frames,
            video: Reorder::new(reorder::VIDEO_PATIENCE),
            audio: Reorder::new(reorder::AUDIO_PATIENCE),
            ready: std::collections::VecDeque::new(),
            last_request: None,
            offered: Offered { video, audio, audio_codec, ..Offered::default() },
            closer,
        };
        session.sort(first.0, first.1);
        session.request_key_frame();
        Ok(session)
    }

    /// What the server offers.
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    /// Where the session is on the server.
    pub fn resource(&self) -> Option<&Url> {
        self.closer.resource.as_ref()
    }

    /// The next packet, in order. May be dropped without losing one.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn next(&mut self) -> Result<Arrival, SourceError> {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return Ok(Arrival::Rtp(packet));
            }
            match self.events.recv().await {
                Some(Event::Packet(sequence, packet)) => self.sort(sequence, packet),
                Some(Event::Closed(reason)) => return Err(SourceError::soon("camera_closed", reason)),
                None => return Err(SourceError::soon("camera_closed", "the connection is closed")),
            }
        }
    }

    fn sort(&mut self, sequence: u16, packet: RtpIn) {
        let reorder = match packet.track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        let ripe = reorder.push(Instant::now(), sequence, packet);
        self.ready.extend(ripe.into_iter().map(|(lost, packet)| RtpIn { lost, ..packet }));
    }

    /// Sends PLI, at most once a second.
    pub fn request_key_frame(&mut self) {
        let now = Instant::now();
        if self.last_request.is_none_or(|last| now.duration_since(last) >= KEY_FRAME_PAUSE) {
            self.last_request = Some(now);
            let _ = self.key_frames.try_send(());
        }
    }
}

/// The peer connection, and what is needed to end its session on the server.
struct Closer {
    peer: Arc<dyn PeerConnection>,
    client: reqwest::Client,
    resource: Option<Url>,
    token: Option<Secret>,
}

impl Closer {
    async fn make_offer(&self, gathering: &mut mpsc::Receiver<()>) -> Result<String, SourceError> {
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let direction = RTCRtpTransceiverDirection::Recvonly;
            let init = RTCRtpTransceiverInit { direction, ..Default::default() };
            let added = self.peer.add_transceiver_from_kind(kind, Some(init)).await;
            added.map_err(|error| internal(&error))?;
        }
        let offer = self.peer.create_offer(None).await.map_err(|error| internal(&error))?;
        self.peer.set_local_description(offer).await.map_err(|error| internal(&error))?;
        // There are only host candidates, so gathering takes milliseconds; after a second the offer is sent as it is.
        let _ = tokio::time::timeout(Duration::from_secs(1), gathering.recv()).await;
        let description = self.peer.local_description().await;
        description.map(|description| description.sdp).ok_or_else(|| internal(&"no local description"))
    }

    async fn post(&mut self, url: &Url, offer: String) -> Result<String, SourceError> {
        let mut request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/sdp");
        request = request.header(ACCEPT, "application/sdp").timeout(POST_LIMIT).body(offer);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let response = request.send().await.map_err(|error| unreachable_server(&error))?;
        let status = response.status().as_u16();
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        // Our DELETE carries the token: it goes to the origin that the token is for, and nowhere else.
        self.resource = location
            .and_then(|location| url.join(location).ok())
            .filter(|resource| resource.origin() == url.origin());
        let body = read_answer(response).await?;
        match status {
            200 | 201 => Ok(body),
            401 | 403 => {
                Err(SourceError::slowly("camera_login", format!("the server rejected the token ({status})")))
            }
            404 => Err(SourceError::slowly("camera_path", "the server has no such stream (404)")),
            _ => Err(SourceError::soon("camera_refused", format!("the server answered {status}"))),
        }
    }
}

async fn read_answer(mut response: reqwest::Response) -> Result<String, SourceError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable_server(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let text = format!("the server's answer is larger than {} KiB", MAX_ANSWER / 1024);
            return Err(SourceError::slowly("camera_protocol", text));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| SourceError::slowly("camera_protocol", "the answer is not UTF-8"))
}

impl Drop for Closer {
    fn drop(&mut self) {
        let peer = self.peer.clone();
        let delete = self.resource.take().map(|resource| {
            let request = self.client.delete(resource).timeout(DELETE_LIMIT);
            match &self.token {
                Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.expose())),
                None => request,
            }
        });
        // Without a runtime (at process exit) the DELETE cannot be sent any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let _ = peer.close().await;
            if let Some(request) = delete {
                let _ = request.send().await;
            }
        });
    }
}

async fn build_peer(url: &Url, handler: Handler) -> Result<Arc<dyn PeerConnection>, webrtc::error::Error> {
    let mut media = MediaEngine::default();
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    media.register_codec(video(MIME_TYPE_H264, PT_H264, h264), RtpCodecKind::Video)?;
    media.register_codec(video(MIME_TYPE_VP8, PT_VP8, ""), RtpCodecKind::Video)?;
    let sounds = [
        (MIME_TYPE_OPUS, PT_OPUS, 48_000, 2, "minptime=10;useinbandfec=1"),
        (MIME_TYPE_PCMU, 0, 8000, 1, ""),
        (MIME_TYPE_PCMA, 8, 8000, 1, ""),
    ];
    for (mime, payload_type, clock_rate, channels, format) in sounds {
        let rtp_codec = RTCRtpCodec {
            mime_type: mime.into(),
            clock_rate,
            channels,
            sdp_fmtp_line: format.into(),
            rtcp_feedback: Vec::new(),
        };
        let codec = RTCRtpCodecParameters { rtp_codec, payload_type };
        media.register_codec(codec, RtpCodecKind::Audio)?;
    }
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let builder = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(handler))
        .with_runtime(Arc::new(ScreenedRuntime(TokioRuntime)))
        .with_udp_addrs(vec![SocketAddr::new(local_address(url), 0).to_string()]);
    let peer = Box::pin(builder.build()).await?;
    Ok(Arc::new(peer))
}

/// The local address from which the server's host is reached; its media is most likely reachable from there too.
fn local_address(url: &Url) -> IpAddr {
    let any: IpAddr = [0, 0, 0, 0].into();
    let targets = url.socket_addrs(|| None).unwrap_or_default();
    let routed = targets.iter().find_map(|target| {
        let unspecified: IpAddr = if target.is_ipv4() { any } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((unspecified, 0)).ok()?;
        socket.connect(target).ok()?;
        socket.local_addr().ok()
    });
    routed.map_or(any, |address| address.ip())
}

fn video(mime: &str, payload_type: u8, format: &str) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.into(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: format.into(),
            rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
        },
        payload_type,
    }
}

/// The payload type of the answer's first accepted section of a kind, which is the one that will be sent.
fn first_type<'a>(answer: &'a str, kind: &str) -> Option<&'a str> {
    let heads =
        answer.lines().filter_map(|line| line.strip_prefix("m=")?.strip_prefix(kind)?.strip_prefix(' '));
    let mut words = heads.filter(|rest| !rest.starts_with("0 ")).map(str::split_whitespace).next()?;
    words.nth(2)
}

fn audio_of(answer: &str) -> Option<AudioCodec> {
    match first_type(answer, "audio")?.parse() {
        Ok(PT_OPUS) => Some(AudioCodec::Opus),
        Ok(0) => Some(AudioCodec::Pcmu),
        Ok(8) => Some(AudioCodec::Pcma),
        _ => None,
    }
}

fn video_of(answer: &str) -> Option<VideoCodec> {
    match first_type(answer, "video")?.parse() {
        Ok(PT_VP8) => Some(VideoCodec::Vp8),
        Ok(PT_H264) => Some(VideoCodec::H264),
        _ => None,
    }
}

fn http_client() -> Result<reqwest::Client, SourceError> {
    // Idempotent. reqwest is built without its own TLS provider, so that the program contains only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let same_origin = Policy::custom(|attempt| match attempt.previous() {
        [.., last] if last.origin() == attempt.url().origin() && attempt.previous().len() < 5 => {
            attempt.follow()
        }
        // The answer with the redirect is what the caller gets: it has neither 200 nor 201.
        _ => attempt.stop(),
    });
    let builder = reqwest::Client::builder().user_agent("Gatehouse").redirect(same_origin);
    builder.connect_timeout(Duration::from_secs(5)).build().map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::soon("internal", format!("the peer connection could not be created: {error}"))
}

fn unusable(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::slowly("camera_codec", format!("the server's answer is unusable: {error}"))
}

fn unreachable_server(error: &reqwest::Error) -> SourceError {
    // Without the URL: it may carry a token in its query.
    let mut text = "the server cannot be reached".to_owned();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("the server cannot be reached: {error}");
        cause = error.source();
    }
    SourceError::soon("camera_unreachable", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_of_an_answer() {
        assert_eq!(audio_of("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 8\r\n"), Some(AudioCodec::Pcma));
        assert_eq!(audio_of("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), Some(AudioCodec::Opus));
        assert_eq!(video_of("m=audio 9 X 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97 98\r\n"), Some(VideoCodec::Vp8));
        assert_eq!(audio_of("m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n"), None);
        assert_eq!(audio_of("m=video 9 UDP/TLS/RTP/SAVPF 102\r\n"), None);
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        let url = Url::parse("http://127.0.0.1:9/whep/x").unwrap();
        assert!(local_address(&url).is_loopback());
    }
}
