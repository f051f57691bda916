//! Turns an offer into an agreement: codecs, payload types, header extensions. Pure. `answer` renders the agreement as
//! SDP. Start at [`watch`] for viewers and at [`publish`] for publishers.

use crate::media::session::sdp::{Codec, Media, Sdp, SdpError};
use crate::media::transport::ice::Credentials;
use crate::streams::packet::{AudioCodec, VideoCodec};

/// Header extension that requests rendering without playout delay if both bounds are 0.
pub(super) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// Header extension with transport-wide sequence numbers, for the feedback used in bandwidth estimation.
pub(super) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The tracks that a stream has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracks {
    /// The video codec, with the `profile-level-id` of the SPS for H.264; `None` for an audio-only stream.
    pub video: Option<(VideoCodec, String)>,
    /// The audio codec, if browsers support it.
    pub audio: Option<AudioCodec>,
}

/// Why an offer cannot be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferError {
    /// The offer is not valid SDP.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// A part that WebRTC requires is missing.
    #[error("the offer has no {0}")]
    Missing(&'static str),
    /// No section with a codec that the stream has.
    #[error("no common codec: the offer has {offered}, the stream has {ours}")]
    NoCommonCodec {
        /// The offer's video codecs.
        offered: String,
        /// The stream's.
        ours: String,
    },
}

/// Our role in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// We send the ClientHello, which saves a round trip.
    Client,
    /// The remote side sends it.
    Server,
}

/// A fingerprint of the remote certificate: hash name in lower case, digest.
pub type Fingerprint = (String, Vec<u8>);

/// How a track is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendTrack {
    /// Payload type.
    pub payload_type: u8,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// Whether NACK was agreed on.
    pub nack: bool,
    /// Id of the playout-delay extension.
    pub playout_delay: Option<u8>,
    /// SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: u32,
}

/// How a track is received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveTrack {
    /// Payload type.
    pub payload_type: u8,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// Whether NACK was agreed on.
    pub nack: bool,
    /// Id of the transport-wide sequence number extension.
    pub transport_cc: Option<u8>,
    /// RTP clock, in Hz.
    pub clock: u32,
}

/// The result of the negotiation, with a track of type `T` for each kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement<T> {
    /// The remote side's ICE credentials.
    pub remote: Credentials,
    /// `a=candidate` values of the offer.
    pub candidates: Vec<String>,
    /// The remote certificate must match one of these.
    pub fingerprints: Vec<Fingerprint>,
    /// Our DTLS role.
    pub role: DtlsRole,
    /// The video track, if there is one.
    pub video: Option<T>,
    /// The audio track, if both sides have the codec.
    pub audio: Option<T>,
    pub(super) sections: Vec<Section>,
}

/// One section of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub kind: String,
    pub protocol: String,
    pub mid: Option<String>,
    /// `None` if the section is rejected.
    pub accepted: Option<Accepted>,
    pub first_format: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Accepted {
    pub codec: Codec,
    pub way: AcceptedTrack,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AcceptedTrack {
    Send(SendTrack),
    Receive(ReceiveTrack),
}

impl AcceptedTrack {
    pub fn rtx_payload_type(&self) -> Option<u8> {
        match self {
            Self::Send(track) => track.rtx_payload_type,
            Self::Receive(track) => track.rtx_payload_type,
        }
    }
}

/// What a publisher is going to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publishing {
    /// The tracks.
    pub agreement: Agreement<ReceiveTrack>,
    /// The video codec.
    pub video: Option<VideoCodec>,
    /// The audio codec.
    pub audio: Option<AudioCodec>,
}

/// A codec of the offer, with the payload type of its retransmissions.
struct Choice {
    codec: Codec,
    rtx: Option<u8>,
}

/// Chooses what to send for an offer. `ssrcs` are four random numbers.
///
/// # Errors
/// The offer is not SDP, lacks a required part, or has no codec in common with the stream.
pub fn watch(offer: &str, tracks: &Tracks, ssrcs: [u32; 4]) -> Result<Agreement<SendTrack>, OfferError> {
    let sdp = Sdp::parse(offer)?;
    let (mut video, mut audio) = (None, None);
    let mut sections = Vec::new();
    for media in &sdp.media {
        let is_video = media.kind == "video";
        let choice = match media.kind.as_str() {
            "video" if video.is_none() && media.wants_media() => {
                tracks.video.as_ref().and_then(|track| choose_video(&media.codecs(), track.0, &track.1))
            }
            "audio" if audio.is_none() && media.wants_media() => {
                tracks.audio.and_then(|codec| choose_audio(&media.codecs(), codec))
            }
            _ => None,
        };
        let accepted = choice.map(|choice| {
            let (ssrc, rtx_ssrc) = if is_video { (ssrcs[0], ssrcs[1]) } else { (ssrcs[2], ssrcs[3]) };
            let track = send_track(media, &choice, ssrc, rtx_ssrc);
            *(if is_video { &mut video } else { &mut audio }) = Some(track.clone());
            Accepted { codec: choice.codec, way: AcceptedTrack::Send(track) }
        });
        sections.push(section(media, accepted));
    }
    let enough = if tracks.video.is_some() { video.is_some() } else { audio.is_some() };
    if !enough {
        return Err(no_common_codec(&sdp, tracks));
    }
    agreement(&sdp, video, audio, sections)
}

