//! A WHIP publisher like OBS, built on the `webrtc` crate; the test supplies the frames.

use std::sync::Arc;
use std::time::Duration;

use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::mpsc;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    register_default_interceptors,
};

use crate::support::{Server, within};

/// Which codec is offered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    Vp8,
}

struct Handler {
    gathered: mpsc::Sender<()>,
    connected: mpsc::Sender<()>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.connected.try_send(());
        }
    }
}

pub struct Publisher {
    peer: Arc<dyn PeerConnection>,
    video: Arc<TrackLocalStaticRTP>,
    audio: Arc<TrackLocalStaticRTP>,
    /// The URL of the session.
    pub location: String,
    sequence: u16,
    connected: mpsc::Receiver<()>,
}

fn track(kind: RtpCodecKind, codec: RTCRtpCodec, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec,
        ..Default::default()
    };
    let name = format!("{kind}");
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "publisher".into(),
        name.clone(),
        name,
        kind,
        vec![encoding],
    )))
}

fn video_codec(codec: Codec) -> RTCRtpCodec {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let (mime, format) = match codec {
        Codec::H264 => {
            (MIME_TYPE_H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        Codec::Vp8 => (MIME_TYPE_VP8, ""),
    };
    RTCRtpCodec {
        mime_type: mime.into(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: format.into(),
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("transport-cc", "")],
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: vec![],
    }
}

impl Publisher {
    /// Posts an offer; returns the status and the body if it is refused.
    pub async fn start(
        server: &Server,
        client: &reqwest::Client,
        stream: &str,
        codec: Codec,
    ) -> Result<Self, (u16, serde_json::Value)> {
        let mut media = MediaEngine::default();
        let codecs = [(video_codec(codec), 96, RtpCodecKind::Video), (opus(), 111, RtpCodecKind::Audio)];
        for (rtp_codec, payload_type, kind) in codecs {
            media.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind).unwrap();
        }
        let registry = register_default_interceptors(Registry::new(), &mut media).unwrap();
        let (gathered, mut gathering) = mpsc::channel(1);
        let (connects, connected) = mpsc::channel(1);
        let builder = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler { gathered, connected: connects }))
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()]);
        let peer: Arc<dyn PeerConnection> = Arc::new(Box::pin(builder.build()).await.unwrap());
        let video = track(RtpCodecKind::Video, video_codec(codec), 1001);
        let audio = track(RtpCodecKind::Audio, opus(), 1002);
        peer.add_track(video.clone() as Arc<dyn TrackLocal>).await.unwrap();
        peer.add_track(audio.clone() as Arc<dyn TrackLocal>).await.unwrap();
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(1), gathering.recv()).await;
        let offer = peer.local_description().await.unwrap().sdp;
        let request = client.post(server.url(&format!("/whip/{stream}")));
        let response = request.header("content-type", "application/sdp").body(offer).send().await.unwrap();
        let status = response.status().as_u16();
        if status != 201 {
            let body = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
            let _ = peer.close().await;
            return Err((status, body));
        }
        assert_eq!(response.headers()["content-type"], "application/sdp");
        assert!(response.headers().contains_key("etag"));
        let location = server.url(response.headers()["location"].to_str().unwrap());
        let answer = RTCSessionDescription::answer(response.text().await.unwrap()).unwrap();
        peer.set_remote_description(answer).await.unwrap();
        Ok(Self { peer, video, audio, location, sequence: 0, connected })
    }

    /// Waits for the connection.
    pub async fn connected(&mut self) {
        within("the publisher connects", self.connected.recv()).await;
    }

    /// Sends one video packet.
    pub async fn send(&mut self, timestamp: u32, marker: bool, payload: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = rtc::rtp::Packet::default();
        packet.header.version = 2;
        packet.header.payload_type = 96;
        packet.header.ssrc = 1001;
        packet.header.sequence_number = self.sequence;
        packet.header.timestamp = timestamp;
        packet.header.marker = marker;
        packet.payload = bytes::Bytes::copy_from_slice(payload);
        self.video.write_rtp(packet).await.unwrap();
    }

    /// Sends one audio packet.
    pub async fn say(&mut self, sequence: u16, payload: &[u8]) {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.version = 2;
        packet.header.payload_type = 111;
        packet.header.ssrc = 1002;
        packet.header.sequence_number = sequence;
        packet.header.timestamp = u32::from(sequence) * 960;
        packet.payload = bytes::Bytes::copy_from_slice(payload);
        self.audio.write_rtp(packet).await.unwrap();
    }

    /// Disappears without an HTTP DELETE.
    pub async fn vanish(self) {
        let _ = self.peer.close().await;
    }
}
