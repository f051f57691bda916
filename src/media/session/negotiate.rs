//! Turns an offer into an agreement: codecs, payload types, header extensions. Pure. `answer` renders the agreement as
//! SDP. Start at [`watch`] for viewers and at [`publish`] for publishers.

use crate::media::session::bundle::Bundle;
use crate::media::session::codecs::{Choice, choose_audio, choose_video};
use crate::media::session::sdp::{Codec, Media, Sdp, SdpError};
use crate::media::transport::ice::Credentials;
use crate::streams::packet::{AudioCodec, VideoCodec};

/// Header extension that requests rendering without playout delay if both bounds are 0.
pub(super) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// Header extension with transport-wide sequence numbers, for the feedback used in bandwidth estimation.
pub(super) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Lengths that RFC 8839 §5.4 allows.
const ICE_UFRAG: std::ops::RangeInclusive<usize> = 4..=256;
const ICE_PWD: std::ops::RangeInclusive<usize> = 22..=256;
/// Codecs that an error message lists.
const MAX_NAMES: usize = 16;

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
    /// Several tracks of this kind: a stream has at most one video and one audio track (RFC 9725 §4.4.2).
    #[error("the offer has several {0} tracks, at most one is allowed")]
    TooManyTracks(&'static str),
    /// No section with a codec that the stream has.
    #[error("no common codec: the offer has {offered}, the stream has {ours}")]
    NoCommonCodec {
        /// The offer's codecs.
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
    /// The answer's sections, as many as the offer has.
    pub(super) sections: Vec<Section<T>>,
    /// Indexes of the sections that use the transport; the first one carries its parameters.
    pub(super) transport: Vec<usize>,
    /// Whether these sections form a BUNDLE group. Otherwise there is only one.
    pub(super) is_bundled: bool,
}

/// One section of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section<T> {
    pub kind: String,
    pub protocol: String,
    pub mid: Option<String>,
    /// The first format of the offer.
    pub format: String,
    pub content: Content<T>,
}