/// Checks an offer for errors that do not depend on the stream.
///
/// # Errors
/// The offer is not SDP or lacks a required part.
pub fn check(offer: &str) -> Result<(), OfferError> {
    let sdp = Sdp::parse(offer)?;
    agreement::<()>(&sdp, None, None, Vec::new()).map(drop)
}

/// Chooses what to receive from an offer: H.264 is preferred, since every player supports it.
///
/// # Errors
/// The offer is not SDP, lacks a required part, or has no codec that can be forwarded.
pub fn publish(offer: &str) -> Result<Publishing, OfferError> {
    let sdp = Sdp::parse(offer)?;
    let (mut video, mut audio) = (None, None);
    let mut sections = Vec::new();
    for media in &sdp.media {
        let codecs = media.codecs();
        let accepted = match media.kind.as_str() {
            "video" if video.is_none() && media.sends_media() => {
                let choices = VideoCodec::ALL.into_iter();
                let mut choices =
                    choices.filter_map(|codec| Some((codec, choose_video(&codecs, codec, "42e01f")?)));
                choices.next().map(|(codec, choice)| {
                    let track = receive_track(media, &choice);
                    video = Some((codec, track.clone()));
                    Accepted { codec: choice.codec, way: AcceptedTrack::Receive(track) }
                })
            }
            "audio" if audio.is_none() && media.sends_media() => {
                let choices = [AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma].into_iter();
                let mut choices = choices.filter_map(|codec| Some((codec, choose_audio(&codecs, codec)?)));
                choices.next().map(|(codec, choice)| {
                    let track = receive_track(media, &choice);
                    audio = Some((codec, track.clone()));
                    Accepted { codec: choice.codec, way: AcceptedTrack::Receive(track) }
                })
            }
            _ => None,
        };
        sections.push(section(media, accepted));
    }
    let wants_video = sdp.media.iter().any(|media| media.kind == "video" && media.sends_media());
    if (wants_video && video.is_none()) || (video.is_none() && audio.is_none()) {
        let offered = names(&sdp, Media::sends_media);
        let ours = "H264 (packetization-mode=1), VP8, VP9, AV1, OPUS, PCMU, PCMA".into();
        return Err(OfferError::NoCommonCodec { offered, ours });
    }
    let (codecs, tracks) = (video.as_ref().map(|(codec, _)| *codec), audio.as_ref().map(|(codec, _)| *codec));
    let agreement = agreement(&sdp, video.map(|(_, track)| track), audio.map(|(_, track)| track), sections)?;
    Ok(Publishing { agreement, video: codecs, audio: tracks })
}

fn section(media: &Media, accepted: Option<Accepted>) -> Section {
    Section {
        kind: media.kind.clone(),
        protocol: media.protocol.clone(),
        mid: media.attribute("mid").map(str::to_owned),
        accepted,
        first_format: media.formats.first().cloned().unwrap_or_else(|| "0".into()),
    }
}

fn agreement<T>(
    sdp: &Sdp,
    video: Option<T>,
    audio: Option<T>,
    sections: Vec<Section>,
) -> Result<Agreement<T>, OfferError> {
    Ok(Agreement {
        remote: remote_credentials(sdp)?,
        candidates: candidates(sdp),
        fingerprints: fingerprints(sdp)?,
        role: match sdp.anywhere("setup") {
            Some("active") => DtlsRole::Server,
            _ => DtlsRole::Client,
        },
        video,
        audio,
        sections,
    })
}

/// The ICE credentials in a description or a fragment.
///
/// # Errors
/// They are missing, or not of a length that RFC 8839 §5.4 allows.
pub fn remote_credentials(sdp: &Sdp) -> Result<Credentials, OfferError> {
    let long_enough = |least: usize| move |text: &&str| (least..=256).contains(&text.len());
    let ufrag = sdp.anywhere("ice-ufrag").filter(long_enough(4)).ok_or(OfferError::Missing("ice-ufrag"))?;
    let pwd = sdp.anywhere("ice-pwd").filter(long_enough(22)).ok_or(OfferError::Missing("ice-pwd"))?;
    Ok(Credentials { ufrag: ufrag.into(), pwd: pwd.into() })
}

/// All `a=candidate` values of a description or a fragment.
pub fn candidates(sdp: &Sdp) -> Vec<String> {
    let all = sdp.media.iter().flat_map(|media| media.attributes("candidate"));
    let session = sdp.attributes.iter().filter(|attribute| attribute.name == "candidate");
    all.chain(session.map(|attribute| attribute.value.as_str())).map(str::to_owned).collect()
}

