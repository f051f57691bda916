//! Writes the SDP answer for an agreement: one stream, one direction, everything bundled on one transport. Pure. What
//! is agreed on is decided in `negotiate`. Start at [`answer`].

use std::fmt::Write;

use crate::media::session::negotiate::{
    Accepted, AcceptedTrack, Agreement, DtlsRole, PLAYOUT_DELAY, Section, TRANSPORT_CC,
};
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

/// Writes the answer for an agreement.
pub fn answer<T>(agreement: &Agreement<T>, local: &Local<'_>, session: u64) -> String {
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
    // RFC 3264 §6: port 0; a format must be present but is ignored. 0 needs no rtpmap; strict parsers reject
    // other formats without one.
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
    let codec = &accepted.codec;
    let (pt, kind) = (codec.payload_type, section.kind.as_str());
    let rtx = accepted.way.rtx_payload_type();
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
    match &accepted.way {
        AcceptedTrack::Send(track) => {
            if let Some(id) = track.playout_delay {
                line(out, format_args!("a=extmap:{id} {PLAYOUT_DELAY}"));
            }
            line(out, format_args!("a=sendonly"));
            line(out, format_args!("a=msid:{} {kind}", local.stream));
        }
        AcceptedTrack::Receive(track) => {
            if let Some(id) = track.transport_cc {
                line(out, format_args!("a=extmap:{id} {TRANSPORT_CC}"));
            }
            line(out, format_args!("a=recvonly"));
        }
    }
    line(out, format_args!("a=rtcp-mux"));
    if kind == "video" {
        line(out, format_args!("a=rtcp-rsize"));
    }
    codec_lines(out, accepted, kind);
    if let AcceptedTrack::Send(track) = &accepted.way {
        if rtx.is_some() {
            line(out, format_args!("a=ssrc-group:FID {} {}", track.ssrc, track.rtx_ssrc));
        }
        // Chromium uses the first SSRC for the track itself, whatever the group says.
        line(out, format_args!("a=ssrc:{} cname:gatehouse", track.ssrc));
        if rtx.is_some() {
            line(out, format_args!("a=ssrc:{} cname:gatehouse", track.rtx_ssrc));
        }
    }
}

fn codec_lines(out: &mut String, accepted: &Accepted, kind: &str) {
    let codec = &accepted.codec;
    let pt = codec.payload_type;
    let channels = match (kind, codec.name.as_str()) {
        ("video", _) => "",
        (_, "OPUS") => "/2",
        _ => "/1",
    };
    line(out, format_args!("a=rtpmap:{pt} {}/{}{channels}", sdp_name(&codec.name), codec.clock_rate));
    // Sending to viewers uses no congestion control, so transport-wide feedback is negotiated with publishers only.
    let transport_cc = matches!(&accepted.way, AcceptedTrack::Receive(track) if track.transport_cc.is_some());
    for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
        let wanted = feedback != "transport-cc" || transport_cc;
        if wanted && codec.feedback.iter().any(|offered| offered == feedback) {
            line(out, format_args!("a=rtcp-fb:{pt} {feedback}"));
        }
    }
    if !codec.format.is_empty() {
        line(out, format_args!("a=fmtp:{pt} {}", codec.format));
    }
    if let Some(rtx) = accepted.way.rtx_payload_type() {
        line(out, format_args!("a=rtpmap:{rtx} rtx/90000"));
        line(out, format_args!("a=fmtp:{rtx} apt={pt}"));
    }
}

/// RFC 7587 uses lower case, and some parsers are case-sensitive.
fn sdp_name(name: &str) -> &str {
    if name == "OPUS" { "opus" } else { name }
}
