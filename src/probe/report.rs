//! The probe's findings, the advice that follows from them, and their text form. Pure. Start at [`Report`].

use std::fmt::Write;

use serde::Serialize;

use crate::streams::h264::parameters::VideoInfo;
use crate::streams::rtsp::ListedTrack;
use crate::streams::source::SourceError;
use crate::streams::status::Reason;

/// How much a piece of advice matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Works, could be better.
    Hint,
    /// Works badly.
    Warning,
    /// Does not work in a browser.
    Problem,
}

/// Something to change on the camera.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Advice {
    /// How much it matters.
    pub severity: Severity,
    /// A stable code.
    pub code: &'static str,
    /// The message.
    pub text: String,
}

/// What was observed of the video.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Stream {
    /// From the SPS.
    pub info: Option<VideoInfo>,
    /// Frames are sent in another order than they are displayed.
    pub b_frames: bool,
    /// Frames per second, measured.
    pub fps: f64,
    /// Bits per second, measured.
    pub bitrate: u64,
    /// Frames from key frame to key frame.
    pub gop_frames: Option<u32>,
    /// Milliseconds from key frame to key frame.
    pub gop_ms: Option<u32>,
    /// Received key frames.
    pub key_frames: u32,
    /// Points from which a picture builds up without a key frame.
    pub recovery_points: u64,
    /// Key frames for which no parameter sets were known.
    pub keys_without_parameters: u64,
    /// Received packets.
    pub packets: u64,
    /// Missing packets.
    pub lost: u64,
    /// Largest RTP payload, in bytes.
    pub largest_payload: usize,
    /// Smallest RTP payload, in bytes.
    pub smallest_payload: usize,
    /// From PLAY to the first packet.
    pub first_packet_ms: Option<f64>,
    /// From PLAY to the first key frame.
    pub first_key_ms: Option<f64>,
    /// Received audio packets.
    pub audio_packets: u64,
}

/// Everything that the probe found.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// Without user name and password.
    pub url: String,
    /// The user name, for the lines to copy.
    #[serde(skip)]
    pub username: Option<String>,
    /// The SHA-256 of its certificate, over TLS.
    pub certificate: Option<String>,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Round trip of one request on the connection.
    pub round_trip_ms: Option<f64>,
    /// The authentication scheme that the camera requires.
    pub login: String,
    /// The camera's `Server` header.
    pub server: Option<String>,
    /// The address of a smaller stream that the camera has, too.
    pub sub_url: Option<String>,
    /// Its tracks.
    pub tracks: Vec<ListedTrack>,
    /// Its video.
    pub stream: Option<Stream>,
    /// What ended the examination early.
    pub error: Option<Reason>,
    /// The resulting advice.
    pub advice: Vec<Advice>,
}

impl Report {
    /// Records a failure.
    pub fn fail(&mut self, error: &SourceError) {
        self.error = Some(error.reason());
    }

    /// 0: a browser can play it. 2: it cannot. 3: the camera is unreachable or refuses access.
    pub fn exit_status(&self) -> u8 {
        let problem = self.advice.iter().any(|advice| advice.severity == Severity::Problem);
        match (&self.error, problem) {
            (Some(error), _) if error.code == "camera_codec" => 2,
            (_, true) => 2,
            (Some(_), _) => 3,
            (None, false) => 0,
        }
    }

    /// Derives the advice from the findings.
    pub fn advise(&mut self) {
        let mut advice = Vec::new();
        let mut add = |severity, code, text: String| advice.push(Advice { severity, code, text });
        if self.error.as_ref().is_some_and(|error| error.code == "camera_codec") {
            let text =
                "Set the camera's video codec to H.264; many have a second stream with its own settings.";
            add(Severity::Problem, "codec", text.into());
        }
        if let Some(stream) = &self.stream {
            stream.advise(&mut add);
        }
        let audio = self.tracks.iter().find(|track| track.media == "audio");
        if let Some(track) = audio.filter(|track| track.audio_codec().is_none()) {
            let text = format!(
                "The audio codec is {}: set the camera to Opus or G.711 (PCMU or PCMA), which browsers support.",
                track.codec
            );
            add(Severity::Hint, "audio_codec", text);
        }
        if self.login == "none" {
            let text = "The camera requires no password: everybody on its network can watch.";
            add(Severity::Hint, "no_login", text.into());
        }
        advice.sort_by_key(|advice| std::cmp::Reverse(advice.severity));
        self.advice = advice;
    }

