//! Tests of the negotiation with offers as browsers and other clients send them.

use super::*;
use crate::media::session::answer::{Local, answer};

fn offer(codecs: &str) -> String {
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=mid:0\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 {}\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100\r\na=mid:1\r\na=recvonly\r\n\
         a=extmap:6 {PLAYOUT_DELAY}\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n{codecs}\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n",
        ["AB"; 32].join(":")
    )
}

const CHROMIUM: &str = "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\na=rtcp-fb:97 nack\r\n\
    a=rtcp-fb:97 nack pli\r\na=rtcp-fb:97 ccm fir\r\na=rtcp-fb:97 goog-remb\r\n\
    a=fmtp:97 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:98 rtx/90000\r\na=fmtp:98 apt=97\r\n\
    a=rtpmap:99 H264/90000\r\na=fmtp:99 packetization-mode=1;profile-level-id=4d001f\r\n\
    a=rtpmap:100 H264/90000\r\na=fmtp:100 packetization-mode=0;profile-level-id=64001f\r\n";

fn tracks(profile: &str, audio: Option<AudioCodec>) -> Tracks {
    Tracks { video: Some((VideoCodec::H264, profile.into())), audio }
}

fn local(ice: &Credentials) -> Local<'_> {
    Local { ice, fingerprint: "00:11", candidates: &[], stream: "camera/x" }
}

#[test]
fn the_streams_profile_is_taken_where_it_is_offered() {
    for (profile, expected) in
        [("42e01e", 97), ("42c01e", 97), ("4d0028", 99), ("640028", 99), ("f4001f", 99)]
    {
        let agreement = watch(&offer(CHROMIUM), &tracks(profile, None), [1, 2, 3, 4]).unwrap();
        assert_eq!(agreement.video.unwrap().payload_type, expected, "{profile}");
    }
}

#[test]
fn retransmission_and_extensions_come_along() {
    let agreement = watch(&offer(CHROMIUM), &tracks("42e01f", None), [1, 2, 3, 4]).unwrap();
    let expected = SendTrack {
        payload_type: 97,
        rtx_payload_type: Some(98),
        nack: true,
        playout_delay: Some(6),
        ssrc: 1,
        rtx_ssrc: 2,
    };
    assert_eq!(agreement.video.as_ref(), Some(&expected));
    assert_eq!(agreement.role, DtlsRole::Client);
    assert_eq!(agreement.remote.ufrag, "abcd");
    assert_eq!(agreement.candidates, ["1 1 udp 1 192.0.2.1 5000 typ host"]);
    assert_eq!(agreement.fingerprints, [("sha-256".to_owned(), vec![0xab; 32])]);
}

#[test]
fn the_answer_has_a_section_for_each_of_the_offer() {
    let agreement = watch(&offer(CHROMIUM), &tracks("42e01f", Some(AudioCodec::Pcma)), [1, 2, 3, 4]).unwrap();
    let ice = Credentials { ufrag: "0aaaa".into(), pwd: "p".repeat(24) };
    let text = answer(&agreement, &local(&ice), 7);
    let sdp = Sdp::parse(&text).unwrap();
    let heads: Vec<(&str, u16)> = sdp.media.iter().map(|media| (media.kind.as_str(), media.port)).collect();
    assert_eq!(heads, [("audio", 9), ("video", 9), ("application", 9)]);
    assert!(text.contains("a=group:BUNDLE 0 1 2\r\n"));
    assert!(text.contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert!(text.contains("a=sctp-port:5000\r\n"));
    assert_eq!(sdp.media[0].formats, ["8"]);
    assert_eq!(sdp.media[1].formats, ["97", "98"]);
    assert!(!text.contains("goog-remb"));
    assert_eq!(text.matches("a=end-of-candidates").count(), 1);
    assert!(text.contains("a=setup:active"));
    // Chromium uses the first SSRC line for the track itself: in the other order no video is shown.
    assert!(text.find("a=ssrc:1 ").unwrap() < text.find("a=ssrc:2 ").unwrap());
}

#[test]
fn an_unused_section_stays_in_the_group() {
    let without = offer(CHROMIUM).replace(" 111 0 8", " 111");
    let agreement = watch(&without, &tracks("42e01f", Some(AudioCodec::Pcmu)), [1, 2, 3, 4]).unwrap();
    assert_eq!(agreement.audio, None);
    assert_eq!(agreement.first_mid(), "0");
    let ice = Credentials { ufrag: "0aaaa".into(), pwd: "p".repeat(24) };
    let text = answer(&agreement, &local(&ice), 7);
    assert!(text.contains("a=group:BUNDLE 0 1 2\r\n"));
    let sdp = Sdp::parse(&text).unwrap();
    let audio = &sdp.media[0];
    assert_eq!((audio.port, audio.formats.join(" ")), (9, "111".to_owned()));
    for name in ["inactive", "rtcp-mux", "ice-ufrag", "ice-pwd", "setup", "mid", "rtpmap"] {
        assert!(audio.attribute(name).is_some(), "{name}");
    }
    // Candidates belong to the tagged section (RFC 9143 §7.3.1).
    assert!(audio.attribute("end-of-candidates").is_some());
}

#[test]
fn without_bundle_only_one_section_is_accepted() {
    let alone = offer(CHROMIUM).replace("a=group:BUNDLE 0 1 2\r\n", "");
    let agreement = watch(&alone, &tracks("42e01f", Some(AudioCodec::Pcmu)), [1, 2, 3, 4]).unwrap();
    assert!(agreement.video.is_some() && agreement.audio.is_none());
    let ice = Credentials { ufrag: "0aaaa".into(), pwd: "p".repeat(24) };
    let text = answer(&agreement, &local(&ice), 7);
    assert!(!text.contains("BUNDLE"));
    let ports: Vec<u16> = Sdp::parse(&text).unwrap().media.iter().map(|media| media.port).collect();
    assert_eq!(ports, [0, 9, 0]);
    assert_eq!(agreement.first_mid(), "1");
}

#[test]
fn an_active_offer_is_answered_passively() {
    let active = offer(CHROMIUM).replace("actpass", "active");
    let agreement = watch(&active, &tracks("42e01f", None), [1, 2, 3, 4]).unwrap();
    assert_eq!(agreement.role, DtlsRole::Server);
}

#[test]
fn refusals_name_what_is_wrong() {
    let vp8 = offer("a=rtpmap:96 VP8/90000\r\na=rtpmap:98 rtx/90000\r\n");
    let error = watch(&vp8, &tracks("42e01f", None), [0; 4]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the offer has VP8,") && text.contains("H264 (profile"), "{text}");
    let sendonly = offer(CHROMIUM).replace("recvonly", "sendonly");
    assert!(matches!(watch(&sendonly, &tracks("42", None), [0; 4]), Err(OfferError::NoCommonCodec { .. })));
    for (needle, replacement, missing) in [
        ("a=ice-ufrag:abcd", "a=x:y", "ice-ufrag"),
        ("0123456789012345678901", "short", "ice-pwd"),
        ("sha-256 AB", "sha-256 ZZ", "usable fingerprint"),
    ] {
        let broken = offer(CHROMIUM).replace(needle, replacement);
        let error = watch(&broken, &tracks("42e01f", None), [0; 4]).unwrap_err();
        assert_eq!(error, OfferError::Missing(missing));
    }
    assert!(matches!(watch("junk", &tracks("42", None), [0; 4]), Err(OfferError::Sdp(_))));
}
