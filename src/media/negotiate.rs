//! From an offer to an answer: which codecs, which payload types, which header extensions. Pure. The answer is
//! written here line by line: one stream, one way, everything bundled on one transport. Start at [`negotiate`].

use std::fmt::Write;

use super::ice::Credentials;
use super::sdp::{Codec, Media, Sdp, SdpError};
use crate::streams::packet::AudioCodec;

/// Asks for no playout delay where both bounds are 0.
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// What the stream has to offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracks {
    /// `profile-level-id` of the camera's SPS.
    pub profile_level_id: String,
    /// Its sound, if it can be passed on.
    pub audio: Option<AudioCodec>,
}

/// Why an offer cannot be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferError {
    /// It is not SDP.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// A part that WebRTC cannot do without.
    #[error("the offer has no {0}")]
    Missing(&'static str),
    /// No section for video with a codec that the stream has.
    #[error("no common codec: the offer has {offered}, the stream has {ours}")]
    NoCommonCodec {
        /// The offer's video codecs.
        offered: String,
        /// The stream's.
        ours: String,
    },
}

/// Who connects in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// We do: one round trip less.
    Client,
    /// The other side does.
    Server,
}

/// A fingerprint of the other side's certificate: hash name in lower case, bytes.
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

/// What was agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// The viewer's ICE credentials.
    pub remote: Credentials,
    /// `a=candidate` values of the offer.
    pub candidates: Vec<String>,
    /// What the viewer's certificate must match, one of them.
    pub fingerprints: Vec<Fingerprint>,
    /// Ours.
    pub role: DtlsRole,
    /// The video track.
    pub video: SendTrack,
    /// The audio track, if both sides have the codec.
    pub audio: Option<SendTrack>,
    sections: Vec<Section>,
}

/// One section of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Section {
    kind: String,
    protocol: String,
    mid: Option<String>,
    /// Rejected if there is none.
    accepted: Option<Accepted>,
    first_format: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Accepted {
    codec: Codec,
    track: SendTrack,
}

/// A codec of the offer, with the payload type of its retransmissions.
struct Choice {
    codec: Codec,
    rtx: Option<u8>,
}

/// Ours, for the answer.
pub struct Local<'a> {
    /// ICE credentials.
    pub ice: &'a Credentials,
    /// SHA-256 of our certificate, as `AB:CD:…`.
    pub fingerprint: &'a str,
    /// `a=candidate` values.
    pub candidates: &'a [String],
    /// The stream's name, for `a=msid`: picture and sound of one camera belong together.
    pub stream: &'a str,
}