fn fingerprints(sdp: &Sdp) -> Result<Vec<Fingerprint>, OfferError> {
    let sections = sdp.media.iter().flat_map(|media| media.attributes("fingerprint"));
    let session = sdp.attributes.iter().filter(|attribute| attribute.name == "fingerprint");
    let all = session.map(|attribute| attribute.value.as_str()).chain(sections);
    let mut found: Vec<Fingerprint> = all.filter_map(fingerprint).collect();
    found.dedup();
    if found.is_empty() {
        return Err(OfferError::Missing("usable fingerprint"));
    }
    Ok(found)
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    let bytes = digits.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    let hash = hash.to_ascii_lowercase();
    let length = match hash.as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return None,
    };
    (bytes.len() == length).then_some((hash, bytes))
}

/// H.264 with the stream's profile, else constrained baseline, else any: browsers decode more profiles than they offer.
/// Only `packetization-mode=1` allows fragments.
fn choose_video(codecs: &[Codec], wanted: VideoCodec, profile_level_id: &str) -> Option<Choice> {
    let profile = |codec: &Codec| {
        // RFC 6184 §8.1: baseline, level 1, if not specified.
        codec.parameter("profile-level-id").unwrap_or("42000a").to_ascii_lowercase()
    };
    let ours = profile_level_id.get(..4).unwrap_or("42e0").to_ascii_lowercase();
    let rank = |codec: &Codec| match profile(codec) {
        id if id.get(..4) == Some(ours.as_str()) => 0,
        id if id.get(..2) == ours.get(..2) => 1,
        id if id.starts_with("42e0") => 2,
        id if id.starts_with("42") => 3,
        _ => 4,
    };
    let best = match wanted {
        VideoCodec::H264 => {
            let fit =
                |codec: &&Codec| codec.name == "H264" && codec.parameter("packetization-mode") == Some("1");
            codecs.iter().filter(fit).min_by_key(|codec| rank(codec))?
        }
        // For VP9 and AV1 profile 0 (8 bits), which every browser supports.
        other => codecs.iter().find(|codec| {
            codec.name == other.name()
                && ["profile-id", "profile"]
                    .iter()
                    .all(|key| codec.parameter(key).is_none_or(|profile| profile == "0"))
        })?,
    };
    let rtx = codecs.iter().find(|codec| {
        codec.name == "RTX"
            && codec.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(best.payload_type)
    });
    Some(Choice { codec: best.clone(), rtx: rtx.map(|rtx| rtx.payload_type) })
}

fn choose_audio(codecs: &[Codec], wanted: AudioCodec) -> Option<Choice> {
    let codec =
        codecs.iter().find(|codec| codec.name == wanted.name() && codec.clock_rate == wanted.clock())?;
    Some(Choice { codec: codec.clone(), rtx: None })
}

fn receive_track(media: &Media, choice: &Choice) -> ReceiveTrack {
    let codec = &choice.codec;
    let offers = |wanted: &str| codec.feedback.iter().any(|feedback| feedback == wanted);
    let nack = offers("nack");
    ReceiveTrack {
        payload_type: codec.payload_type,
        rtx_payload_type: choice.rtx.filter(|_| nack),
        nack,
        transport_cc: media.extension(TRANSPORT_CC).filter(|_| offers("transport-cc")),
        clock: codec.clock_rate,
    }
}

fn send_track(media: &Media, choice: &Choice, ssrc: u32, rtx_ssrc: u32) -> SendTrack {
    let codec = &choice.codec;
    let nack = codec.feedback.iter().any(|feedback| feedback == "nack");
    SendTrack {
        payload_type: codec.payload_type,
        rtx_payload_type: choice.rtx.filter(|_| nack),
        nack,
        playout_delay: media.extension(PLAYOUT_DELAY).filter(|_| media.kind == "video"),
        ssrc,
        rtx_ssrc,
    }
}

fn no_common_codec(sdp: &Sdp, tracks: &Tracks) -> OfferError {
    let offered = names(sdp, Media::wants_media);
    let ours = match (&tracks.video, tracks.audio) {
        (Some((VideoCodec::H264, profile)), _) => {
            format!("H264 (packetization-mode=1, profile-level-id={profile})")
        }
        (Some((codec, _)), _) => codec.name().into(),
        (None, audio) => audio.map_or("nothing", AudioCodec::name).into(),
    };
    OfferError::NoCommonCodec { offered, ours }
}

/// The video codecs of an offer, for error messages.
fn names(sdp: &Sdp, fits: fn(&Media) -> bool) -> String {
    let sections = sdp.media.iter().filter(|media| media.kind == "video" && fits(media));
    let mut names: Vec<String> = sections
        .flat_map(Media::codecs)
        .filter(|codec| !matches!(codec.name.as_str(), "RTX" | "RED" | "ULPFEC" | "FLEXFEC-03"))
        .map(|codec| match codec.parameter("packetization-mode") {
            Some(mode) => format!("{} (packetization-mode={mode})", codec.name),
            None => codec.name,
        })
        .collect();
    names.dedup();
    if names.is_empty() { "no video".into() } else { names.join(", ") }
}

impl<T> Agreement<T> {
    /// `mid` of the section that carries the candidates.
    pub fn first_mid(&self) -> &str {
        let section = self.sections.iter().find(|section| section.accepted.is_some());
        section.and_then(|section| section.mid.as_deref()).unwrap_or("0")
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
