//! Writes the SDP answer for an agreement: one stream, one direction, everything bundled on one transport. Pure. What
//! is agreed on is decided in `negotiate`. Start at [`answer`].

use std::fmt::Write;

use crate::media::session::negotiate::{
    Agreement, Content, DtlsRole, PLAYOUT_DELAY, ReceiveTrack, Section, SendTrack, TRANSPORT_CC,
};
use crate::media::session::sdp::Codec;
use crate::media::transport::ice::Credentials;

/// Our side's parameters for the answer.
pub struct Local<'a> {
    /// ICE credentials.
    pub ice: &'a Credentials,
    /// SHA-256 of our certificate, as `AB:CD:…`.
    pub fingerprint: &'a str,
    /// `a=candidate` values.
    pub candidates: &'a [String],
    /// The stream's name, for `a=msid`, which groups the video and audio of one camera.
    pub stream: &'a str,
}

/// The same in the answer and after an ICE restart (RFC 9725 §4.3.3).
const ICE_OPTIONS: &str = "a=ice-options:trickle";

/// What the answer says about a track of one direction.
pub trait AnswerTrack {
    /// `a=sendonly` or `a=recvonly`.
    const DIRECTION: &'static str;
    /// Payload type of the retransmissions.
    fn rtx(&self) -> Option<u8>;
    /// The header extension in use: id and URI.
    fn extension(&self) -> Option<(u8, &'static str)>;
    /// Whether transport-wide feedback was agreed on.
    fn transport_cc(&self) -> bool;
    /// The SSRCs that are announced: of the track, and of its retransmissions.
    fn ssrcs(&self) -> Option<(u32, u32)>;
}

impl AnswerTrack for SendTrack {
    const DIRECTION: &'static str = "sendonly";

    fn rtx(&self) -> Option<u8> {
        self.rtx_payload_type
    }

    fn extension(&self) -> Option<(u8, &'static str)> {
        self.playout_delay.map(|id| (id, PLAYOUT_DELAY))
    }

    // Sending to viewers uses no congestion control.
    fn transport_cc(&self) -> bool {
        false
    }

    fn ssrcs(&self) -> Option<(u32, u32)> {
        Some((self.ssrc, self.rtx_ssrc))
    }
}

impl AnswerTrack for ReceiveTrack {
    const DIRECTION: &'static str = "recvonly";

    fn rtx(&self) -> Option<u8> {
        self.rtx_payload_type
    }

    fn extension(&self) -> Option<(u8, &'static str)> {
        self.transport_cc.map(|id| (id, TRANSPORT_CC))
    }

    fn transport_cc(&self) -> bool {
        self.transport_cc.is_some()
    }