/// What a section of the answer is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content<T> {
    /// A track.
    Track { codec: Codec, track: T },
    /// No media, with a codec of the offer. It stays in the BUNDLE group: Chromium, aiortc and webrtcbin fail if the
    /// tagged section is rejected.
    Inactive(Codec),
    /// A data channel on which nothing is sent, with its `sctp-port` or `sctpmap` attribute.
    DataChannel { name: &'static str, value: String },
    /// Port 0.
    Rejected,
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

/// Chooses what to send for an offer. `ssrcs` are four random numbers.
///
/// # Errors
/// The offer is not SDP, lacks a required part, or has no codec in common with the stream.
pub fn watch(offer: &str, tracks: &Tracks, ssrcs: [u32; 4]) -> Result<Agreement<SendTrack>, OfferError> {
    let sdp = Sdp::parse(offer)?;
    let agreement = agree(&sdp, Media::receives, |media| match media.kind.as_str() {
        "video" => {
            let (codec, profile) = tracks.video.as_ref()?;
            let choice = choose_video(&media.codecs(), *codec, profile)?;
            Some((send_track(media, &choice, ssrcs[0], ssrcs[1]), choice.codec))
        }
        "audio" => {
            let mut choice = choose_audio(&media.codecs(), tracks.audio?)?;
            // Sound is not sent again, so the answer must not promise it: some players ask for NACK.
            choice.codec.feedback.clear();
            Some((send_track(media, &choice, ssrcs[2], ssrcs[3]), choice.codec))
        }
        _ => None,
    })?;
    // Who asks for pictures is not content with sound alone, unless the stream has no pictures.
    let wants_video = tracks.video.is_some() && count(&sdp, "video", Media::receives) > 0;
    let enough = if wants_video { agreement.video.is_some() } else { agreement.audio.is_some() };
    if enough { Ok(agreement) } else { Err(no_common_codec(&sdp, tracks)) }
}

/// Checks an offer for errors that do not depend on the stream.
///
/// # Errors
/// The offer is not SDP or lacks a required part.
pub fn check(offer: &str) -> Result<(), OfferError> {
    let sdp = Sdp::parse(offer)?;
    agree::<()>(&sdp, Media::receives, |_| None).map(drop)
}

/// Checks an offer before a camera is started for it: it must be acceptable for a camera with H.264 and some audio.
///
/// # Errors
/// As [`watch`].
pub fn check_for_camera(offer: &str) -> Result<(), OfferError> {
    let camera = |audio| Tracks { video: Some((VideoCodec::H264, "42e01f".into())), audio };
    let refused = match watch(offer, &camera(None), [0; 4]) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let mut sounds = AudioCodec::ALL.into_iter();
    let fits = sounds.any(|codec| watch(offer, &camera(Some(codec)), [0; 4]).is_ok());
    if fits { Ok(()) } else { Err(refused) }
}

/// Chooses what to receive from an offer: H.264 is preferred, since every player supports it. All or nothing: a
/// publisher is not told which of its tracks nobody can see or hear (RFC 9725 §4.4.3).
///
/// # Errors
/// The offer is not SDP, lacks a required part, has several video or audio tracks, or a track whose codec cannot be
/// forwarded.
pub fn publish(offer: &str) -> Result<Publishing, OfferError> {
    let sdp = Sdp::parse(offer)?;
    for kind in ["video", "audio"] {
        if count(&sdp, kind, Media::sends) > 1 {
            return Err(OfferError::TooManyTracks(kind));
        }
    }
    let (mut video, mut audio) = (None, None);
    let agreement = agree(&sdp, Media::sends, |media| {
        let codecs = media.codecs();
        let choice = match media.kind.as_str() {
            "video" => {
                let fits = |codec| Some((codec, choose_video(&codecs, codec, "42e01f")?));
                let (codec, choice) = VideoCodec::ALL.into_iter().find_map(fits)?;
                video = Some(codec);
                choice
            }
            "audio" => {
                let fits = |codec| Some((codec, choose_audio(&codecs, codec)?));
                let (codec, choice) = AudioCodec::ALL.into_iter().find_map(fits)?;
                audio = Some(codec);
                choice
            }
            _ => return None,
        };
        Some((receive_track(media, &choice), choice.codec))
    })?;
    let lacks = |kind, track: &Option<ReceiveTrack>| count(&sdp, kind, Media::sends) > 0 && track.is_none();
    let nothing = agreement.video.is_none() && agreement.audio.is_none();
    if nothing || lacks("video", &agreement.video) || lacks("audio", &agreement.audio) {
        let kinds: &[&str] = if lacks("video", &agreement.video) { &["video"] } else { &["audio"] };
        let offered = names(&sdp, kinds, Media::sends);
        let ours = "H264, VP8, VP9, AV1, OPUS, PCMU, PCMA".into();
        return Err(OfferError::NoCommonCodec { offered, ours });
    }
    Ok(Publishing { agreement, video, audio })
}

/// How many sections of a kind are offered in a direction.
fn count(sdp: &Sdp, kind: &str, direction: fn(&Media) -> bool) -> usize {
    let bundle = Bundle::of(sdp);
    sdp.media.iter().filter(|media| media.kind == kind && bundle.admits(media) && direction(media)).count()
}

/// Goes through the sections of an offer. `choose` is called for those with the right direction, until a track of their
/// kind is chosen.
fn agree<T: Clone>(
    sdp: &Sdp,
    direction: fn(&Media) -> bool,
    mut choose: impl FnMut(&Media) -> Option<(T, Codec)>,
) -> Result<Agreement<T>, OfferError> {
    let bundle = Bundle::of(sdp);
    let mut sections: Vec<Section<T>> = Vec::new();
    for media in &sdp.media {
        let is_admitted = bundle.admits(media);
        let is_wanted = is_admitted && direction(media) && track(&sections, &media.kind).is_none();
        let content = match if is_wanted { choose(media) } else { None } {
            Some((track, codec)) => Content::Track { codec, track },
            None if is_admitted => unused(media),
            None => Content::Rejected,
        };
        sections.push(Section {
            kind: media.kind.clone(),
            protocol: media.protocol.clone(),
            mid: media.attribute("mid").map(str::to_owned),
            format: media.formats.first().cloned().unwrap_or_else(|| "0".into()),
            content,
        });
    }
    if !bundle.is_offered() {
        keep_one(&mut sections);
    }
    let transport = bundle.order(|index| !matches!(sections[index].content, Content::Rejected));
    let tagged = transport.first().and_then(|index| sdp.media.get(*index));
    let role = match tagged.and_then(|media| sdp.inherited(media, "setup")).or(sdp.anywhere("setup")) {
        Some("active") => DtlsRole::Server,
        _ => DtlsRole::Client,
    };
    Ok(Agreement {
        remote: tagged
            .and_then(|media| credentials(sdp, media))
            .map_or_else(|| remote_credentials(sdp), Ok)?,
        candidates: candidates(sdp),
        fingerprints: fingerprints(sdp)?,
        role,
        video: track(&sections, "video").cloned(),
        audio: track(&sections, "audio").cloned(),
        is_bundled: bundle.is_offered(),
        sections,
        transport,
    })
}

fn track<'a, T>(sections: &'a [Section<T>], kind: &str) -> Option<&'a T> {
    sections.iter().filter(|section| section.kind == kind).find_map(|section| match &section.content {
        Content::Track { track, .. } => Some(track),
        _ => None,
    })
}