    /// Text for a terminal.
    pub fn in_words(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<14}{value}");
        };
        line("Address", self.url.clone());
        if let Some(ms) = self.round_trip_ms {
            line("Round trip", format!("{ms:.1} ms"));
            line("Login", self.login.clone());
        }
        if let Some(server) = &self.server {
            line("Camera", server.clone());
        }
        if let Some(certificate) = &self.certificate {
            line("Certificate", format!("SHA-256 {certificate}"));
        }
        for track in &self.tracks {
            line("Track", format!("{} {} ({} Hz)", track.media, track.codec, track.clock_rate));
        }
        if let Some(stream) = &self.stream {
            stream.in_words(&mut line);
        }
        if let Some(sub) = &self.sub_url {
            line("Sub stream", sub.clone());
        }
        if let Some(error) = &self.error {
            let _ = writeln!(out, "\nFailed: {} [{}]", error.message, error.code);
        }
        for advice in &self.advice {
            let mark = match advice.severity {
                Severity::Problem => "✘",
                Severity::Warning => "!",
                Severity::Hint => "·",
            };
            let _ = writeln!(out, "{mark} {}", advice.text);
        }
        if self.exit_status() == 0 {
            let _ = writeln!(out, "✔ A browser can show this camera.");
        }
        if self.error.is_none() {
            let _ = write!(out, "\nFor the configuration:\n\n{}", self.in_toml());
        }
        out
    }

    /// The camera as a section of the configuration.
    fn in_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut text = format!("[[camera]]\nid = \"camera-1\"\nurl = {}\n", quoted(&self.url));
        if let Some(sub) = &self.sub_url {
            let _ = writeln!(text, "sub_url = {}", quoted(sub));
        }
        if let Some(username) = &self.username {
            let _ = write!(text, "username = {}\npassword = \"…\"\n", quoted(username));
        }
        if self.transport == "udp" {
            text += "transport = \"udp\"\n";
        }
        if let Some(certificate) = &self.certificate {
            let _ = writeln!(text, "tls_fingerprint = {}", quoted(certificate));
        }
        text
    }
}