    fn ssrcs(&self) -> Option<(u32, u32)> {
        None
    }
}

/// Writes the answer for an agreement.
pub fn answer<T: AnswerTrack>(agreement: &Agreement<T>, local: &Local<'_>, session: u64) -> String {
    let mut out = String::with_capacity(2048);
    let setup = match agreement.role {
        DtlsRole::Client => "active",
        DtlsRole::Server => "passive",
    };
    line(&mut out, format_args!("v=0"));
    line(&mut out, format_args!("o=- {session} 1 IN IP4 0.0.0.0"));
    line(&mut out, format_args!("s=-"));
    line(&mut out, format_args!("t=0 0"));
    if agreement.is_bundled {
        let members =
            agreement.transport.iter().filter_map(|index| agreement.sections[*index].mid.as_deref());
        line(&mut out, format_args!("a=group:BUNDLE {}", members.collect::<Vec<&str>>().join(" ")));
    }
    line(&mut out, format_args!("a=msid-semantic: WMS {}", local.stream));
    line(&mut out, format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    for (index, section) in agreement.sections.iter().enumerate() {
        write_section(&mut out, section, local, setup);
        if agreement.transport.first() == Some(&index) {
            candidate_lines(&mut out, local.candidates);
        }
    }
    out
}

/// The fragment that answers an ICE restart (RFC 9725 §4.3.3).
pub fn restart_fragment(agreed: &Credentials, candidates: &[String], mid: &str) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("a=ice-ufrag:{}", agreed.ufrag));
    line(&mut out, format_args!("a=ice-pwd:{}", agreed.pwd));
    line(&mut out, format_args!("{ICE_OPTIONS}"));
    line(&mut out, format_args!("m=video 9 UDP/TLS/RTP/SAVPF 0"));
    line(&mut out, format_args!("a=mid:{mid}"));
    candidate_lines(&mut out, candidates);
    out
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

fn write_section<T: AnswerTrack>(out: &mut String, section: &Section<T>, local: &Local<'_>, setup: &str) {
    let (kind, protocol) = (section.kind.as_str(), section.protocol.as_str());
    match &section.content {
        Content::Track { codec, track } => {
            let pt = codec.payload_type;
            let formats = track.rtx().map_or_else(|| pt.to_string(), |rtx| format!("{pt} {rtx}"));
            line(out, format_args!("m={kind} 9 {protocol} {formats}"));
            transport_lines(out, section, local, setup);
            track_lines(out, kind, codec, track, local.stream);
        }
        Content::Inactive(codec) => {
            line(out, format_args!("m={kind} 9 {protocol} {}", codec.payload_type));
            transport_lines(out, section, local, setup);
            line(out, format_args!("a=inactive"));
            line(out, format_args!("a=rtcp-mux"));
            codec_lines(out, codec);
        }
        Content::DataChannel { name, value } => {
            line(out, format_args!("m={kind} 9 {protocol} {}", section.format));
            transport_lines(out, section, local, setup);
            line(out, format_args!("a={name}:{value}"));
        }
        Content::Rejected => {
            // RFC 3264 §6: port 0; a format must be present but is ignored. 0 needs no rtpmap; strict parsers reject
            // other formats without one.
            let format = if protocol.contains("RTP/") { "0" } else { section.format.as_str() };
            line(out, format_args!("m={kind} 0 {protocol} {format}"));
            line(out, format_args!("c=IN IP4 0.0.0.0"));
            line(out, format_args!("a=inactive"));
            mid_line(out, section);
        }
    }
}

fn mid_line<T>(out: &mut String, section: &Section<T>) {
    if let Some(mid) = &section.mid {
        line(out, format_args!("a=mid:{mid}"));
    }
}

/// The same for all sections that use the transport: clients read them from whichever they take as the tagged one.
fn transport_lines<T>(out: &mut String, section: &Section<T>, local: &Local<'_>, setup: &str) {
    line(out, format_args!("c=IN IP4 0.0.0.0"));
    if section.protocol.contains("RTP/") {
        line(out, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    }
    line(out, format_args!("a=ice-ufrag:{}", local.ice.ufrag));
    line(out, format_args!("a=ice-pwd:{}", local.ice.pwd));
    line(out, format_args!("{ICE_OPTIONS}"));
    line(out, format_args!("a=setup:{setup}"));
    mid_line(out, section);
}

fn track_lines<T: AnswerTrack>(out: &mut String, kind: &str, codec: &Codec, track: &T, stream: &str) {
    let (pt, rtx) = (codec.payload_type, track.rtx());
    if let Some((id, uri)) = track.extension() {
        line(out, format_args!("a=extmap:{id} {uri}"));
    }
    line(out, format_args!("a={}", T::DIRECTION));
    if track.ssrcs().is_some() {
        line(out, format_args!("a=msid:{stream} {kind}"));
    }
    line(out, format_args!("a=rtcp-mux"));
    if kind == "video" {
        line(out, format_args!("a=rtcp-rsize"));
    }
    codec_lines(out, codec);
    for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
        let is_wanted = feedback != "transport-cc" || track.transport_cc();
        if is_wanted && codec.feedback.iter().any(|offered| offered == feedback) {
            line(out, format_args!("a=rtcp-fb:{pt} {feedback}"));
        }
    }
    if let Some(rtx) = rtx {
        line(out, format_args!("a=rtpmap:{rtx} rtx/90000"));
        line(out, format_args!("a=fmtp:{rtx} apt={pt}"));
    }
    if let Some((ssrc, rtx_ssrc)) = track.ssrcs() {
        if rtx.is_some() {
            line(out, format_args!("a=ssrc-group:FID {ssrc} {rtx_ssrc}"));
        }
        // Chromium uses the first SSRC for the track itself, whatever the group says.
        line(out, format_args!("a=ssrc:{ssrc} cname:gatehouse"));
        if rtx.is_some() {
            line(out, format_args!("a=ssrc:{rtx_ssrc} cname:gatehouse"));
        }
    }
}

/// As offered: some parsers are case-sensitive, and the number of channels is optional for one.
fn codec_lines(out: &mut String, codec: &Codec) {
    line(out, format_args!("a=rtpmap:{} {}", codec.payload_type, codec.mapping));
    if !codec.format.is_empty() {
        line(out, format_args!("a=fmtp:{} {}", codec.payload_type, codec.format));
    }
}