/// Chooses what to send for an offer. `ssrcs` are four random numbers.
///
/// # Errors
/// The offer is no SDP, lacks something, or has no codec that the stream has.
pub fn negotiate(offer: &str, tracks: &Tracks, ssrcs: [u32; 4]) -> Result<Agreement, OfferError> {
    let sdp = Sdp::parse(offer)?;
    let mut video = None;
    let mut audio = None;
    let mut sections = Vec::new();
    for media in &sdp.media {
        let choice = match media.kind.as_str() {
            "video" if video.is_none() && media.wants_media() => {
                choose_video(&media.codecs(), &tracks.profile_level_id)
            }
            "audio" if audio.is_none() && media.wants_media() => choose_audio(&media.codecs(), tracks.audio),
            _ => None,
        };
        let accepted = choice.map(|choice| {
            let is_video = media.kind == "video";
            let (ssrc, rtx_ssrc) = if is_video { (ssrcs[0], ssrcs[1]) } else { (ssrcs[2], ssrcs[3]) };
            let track = send_track(media, &choice, ssrc, rtx_ssrc);
            *(if is_video { &mut video } else { &mut audio }) = Some(track.clone());
            Accepted { codec: choice.codec, track }
        });
        sections.push(Section {
            kind: media.kind.clone(),
            protocol: media.protocol.clone(),
            mid: media.attribute("mid").map(str::to_owned),
            accepted,
            first_format: media.formats.first().cloned().unwrap_or_else(|| "0".into()),
        });
    }
    let video = video.ok_or_else(|| no_common_codec(&sdp, tracks))?;
    Ok(Agreement {
        remote: remote_credentials(&sdp)?,
        candidates: candidates(&sdp),
        fingerprints: fingerprints(&sdp)?,
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
/// There are none, or shorter ones than RFC 8839 §5.4 allows.
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

/// H.264 with the stream's profile, else constrained baseline, else any: browsers decode more than they offer.
/// Only `packetization-mode=1` can carry fragments.
fn choose_video(codecs: &[Codec], profile_level_id: &str) -> Option<Choice> {
    let profile = |codec: &Codec| {
        // RFC 6184 §8.1: baseline, level 1, where it is not said.
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
    let fit = |codec: &&Codec| codec.name == "H264" && codec.parameter("packetization-mode") == Some("1");
    let best = codecs.iter().filter(fit).min_by_key(|codec| rank(codec))?;
    let rtx = codecs.iter().find(|codec| {
        codec.name == "RTX"
            && codec.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(best.payload_type)
    });
    Some(Choice { codec: best.clone(), rtx: rtx.map(|rtx| rtx.payload_type) })
}

fn choose_audio(codecs: &[Codec], audio: Option<AudioCodec>) -> Option<Choice> {
    let name = audio?.name();
    let codec = codecs.iter().find(|codec| codec.name == name && codec.clock_rate == 8000)?;
    Some(Choice { codec: codec.clone(), rtx: None })
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
    let sections = sdp.media.iter().filter(|media| media.kind == "video" && media.wants_media());
    let mut names: Vec<String> = sections
        .flat_map(Media::codecs)
        .filter(|codec| !matches!(codec.name.as_str(), "RTX" | "RED" | "ULPFEC" | "FLEXFEC-03"))
        .map(|codec| match codec.parameter("packetization-mode") {
            Some(mode) => format!("{} (packetization-mode={mode})", codec.name),
            None => codec.name,
        })
        .collect();
    names.dedup();
    let offered = if names.is_empty() { "no video to receive".into() } else { names.join(", ") };
    let ours = format!("H264 (packetization-mode=1, profile-level-id={})", tracks.profile_level_id);
    OfferError::NoCommonCodec { offered, ours }
}

/// Writes the answer for an agreement.
pub fn answer(agreement: &Agreement, local: &Local<'_>, session: u64) -> String {
    let mut out = String::with_capacity(2048);
    let mids: Vec<&str> = agreement
        .sections
        .iter()
        .filter(|section| section.accepted.is_some())
        .filter_map(|section| section.mid.as_deref())
        .collect();
    let setup = match agreement.role {
        DtlsRole::Client => "active",
        DtlsRole::Server => "passive",
    };
    line(&mut out, format_args!("v=0"));
    line(&mut out, format_args!("o=- {session} 1 IN IP4 0.0.0.0"));
    line(&mut out, format_args!("s=-"));
    line(&mut out, format_args!("t=0 0"));
    if !mids.is_empty() {
        line(&mut out, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    line(&mut out, format_args!("a=msid-semantic: WMS {}", local.stream));
    line(&mut out, format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    let mut first = true;
    for section in &agreement.sections {
        match &section.accepted {
            Some(accepted) => {
                section_head(&mut out, section, accepted, local, setup);
                if std::mem::take(&mut first) {
                    candidate_lines(&mut out, local.candidates);
                }
            }
            None => rejected(&mut out, section),
        }
    }
    out
}

/// The fragment that answers an ICE restart (RFC 9725 §4.3.2).
pub fn restart_fragment(agreed: &Credentials, candidates: &[String], mid: &str) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("a=ice-ufrag:{}", agreed.ufrag));
    line(&mut out, format_args!("a=ice-pwd:{}", agreed.pwd));
    line(&mut out, format_args!("m=video 9 UDP/TLS/RTP/SAVPF 0"));
    line(&mut out, format_args!("a=mid:{mid}"));
    candidate_lines(&mut out, candidates);
    out
}

impl Agreement {
    /// `mid` of the section that carries the candidates.
    pub fn first_mid(&self) -> &str {
        let section = self.sections.iter().find(|section| section.accepted.is_some());
        section.and_then(|section| section.mid.as_deref()).unwrap_or("0")
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push_str("\r\n");
}

fn candidate_lines(out: &mut String, candidates: &[String]) {
    for candidate in candidates {
        line(out, format_args!("a=candidate:{candidate}"));
    }
    line(out, format_args!("a=end-of-candidates"));
}

fn rejected(out: &mut String, section: &Section) {
    // RFC 3264 §6: port 0; a format must be there and means nothing. 0 is one that needs no rtpmap, which strict
    // readers miss.
    let is_rtp = section.protocol.contains("RTP/");
    let format = if is_rtp { "0" } else { section.first_format.as_str() };
    line(out, format_args!("m={} 0 {} {format}", section.kind, section.protocol));
    line(out, format_args!("c=IN IP4 0.0.0.0"));
    line(out, format_args!("a=inactive"));
    if let Some(mid) = &section.mid {
        line(out, format_args!("a=mid:{mid}"));
    }
}

fn section_head(out: &mut String, section: &Section, accepted: &Accepted, local: &Local<'_>, setup: &str) {
    let (codec, track) = (&accepted.codec, &accepted.track);
    let (pt, kind) = (track.payload_type, section.kind.as_str());
    let rtx = track.rtx_payload_type;
    let formats = rtx.map_or_else(|| pt.to_string(), |rtx| format!("{pt} {rtx}"));
    line(out, format_args!("m={kind} 9 {} {formats}", section.protocol));
    line(out, format_args!("c=IN IP4 0.0.0.0"));
    line(out, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    line(out, format_args!("a=ice-ufrag:{}", local.ice.ufrag));
    line(out, format_args!("a=ice-pwd:{}", local.ice.pwd));
    line(out, format_args!("a=ice-options:trickle"));
    line(out, format_args!("a=setup:{setup}"));
    if let Some(mid) = &section.mid {
        line(out, format_args!("a=mid:{mid}"));
    }
    if let Some(id) = track.playout_delay {
        line(out, format_args!("a=extmap:{id} {PLAYOUT_DELAY}"));
    }
    line(out, format_args!("a=sendonly"));
    line(out, format_args!("a=msid:{} {kind}", local.stream));
    line(out, format_args!("a=rtcp-mux"));
    if kind == "video" {
        line(out, format_args!("a=rtcp-rsize"));
    }
    let channels = if codec.name == "H264" { "" } else { "/1" };
    line(out, format_args!("a=rtpmap:{pt} {}/{}{channels}", codec.name, codec.clock_rate));
    for feedback in ["nack", "nack pli", "ccm fir"] {
        if codec.feedback.iter().any(|offered| offered == feedback) {
            line(out, format_args!("a=rtcp-fb:{pt} {feedback}"));
        }
    }
    if !codec.format.is_empty() {
        line(out, format_args!("a=fmtp:{pt} {}", codec.format));
    }
    if let Some(rtx) = rtx {
        line(out, format_args!("a=rtpmap:{rtx} rtx/90000"));
        line(out, format_args!("a=fmtp:{rtx} apt={pt}"));
        line(out, format_args!("a=ssrc-group:FID {} {}", track.ssrc, track.rtx_ssrc));
    }
    // Chromium takes the first one for the track's own, whatever the group says.
    line(out, format_args!("a=ssrc:{} cname:gatehouse", track.ssrc));
    if rtx.is_some() {
        line(out, format_args!("a=ssrc:{} cname:gatehouse", track.rtx_ssrc));
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
