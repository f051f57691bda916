//! The SDP of cameras: finds the tracks and ignores the rest. Lines that concern no track cannot hurt, whatever is in
//! them. Start at [`Description::parse`].

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Most tracks that are looked at.
const MAX_TRACKS: usize = 32;
/// Most parameter sets of a track.
const MAX_SETS: usize = 16;

/// Base64 with or without padding, and with bits left over: cameras write all of them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a camera offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The address for the whole session, as it is written.
    pub control: Option<String>,
    /// In the order of the text.
    pub tracks: Vec<Track>,
}

/// A track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// `video`, `audio` or another word.
    pub media: String,
    /// The first payload type.
    pub payload_type: u8,
    /// The encoding name in upper case; empty if it is not said.
    pub codec: String,
    /// RTP clock in Hz; 0 if it is not said.
    pub clock_rate: u32,
    /// Channels of sound; 1 if it is not said.
    pub channels: u16,
    /// The address of the track, as it is written.
    pub control: Option<String>,
    /// SPS and PPS, without start codes.
    pub parameter_sets: Vec<Vec<u8>>,
    /// It is the camera's loudspeaker: `a=sendonly`, from the client's point of view (ONVIF back channel).
    pub is_loudspeaker: bool,
}

impl Description {
    /// Reads a text in any encoding.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut description = Self::default();
        for line in text.split(['\n', '\r']) {
            let line = line
                .trim_start_matches('\u{feff}')
                .trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
            let Some((kind, value)) = line.split_once('=') else { continue };
            match (kind.trim(), description.tracks.last_mut()) {
                ("m", _) => match Track::parse(value) {
                    Some(track) if description.tracks.len() < MAX_TRACKS => description.tracks.push(track),
                    // What belongs to a line that cannot be read must not be taken for the previous track's.
                    _ => description.tracks.push(Track::default()),
                },
                ("a", Some(track)) => track.attribute(value),
                ("a", None) => {
                    if let Some(control) = value.trim().strip_prefix("control:") {
                        description.control = Some(control.trim().to_owned());
                    }
                }
                _ => {}
            }
            if description.tracks.len() > MAX_TRACKS {
                break;
            }
        }
        description.tracks.retain(|track| !track.media.is_empty());
        description.tracks.truncate(MAX_TRACKS);
        for track in &mut description.tracks {
            track.complete();
        }
        description
    }
}

impl Track {
    /// `video 0 RTP/AVP 96`.
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_whitespace();
        let media = words.next()?.to_ascii_lowercase();
        let payload_type =
            words.nth(2).and_then(|number| number.parse().ok()).filter(|number| *number < 128)?;
        Some(Self { media, payload_type, channels: 1, ..Self::default() })
    }

    fn attribute(&mut self, text: &str) {
        let text = text.trim();
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "rtpmap" => self.rtpmap(value),
            "fmtp" => self.fmtp(value),
            "control" => self.control = Some(value.to_owned()),
            "sendonly" => self.is_loudspeaker = true,
            _ => {}
        }
    }

    /// `96 H264/90000`, of the first payload type.
    fn rtpmap(&mut self, value: &str) {
        let mut words = value.split_whitespace();
        if words.next().and_then(|number| number.parse().ok()) != Some(self.payload_type) {
            return;
        }
        let rest: String = words.collect();
        let mut parts = rest.split('/');
        self.codec = parts.next().unwrap_or_default().to_ascii_uppercase();
        self.clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        self.channels = parts.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    }

    fn fmtp(&mut self, value: &str) {
        let Some((number, parameters)) = value.split_once(char::is_whitespace) else { return };
        if number.parse() != Ok(self.payload_type) {
            return;
        }
        for parameter in parameters.split(';') {
            // Base64 may end with `=`.
            let Some((key, value)) = parameter.split_once('=') else { continue };
            if key.trim().eq_ignore_ascii_case("sprop-parameter-sets") {
                let sets = value.split(',').filter_map(|set| LENIENT.decode(set.trim()).ok());
                let sets = sets.map(without_start_code).filter(|set| !set.is_empty());
                self.parameter_sets = sets.take(MAX_SETS).collect();
            }
        }
    }

    /// Fills in what follows from the payload type (RFC 3551 §6), or from what else is said.
    fn complete(&mut self) {
        if self.codec.is_empty() {
            let (codec, clock_rate) = match (self.payload_type, self.media.as_str()) {
                (0, _) => ("PCMU", 8000),
                (8, _) => ("PCMA", 8000),
                (9, _) => ("G722", 8000),
                (26, _) => ("JPEG", 90_000),
                // Nothing else has parameter sets in this form.
                (_, "video") if !self.parameter_sets.is_empty() => ("H264", 90_000),
                _ => ("", 0),
            };
            (self.codec, self.clock_rate) = (codec.to_owned(), clock_rate);
        }
        if self.clock_rate == 0 {
            self.clock_rate = match self.codec.as_str() {
                "H264" => 90_000,
                "PCMU" | "PCMA" => 8000,
                _ => 0,
            };
        }
    }
}