impl Stream {
    fn advise(&self, add: &mut impl FnMut(Severity, &'static str, String)) {
        if self.b_frames {
            let text = "The camera sends B-frames, which WebRTC does not support: set the H.264 profile to Baseline, or B-frames to 0.";
            add(Severity::Problem, "b_frames", text.into());
        }
        if self.keys_without_parameters > 0 {
            let text = "The camera sends key frames without parameter sets (SPS and PPS), neither in its SDP nor in the stream: a browser cannot decode them.";
            add(Severity::Problem, "no_parameter_sets", text.into());
        } else if self.packets > 0 && self.key_frames == 0 && self.recovery_points > 0 {
            let text = "The camera refreshes its picture in parts (intra refresh) and sends no key frame: turn that off, and set the key frame interval to 2 seconds.";
            add(Severity::Problem, "intra_refresh", text.into());
        } else if self.packets > 0 && self.key_frames == 0 {
            let text =
                "No key frame received: set the key frame interval (GOP, I-frame interval) to 2 seconds.";
            add(Severity::Problem, "no_key_frame", text.into());
        }
        if let Some(info) = &self.info {
            if matches!(info.profile, "High 10" | "High 4:2:2" | "High 4:4:4") {
                // Chromium decodes these in software; Safari, Firefox and most phones do not.
                let text = format!(
                    "Only some browsers can decode the profile {}: set it to High, Main or Baseline.",
                    info.profile
                );
                add(Severity::Warning, "profile_rare", text);
            } else if matches!(info.profile, "Extended" | "other") {
                let text = format!(
                    "Browsers cannot decode the profile {}: set it to Main or Baseline.",
                    info.profile
                );
                add(Severity::Problem, "profile", text);
            }
            if info.width * info.height > 3840 * 2160 {
                let text = format!(
                    "{} × {} is more than most devices can decode: use a lower resolution.",
                    info.width, info.height
                );
                add(Severity::Warning, "size", text);
            }
        }
        if let Some(ms) = self.gop_ms.filter(|ms| *ms > 4500) {
            let seconds = f64::from(ms) / 1000.0;
            let text = format!("The key frame interval is {seconds:.1} s: 2 s lets video recover sooner.");
            add(Severity::Hint, "long_gop", text);
        }
        if self.lost > 0 {
            let text =
                format!("{} packets were lost on the way here: use TCP, or fix the network.", self.lost);
            add(Severity::Warning, "loss", text);
        }
        if self.bitrate > 12_000_000 {
            let mbit = self.bitrate as f64 / 1e6;
            let text = format!("{mbit:.1} Mbit/s is a lot for viewers on Wi-Fi: 2 to 6 is usual.");
            add(Severity::Warning, "bitrate", text);
        }
    }

    fn in_words(&self, line: &mut impl FnMut(&str, String)) {
        if let Some(info) = &self.info {
            let fps = info.nominal_fps.map(|fps| format!(", announces {fps:.0} fps")).unwrap_or_default();
            line(
                "Video",
                format!(
                    "{} × {}, {} profile, level {}{fps}",
                    info.width, info.height, info.profile, info.level
                ),
            );
        }
        line("Measured", format!("{:.1} fps, {:.0} kbit/s", self.fps, self.bitrate as f64 / 1000.0));
        line("B-frames", if self.b_frames { "yes" } else { "no" }.into());
        match (self.gop_frames, self.gop_ms) {
            (Some(frames), Some(ms)) => {
                line("Key frames", format!("every {frames} frames, {:.1} s", f64::from(ms) / 1000.0));
            }
            _ => line("Key frames", format!("{} received", self.key_frames)),
        }
        line(
            "Packets",
            format!(
                "{}, {} lost, payloads of {} to {} bytes",
                self.packets, self.lost, self.smallest_payload, self.largest_payload
            ),
        );
        if let (Some(packet), Some(key)) = (self.first_packet_ms, self.first_key_ms) {
            line("Start", format!("first packet after {packet:.0} ms, first key frame after {key:.0} ms"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Report {
        let info = VideoInfo {
            profile: "Main",
            level: "3.1".into(),
            profile_level_id: "4d001f".into(),
            width: 1280,
            height: 720,
            nominal_fps: Some(25.0),
            reorder_frames: Some(0),
        };
        let stream =
            Stream { info: Some(info), packets: 100, key_frames: 2, gop_ms: Some(2000), ..Stream::default() };
        let track = ListedTrack { media: "video".into(), codec: "H264".into(), clock_rate: 90_000 };
        Report { login: "digest".into(), tracks: vec![track], stream: Some(stream), ..Report::default() }
    }

    fn advised(change: impl FnOnce(&mut Report)) -> (Vec<&'static str>, u8) {
        let mut report = healthy();
        change(&mut report);
        report.advise();
        (report.advice.iter().map(|advice| advice.code).collect(), report.exit_status())
    }

    #[test]
    fn a_healthy_camera_needs_no_advice() {
        assert_eq!(advised(|_| ()), (vec![], 0));
        let mut report = healthy();
        report.advise();
        assert!(report.in_words().contains("✔"));
    }

    #[test]
    fn each_hindrance_has_its_advice() {
        fn stream(report: &mut Report) -> &mut Stream {
            report.stream.as_mut().unwrap()
        }
        assert_eq!(advised(|r| stream(r).b_frames = true), (vec!["b_frames"], 2));
        assert_eq!(advised(|r| stream(r).key_frames = 0), (vec!["no_key_frame"], 2));
        let refreshes = |r: &mut Report| (stream(r).key_frames, stream(r).recovery_points) = (0, 9);
        assert_eq!(advised(refreshes), (vec!["intra_refresh"], 2));
        assert_eq!(advised(|r| stream(r).recovery_points = 9), (vec![], 0));
        assert_eq!(advised(|r| stream(r).keys_without_parameters = 1), (vec!["no_parameter_sets"], 2));
        assert_eq!(
            advised(|r| stream(r).info.as_mut().unwrap().profile = "High 4:2:2"),
            (vec!["profile_rare"], 0)
        );
        assert_eq!(advised(|r| stream(r).gop_ms = Some(10_000)), (vec!["long_gop"], 0));
        assert_eq!(advised(|r| stream(r).lost = 3), (vec!["loss"], 0));
        assert_eq!(advised(|r| stream(r).bitrate = 20_000_000), (vec!["bitrate"], 0));
        assert_eq!(advised(|r| r.login = "none".into()), (vec!["no_login"], 0));
        let aac = ListedTrack { media: "audio".into(), codec: "MPEG4-GENERIC".into(), clock_rate: 16_000 };
        assert_eq!(advised(|r| r.tracks.push(aac)), (vec!["audio_codec"], 0));
        assert_eq!(advised(|r| r.fail(&SourceError::slowly("camera_codec", "x"))), (vec!["codec"], 2));
        assert_eq!(advised(|r| r.fail(&SourceError::slowly("camera_login", "x"))), (vec![], 3));
    }
}