/// The answer to a section on which nothing is sent. What has no codec that can be repeated is rejected.
fn unused<T>(media: &Media) -> Content<T> {
    if media.protocol.contains("DTLS/SCTP") {
        // RFC 8841 §5, and before it draft-ietf-mmusic-sctp-sdp-07.
        let attribute = |name| media.attribute(name).map(|value| (name, value.to_owned()));
        let found = attribute("sctp-port").or_else(|| attribute("sctpmap"));
        return found.map_or(Content::Rejected, |(name, value)| Content::DataChannel { name, value });
    }
    let is_rtp = media.protocol.contains("RTP/SAVP");
    let codec = media.codecs().into_iter().find(|codec| !is_helper(codec)).filter(|_| is_rtp);
    codec.map_or(Content::Rejected, Content::Inactive)
}

/// Without BUNDLE every section has its own transport, and a peer has only one: the video is kept, else the sound.
fn keep_one<T>(sections: &mut [Section<T>]) {
    let is_track = |section: &Section<T>| matches!(section.content, Content::Track { .. });
    let video = sections.iter().position(|section| section.kind == "video" && is_track(section));
    let kept = video.or_else(|| sections.iter().position(is_track));
    for (index, section) in sections.iter_mut().enumerate() {
        if Some(index) != kept {
            section.content = Content::Rejected;
        }
    }
}

/// The ICE credentials that apply to a section.
fn credentials(sdp: &Sdp, media: &Media) -> Option<Credentials> {
    let (ufrag, pwd) = (sdp.inherited(media, "ice-ufrag")?, sdp.inherited(media, "ice-pwd")?);
    let fits = ICE_UFRAG.contains(&ufrag.len()) && ICE_PWD.contains(&pwd.len());
    fits.then(|| Credentials { ufrag: ufrag.into(), pwd: pwd.into() })
}

/// The ICE credentials in a description or a fragment.
///
/// # Errors
/// They are missing, or not of a length that RFC 8839 §5.4 allows.
pub fn remote_credentials(sdp: &Sdp) -> Result<Credentials, OfferError> {
    let ufrag = sdp.anywhere("ice-ufrag").filter(|text| ICE_UFRAG.contains(&text.len()));
    let pwd = sdp.anywhere("ice-pwd").filter(|text| ICE_PWD.contains(&text.len()));
    let ufrag = ufrag.ok_or(OfferError::Missing("ice-ufrag"))?;
    let pwd = pwd.ok_or(OfferError::Missing("ice-pwd"))?;
    Ok(Credentials { ufrag: ufrag.into(), pwd: pwd.into() })
}

/// All `a=candidate` values of a description or a fragment.
pub fn candidates(sdp: &Sdp) -> Vec<String> {
    let all = sdp.media.iter().flat_map(|media| media.attributes("candidate"));
    all.chain(sdp.attributes("candidate")).map(str::to_owned).collect()
}

fn fingerprints(sdp: &Sdp) -> Result<Vec<Fingerprint>, OfferError> {
    let sections = sdp.media.iter().flat_map(|media| media.attributes("fingerprint"));
    let all = sdp.attributes("fingerprint").chain(sections);
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
    let wants_video = tracks.video.is_some() && count(sdp, "video", Media::receives) > 0;
    let offered = names(sdp, if wants_video { &["video"] } else { &["video", "audio"] }, Media::receives);
    let audio = || tracks.audio.map_or("no sound", AudioCodec::name).to_owned();
    let ours = match &tracks.video {
        Some((VideoCodec::H264, profile)) if wants_video => format!("H264 (profile-level-id={profile})"),
        Some((codec, _)) if wants_video => codec.name().to_owned(),
        Some((codec, _)) => format!("{}, {}", codec.name(), audio()),
        None => audio(),
    };
    OfferError::NoCommonCodec { offered, ours }
}

/// Codecs without media of their own: retransmission, redundancy, error correction, silence, tones.
fn is_helper(codec: &Codec) -> bool {
    matches!(
        codec.name.as_str(),
        "RTX" | "RED" | "ULPFEC" | "FLEXFEC" | "FLEXFEC-03" | "CN" | "TELEPHONE-EVENT"
    )
}

/// The codecs of an offer, for error messages.
fn names(sdp: &Sdp, kinds: &[&str], direction: fn(&Media) -> bool) -> String {
    let bundle = Bundle::of(sdp);
    let fits =
        |media: &&Media| kinds.contains(&media.kind.as_str()) && bundle.admits(media) && direction(media);
    let codecs = sdp.media.iter().filter(fits).flat_map(Media::codecs);
    let mut names: Vec<String> =
        codecs.filter(|codec| !is_helper(codec)).map(|codec| codec.name).take(MAX_NAMES).collect();
    names.dedup();
    match (names.is_empty(), kinds) {
        (false, _) => names.join(", "),
        (true, ["video"]) => "no video".into(),
        (true, ["audio"]) => "no sound".into(),
        (true, _) => "nothing".into(),
    }
}

impl<T> Agreement<T> {
    /// `mid` of the section that carries the candidates.
    pub fn first_mid(&self) -> &str {
        let section = self.transport.first().map(|index| &self.sections[*index]);
        section.and_then(|section| section.mid.as_deref()).unwrap_or("0")
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
