//! Offers of real clients, from `tests/offers`, each with its answer.

use std::fmt::Write;

use crate::media::session::answer::{AnswerTrack, Local, answer};
use crate::media::session::negotiate::{Agreement, OfferError, Tracks, publish, watch};
use crate::media::session::sdp::Sdp;
use crate::media::transport::ice::Credentials;
use crate::streams::packet::{AudioCodec, VideoCodec};

/// An offer: its name, and its text.
macro_rules! offer {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../tests/offers/", $name, ".sdp")))
    };
}

fn written<T: AnswerTrack>(agreement: &Agreement<T>) -> String {
    let ice = Credentials { ufrag: "0aaaa".into(), pwd: "p".repeat(24) };
    let local = Local { ice: &ice, fingerprint: "00:11", candidates: &["c".into()], stream: "s" };
    answer(agreement, &local, 7)
}

/// An answer in one line: the group, then kind, port, direction and formats of each section; `*` has the candidates.
fn summary(text: &str) -> String {
    let sdp = Sdp::parse(text).unwrap();
    let group = sdp.attributes("group").next().unwrap_or("no group");
    let mut out = format!("{group}:");
    for media in &sdp.media {
        let ways =
            ["sendonly", "recvonly", "inactive"].into_iter().find(|way| media.attribute(way).is_some());
        let star = if media.attribute("candidate").is_some() { "*" } else { "" };
        let formats = media.formats.join("+");
        let _ = write!(out, " {}{star} {} {} {formats};", media.kind, media.port, ways.unwrap_or("-"));
    }
    out
}

/// What every answer must fulfil, whatever the offer.
fn check(name: &str, offer: &str, text: &str) {
    let (offer, sdp) = (Sdp::parse(offer).unwrap(), Sdp::parse(text).unwrap());
    assert_eq!(sdp.media.len(), offer.media.len(), "{name}: a section for each of the offer (RFC 3264 §6)");
    let group: Vec<&str> = sdp.attributes("group").flat_map(|group| group.split(' ').skip(1)).collect();
    let mut with_candidates = 0;
    for (ours, theirs) in sdp.media.iter().zip(&offer.media) {
        assert_eq!((&ours.kind, &ours.protocol), (&theirs.kind, &theirs.protocol), "{name}");
        assert_eq!(ours.attribute("mid"), theirs.attribute("mid"), "{name}");
        let mid = ours.attribute("mid").unwrap_or_default();
        if ours.port == 0 {
            assert!(!group.contains(&mid), "{name}: a rejected section is in no group (RFC 9143 §7.3)");
            continue;
        }
        assert!(group.contains(&mid) || group.is_empty(), "{name}");
        for needed in ["ice-ufrag", "ice-pwd", "setup"] {
            assert!(ours.attribute(needed).is_some(), "{name}: {mid} lacks {needed}");
        }
        with_candidates += usize::from(ours.attribute("candidate").is_some());
        if ours.protocol.contains("RTP/") {
            assert!(ours.attribute("rtcp-mux").is_some(), "{name}");
            assert!(ours.formats.iter().all(|format| theirs.formats.contains(format)), "{name}");
        }
    }
    assert_eq!(with_candidates, 1, "{name}: candidates are in the tagged section");
}

const NO_H264: &str =
    "no common codec: the offer has VP8, VP9, AV1, the stream has H264 (profile-level-id=4d001f)";

