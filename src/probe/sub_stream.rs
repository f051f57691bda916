//! Where a camera's smaller stream is, by the patterns of the usual makes; nothing in RTSP tells. What fits is only used
//! if the camera answers there with H.264. Start at [`find`].

use std::time::Duration;

use url::{Position, Url};

use crate::secret::Secret;
use crate::streams::rtsp::Described;
use crate::streams::source::TlsTrust;

/// For the camera to answer.
const LIMIT: Duration = Duration::from_secs(4);

/// Parts of the path and query of main streams, and what the sub stream has in their place. The first one that occurs
/// counts.
const PATTERNS: [(&str, &str); 22] = [
    // Dahua, Amcrest, Lorex, Imou.
    ("subtype=0", "subtype=1"),
    // Reolink.
    ("h264Preview_01_main", "h264Preview_01_sub"),
    ("Preview_01_main", "Preview_01_sub"),
    // Hikvision, Annke, and others of its make: the last digit is the stream.
    ("Streaming/Channels/101", "Streaming/Channels/102"),
    ("streaming/channels/101", "streaming/channels/102"),
    ("ISAPI/Streaming/channels/101", "ISAPI/Streaming/channels/102"),
    ("main/av_stream", "sub/av_stream"),
    // Uniview.
    ("media/video1", "media/video2"),
    ("unicast/c1/s0", "unicast/c1/s1"),
    // Foscam.
    ("videoMain", "videoSub"),
    // Vivotek.
    ("live1s1.sdp", "live1s2.sdp"),
    // Hanwha (Samsung).
    ("profile1/media.smp", "profile2/media.smp"),
    // Tapo, Vigi, and others.
    ("stream1", "stream2"),
    // XMEye: Besder, Hiseeu, …
    ("stream=0.sdp", "stream=1.sdp"),
    // Yi, and others with the same chip.
    ("ch0_0", "ch0_1"),
    ("ch00_0", "ch00_1"),
    // Tiandy, Sunell.
    ("/1/1", "/1/2"),
    // Wansview, Sricam, …
    ("onvif1", "onvif2"),
    ("live/ch0", "live/ch1"),
    // Any make.
    ("/main", "/sub"),
    ("_main", "_sub"),
    ("=main", "=sub"),
];

/// Where the sub stream of a main stream would be.
fn guess(main: &Url) -> Option<Url> {
    let (place, path) = (&main[..Position::BeforePath], &main[Position::BeforePath..]);
    let (from, to) = PATTERNS.iter().find(|(from, _)| is_whole(path, from))?;
    Url::parse(&format!("{place}{}", path.replacen(from, to, 1))).ok()
}

/// Whether a pattern occurs, and not as the beginning of a longer number.
fn is_whole(path: &str, pattern: &str) -> bool {
    path.split_once(pattern).is_some_and(|(_, rest)| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// The address of a camera's sub stream, if there is one with H.264.
pub async fn find(main: &Url, credentials: Option<&(String, Secret)>) -> Option<Url> {
    let sub = guess(main)?;
    let asked = Described::fetch(&sub, credentials, TlsTrust::Anything, &[]);
    let described = tokio::time::timeout(LIMIT, asked).await.ok()?.ok()?;
    described.tracks.iter().any(|track| track.codec == "H264").then_some(sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_makes() {
        for (main, sub) in [
            (
                "rtsp://c/cam/realmonitor?channel=1&subtype=0",
                Some("rtsp://c/cam/realmonitor?channel=1&subtype=1"),
            ),
            ("rtsp://c:554/Streaming/Channels/101", Some("rtsp://c:554/Streaming/Channels/102")),
            ("rtsp://c/Streaming/Channels/1011", None),
            ("rtsp://c/h264Preview_01_main", Some("rtsp://c/h264Preview_01_sub")),
            ("rtsp://c/stream1", Some("rtsp://c/stream2")),
            ("rtsp://c/stream10", None),
            ("rtsp://stream1/live", None),
            ("rtsps://c:7441/abcDEF?enableSrtp", None),
            (
                "rtsp://c/user=a_password=b_channel=1_stream=0.sdp",
                Some("rtsp://c/user=a_password=b_channel=1_stream=1.sdp"),
            ),
            ("rtsp://c/live/main", Some("rtsp://c/live/sub")),
            ("rtsp://c/", None),
        ] {
            let found = guess(&Url::parse(main).unwrap());
            assert_eq!(found.as_ref().map(Url::as_str), sub, "{main}");
        }
    }
}