fn without_start_code(set: Vec<u8>) -> Vec<u8> {
    let zeros = set.iter().take_while(|byte| **byte == 0).count();
    if zeros >= 2 && set.get(zeros) == Some(&1) { set[zeros + 1..].to_vec() } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1;profile-level-id=4D401E;sprop-parameter-sets=Z01AHg==,aO48gA==\r\na=control:trackID=1\r\n";

    fn video(text: &str) -> Track {
        let description = Description::parse(text.as_bytes());
        description.tracks.into_iter().find(|track| track.media == "video").unwrap()
    }

    #[test]
    fn a_track_is_read_whatever_surrounds_it() {
        let plain = video(VIDEO);
        assert_eq!((plain.codec.as_str(), plain.clock_rate, plain.payload_type), ("H264", 90_000, 96));
        assert_eq!(plain.parameter_sets, [vec![0x67, 0x4d, 0x40, 0x1e], vec![0x68, 0xee, 0x3c, 0x80]]);
        let heads = [
            "v=0\r\no=Channel1 3910280086 IN IP4\r\ns=\u{fffd}\r\nc=IN\r\nt=now-\r\na=control:*\r\n",
            "\u{feff}v=0\r\nb=AS:\r\ni=a\r\ni=b\r\n\r\n",
            "junk\r\n=\r\nm\r\n",
            "m=application\r\na=control:other\r\n",
            "",
        ];
        for head in heads {
            assert_eq!(video(&format!("{head}{VIDEO}\0")), plain, "{head:?}");
            assert_eq!(video(&format!("{head}{VIDEO}").replace("\r\n", "\n")), plain, "{head:?}");
        }
        let odd = VIDEO
            .replace("m=video 0 RTP", "m=video  65536  RTP")
            .replace("rtpmap:96 H264/90000", "rtpmap: 96  h264/90000 ")
            .replace(";", "; ")
            .replace("==\r\n", "\r\n")
            .replace("==,", ",");
        assert_eq!(video(&odd), plain);
        for tail in [";;", ",", " ;"] {
            assert_eq!(video(&VIDEO.replace("gA==", &format!("gA=={tail}"))), plain, "{tail:?}");
        }
        assert_eq!(video(&VIDEO.replace("a=rtpmap:96 H264/90000\r\n", "")), plain, "without rtpmap");
        assert_eq!(video(&VIDEO.replace("Z01AHg==", "AAAAAWdNQB4=")), plain, "with a start code");
    }

    #[test]
    fn tracks_of_other_kinds() {
        let text = format!(
            "a=control: rtsp://h/1/ \r\nm=audio 0 RTP/AVP 0\r\na=control:trackID=8\r\na=sendonly\r\n{VIDEO}m=audio 0 RTP/AVP 97\r\n\
             a=rtpmap:97 opus/48000/2\r\nm=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA\r\nm=video 0 RTP/AVP 26\r\n"
        );
        let description = Description::parse(text.as_bytes());
        assert_eq!(description.control.as_deref(), Some("rtsp://h/1/"));
        let tracks: Vec<_> = description
            .tracks
            .iter()
            .map(|track| (track.codec.as_str(), track.clock_rate, track.channels, track.is_loudspeaker))
            .collect();
        let expected = [
            ("PCMU", 8000, 1, true),
            ("H264", 90_000, 1, false),
            ("OPUS", 48_000, 2, false),
            ("PCMA", 8000, 1, false),
            ("JPEG", 90_000, 1, false),
        ];
        assert_eq!(tracks, expected);
    }

    #[test]
    fn any_bytes_are_read() {
        let many = format!("v=0\r\n{}", "m=video 0 RTP/AVP 96\r\n".repeat(1000));
        assert_eq!(Description::parse(many.as_bytes()).tracks.len(), MAX_TRACKS);
        assert!(Description::parse(&[0xff, b'=', 0, b'm', b'=']).tracks.is_empty());
    }
}