/// For a camera with H.264 in the Main profile and sound in G.711, and for one with Opus.
#[test]
fn viewers() {
    let table = [
        (
            offer!("chromium-watch"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 116+117; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 116+117; audio 9 sendonly 111;",
            ],
        ),
        (
            offer!("chromium-watch-gathered"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 116+117; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 116+117; audio 9 sendonly 111;",
            ],
        ),
        (
            offer!("chromium-balanced-data-first"),
            [
                "Client BUNDLE 0 1 2: audio* 9 sendonly 0; video 9 sendonly 116+117; application 9 - webrtc-datachannel;",
                "Client BUNDLE 0 1 2: audio* 9 sendonly 111; video 9 sendonly 116+117; application 9 - webrtc-datachannel;",
            ],
        ),
        (
            offer!("firefox-watch"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 109;",
            ],
        ),
        (
            offer!("firefox-balanced"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 109;",
            ],
        ),
        (
            offer!("firefox-balanced-gathered"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 126+127; audio 9 sendonly 109;",
            ],
        ),
        (offer!("firefox-watch-noh264"), [NO_H264; 2]),
        (
            offer!("safari-watch"),
            [
                "Client BUNDLE 0 1: audio* 9 sendonly 0; video 9 sendonly 96+97;",
                "Client BUNDLE 0 1: audio* 9 sendonly 111; video 9 sendonly 96+97;",
            ],
        ),
        (
            offer!("gstreamer-whep"),
            [
                "Client BUNDLE video0 audio1: video* 9 sendonly 102; audio 9 inactive 111;",
                "Client BUNDLE video0 audio1: video* 9 sendonly 102; audio 9 sendonly 111;",
            ],
        ),
        (
            offer!("gstreamer-whepsrc"),
            [
                "Client BUNDLE audio0 video1: audio* 9 inactive 96; video 9 sendonly 103;",
                "Client BUNDLE audio0 video1: audio* 9 sendonly 96; video 9 sendonly 103;",
            ],
        ),
        (
            offer!("aiortc-watch"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 101+102; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 101+102; audio 9 sendonly 96;",
            ],
        ),
        (
            offer!("pion-watch"),
            [
                "Client BUNDLE 0 1: video* 9 sendonly 127+125; audio 9 sendonly 0;",
                "Client BUNDLE 0 1: video* 9 sendonly 127+125; audio 9 sendonly 111;",
            ],
        ),
        (offer!("libwebrtc-native-watch"), [NO_H264; 2]),
        (offer!("libwebrtc-planb-data"), [NO_H264; 2]),
        (
            offer!("chrome-2017-watch"),
            [
                "Client BUNDLE audio video data: audio* 9 sendonly 0; video 9 sendonly 107+99; application 9 - 5000;",
                "Client BUNDLE audio video data: audio* 9 sendonly 111; video 9 sendonly 107+99; application 9 - 5000;",
            ],
        ),
    ];
    for ((name, offer), expected) in table {
        for (audio, expected) in [AudioCodec::Pcmu, AudioCodec::Opus].into_iter().zip(expected) {
            let tracks = Tracks { video: Some((VideoCodec::H264, "4d001f".into())), audio: Some(audio) };
            let found = match watch(offer, &tracks, [1, 2, 3, 4]) {
                Ok(agreement) => {
                    let text = written(&agreement);
                    check(name, offer, &text);
                    format!("{:?} {}", agreement.role, summary(&text))
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{name} {audio:?}");
        }
    }
}

/// Every client may ask for a camera without sound, and for one whose sound it cannot play.
#[test]
fn viewers_of_a_camera_without_sound() {
    let offers = [
        offer!("chromium-watch"),
        offer!("firefox-watch"),
        offer!("gstreamer-whepsrc"),
        offer!("aiortc-watch"),
    ];
    for (name, offer) in offers {
        let tracks = Tracks { video: Some((VideoCodec::H264, "42e01f".into())), audio: None };
        let agreement = watch(offer, &tracks, [1, 2, 3, 4]).unwrap();
        let text = written(&agreement);
        check(name, offer, &text);
        assert!(agreement.video.is_some() && agreement.audio.is_none(), "{name}");
        assert!(!text.contains(" 0 UDP/TLS/RTP/SAVPF"), "{name}: no section is rejected");
    }
}

#[test]
fn publishers() {
    let table = [
        (
            offer!("chromium-publish"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 108+109;",
        ),
        (
            offer!("chromium-publish-simulcast"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 108+109;",
        ),
        (
            offer!("firefox-publish"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 109; video 9 recvonly 126+127;",
        ),
        (
            offer!("safari-publish"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 98+99;",
        ),
        (
            offer!("gstreamer-whip"),
            "Client Some(H264) Some(Opus) BUNDLE video0 audio1: video* 9 recvonly 96; audio 9 recvonly 97;",
        ),
        (
            offer!("aiortc-publish"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 96; video 9 recvonly 101+102;",
        ),
        (
            offer!("ffmpeg-whip"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 106+105;",
        ),
        (
            offer!("obs-whip-media-level"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 96;",
        ),
        (
            offer!("obs-whip-session-level"),
            "Client Some(H264) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 96;",
        ),
        (
            offer!("rfc9725"),
            "Client Some(Vp8) Some(Opus) BUNDLE 0 1: audio* 9 recvonly 111; video 9 recvonly 96+97;",
        ),
    ];
    for ((name, offer), expected) in table {
        let found = match publish(offer) {
            Ok(publishing) => {
                let text = written(&publishing.agreement);
                check(name, offer, &text);
                let role = publishing.agreement.role;
                format!("{role:?} {:?} {:?} {}", publishing.video, publishing.audio, summary(&text))
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn what_a_publisher_sends_is_taken_as_a_whole_or_refused() {
    let (_, offer) = offer!("chromium-publish");
    let second = &offer[offer.find("m=video").unwrap()..].replace("a=mid:1", "a=mid:2");
    let two = format!("{}{second}", offer.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 2"));
    assert_eq!(publish(&two).unwrap_err(), OfferError::TooManyTracks("video"));
    let inactive = two.replacen("a=sendonly", "a=inactive", 2);
    assert!(publish(&inactive).unwrap().audio.is_none());
    let silent = offer.replace("opus/48000", "unknown/48000").replace("PCMU", "X").replace("PCMA", "Y");
    let error = publish(&silent).unwrap_err().to_string();
    assert!(error.starts_with("no common codec: the offer has"), "{error}");
}

/// As a player on npm changes Chromium's offer.
#[test]
fn retransmission_of_sound_is_not_promised() {
    let (_, offer) = offer!("chromium-watch");
    let offer = offer.replace("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus/48000/2\na=rtcp-fb:111 nack");
    let tracks = Tracks { video: None, audio: Some(AudioCodec::Opus) };
    let agreement = watch(&offer, &tracks, [1, 2, 3, 4]).unwrap();
    assert!(!agreement.audio.as_ref().unwrap().nack);
    assert!(!written(&agreement).contains("rtcp-fb:111"));
}
