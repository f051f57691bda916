//! Parses SDP (RFC 8866) to the extent that WebRTC offers require: sections and their attributes, without interpreting
//! them. What follows from an offer is decided in `negotiate`. Pure and bounded. Start at [`Sdp::parse`].

/// An offer larger than this is refused.
pub const MAX_SDP: usize = 64 * 1024;
/// Browsers create one section per track; no real offer has this many.
const MAX_SECTIONS: usize = 32;

/// Why SDP cannot be parsed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// Larger than 64 KiB, or with too many sections.
    #[error("the SDP is too large")]
    TooLarge,
    /// A line that is not `x=…`, or a malformed `m=` line.
    #[error("line {0} of the SDP cannot be parsed")]
    Line(usize),
    /// It does not begin with `v=0`.
    #[error("the SDP does not begin with v=0")]
    Version,
}

/// A session description.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sdp {
    /// Attributes before the first section.
    pub attributes: Vec<Attribute>,
    /// The `m=` sections.
    pub media: Vec<Media>,
}

/// `a=name:value`, or `a=name` with an empty value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// Before the colon.
    pub name: String,
    /// After the colon.
    pub value: String,
}

/// One `m=` section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// `video`, `audio`, `application`.
    pub kind: String,
    /// 0 if it is rejected.
    pub port: u16,
    /// Such as `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// Payload types, as written.
    pub formats: Vec<String>,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
}

fn values<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |attribute| attribute.name == name).map(|found| found.value.as_str())
}

impl Sdp {
    /// Parses a description.
    ///
    /// # Errors
    /// See [`SdpError`].
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_SDP {
            return Err(SdpError::TooLarge);
        }
        if !text.starts_with("v=0") {
            return Err(SdpError::Version);
        }
        Self::parse_lines(text)
    }

    /// Parses an SDP fragment (RFC 8840 §9): the same without a `v=` line.
    ///
    /// # Errors
    /// See [`SdpError`].
    pub fn parse_fragment(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_SDP {
            return Err(SdpError::TooLarge);
        }
        Self::parse_lines(text)
    }

    fn parse_lines(text: &str) -> Result<Self, SdpError> {
        let mut sdp = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            let bad = SdpError::Line(number + 1);
            let (kind, value) =
                line.split_once('=').filter(|(kind, _)| kind.len() == 1).ok_or(bad.clone())?;
            match kind {
                "m" if sdp.media.len() == MAX_SECTIONS => return Err(SdpError::TooLarge),
                "m" => sdp.media.push(section(value).ok_or(bad)?),
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    let attribute = Attribute { name: name.into(), value: value.into() };
                    match sdp.media.last_mut() {
                        Some(media) => media.attributes.push(attribute),
                        None => sdp.attributes.push(attribute),
                    }
                }
                _ => {}
            }
        }
        Ok(sdp)
    }

    /// An attribute of a section, or of the session if the section has none (fingerprint, ICE, setup).
    pub fn inherited<'a>(&'a self, media: &'a Media, name: &str) -> Option<&'a str> {
        media.attribute(name).or_else(|| attribute(&self.attributes, name))
    }

    /// All values of an attribute of the session.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        values(&self.attributes, name)
    }

    /// The first occurrence of an attribute, at session level or in any section.
    pub fn anywhere(&self, name: &str) -> Option<&str> {
        let sections = self.media.iter().find_map(|media| media.attribute(name));
        attribute(&self.attributes, name).or(sections)
    }
}

fn section(value: &str) -> Option<Media> {
    let mut words = value.split_whitespace();
    let kind = words.next()?.to_owned();
    let port = words.next()?.split('/').next()?.parse().ok()?;
    let protocol = words.next()?.to_owned();
    Some(Media { kind, port, protocol, formats: words.map(str::to_owned).collect(), attributes: Vec::new() })
}

/// A codec that a section offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    /// Payload type.
    pub payload_type: u8,
    /// In upper case, such as `H264`.
    pub name: String,
    /// In Hz.
    pub clock_rate: u32,
    /// The name and the parameters of `a=rtpmap` as offered, such as `opus/48000/2`.
    pub mapping: String,
    /// `a=fmtp`, or empty.
    pub format: String,
    /// `a=rtcp-fb`, such as `nack pli`.
    pub feedback: Vec<String>,
}

impl Codec {
    /// A parameter of `a=fmtp`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.format.split(';').find_map(|part| {
            let (key, value) = part.trim().split_once('=')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Media {
    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.attributes, name)
    }

    /// All values of an attribute.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        values(&self.attributes, name)
    }

    /// Whether the direction lets the remote side receive. The port is not considered: see `Bundle::admits`.
    pub fn receives(&self) -> bool {
        self.attribute("sendonly").is_none() && self.attribute("inactive").is_none()
    }

    /// Whether the direction lets the remote side send. The port is not considered: see `Bundle::admits`.
    pub fn sends(&self) -> bool {
        self.attribute("recvonly").is_none() && self.attribute("inactive").is_none()
    }

    /// Its codecs in order of preference. Static payload types need no `a=rtpmap` (RFC 3551 §6).
    pub fn codecs(&self) -> Vec<Codec> {
        self.formats.iter().filter_map(|format| self.codec(format)).collect()
    }

    fn codec(&self, format: &str) -> Option<Codec> {
        let payload_type: u8 = format.parse().ok().filter(|number| *number < 128)?;
        let value_for = |name| {
            self.attributes(name).find_map(|value| {
                let (number, rest) = value.split_once(' ')?;
                (number == format).then_some(rest)
            })
        };
        let mapping = match (value_for("rtpmap"), payload_type) {
            (Some(mapping), _) => mapping,
            (None, 0) => "PCMU/8000",
            (None, 3) => "GSM/8000",
            (None, 8) => "PCMA/8000",
            (None, 9) => "G722/8000",
            (None, 18) => "G729/8000",
            _ => return None,
        };
        let mut parts = mapping.split('/');
        let name = parts.next()?.to_ascii_uppercase();
        let clock_rate = parts.next()?.trim().parse().ok()?;
        let feedback = self.attributes("rtcp-fb").filter_map(|value| {
            let (number, rest) = value.split_once(' ')?;
            (number == format || number == "*").then(|| rest.to_owned())
        });
        let (mapping, format) = (mapping.to_owned(), value_for("fmtp").unwrap_or_default().to_owned());
        Some(Codec { payload_type, name, clock_rate, mapping, format, feedback: feedback.collect() })
    }

    /// The id that the remote side assigns to a header extension (RFC 8285 §5), if it fits one-byte headers.
    pub fn extension(&self, uri: &str) -> Option<u8> {
        self.attributes("extmap").find_map(|value| {
            let (id, rest) = value.split_once(' ')?;
            let id = id.split('/').next()?.parse().ok().filter(|id| (1..15).contains(id))?;
            (rest.split(' ').next() == Some(uri)).then_some(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=setup:actpass\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=mid:0\r\na=recvonly\r\na=rtpmap:102 H264/90000\r\n\
        a=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:102 nack pli\r\na=rtcp-fb:* nack\r\n\
        a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=extmap:5/recvonly urn:x y\r\na=extmap:20 urn:z\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 0 8\r\na=mid:1\r\na=inactive\r\n";

    #[test]
    fn reads_an_offer() {
        let sdp = Sdp::parse(OFFER).unwrap();
        let video = &sdp.media[0];
        let codecs = video.codecs();
        assert_eq!(codecs[0].name, "H264");
        assert_eq!(codecs[0].parameter("profile-level-id"), Some("42e01f"));
        assert_eq!(codecs[0].feedback, ["nack pli", "nack"]);
        assert_eq!((codecs[1].name.as_str(), codecs[1].parameter("apt")), ("RTX", Some("102")));
        assert_eq!((video.extension("urn:x"), video.extension("urn:z")), (Some(5), None));
        assert_eq!(sdp.inherited(video, "setup"), Some("actpass"));
        assert!(video.receives() && !video.sends());
        assert!(!sdp.media[1].receives() && !sdp.media[1].sends());
        assert_eq!(sdp.media[1].codecs()[1].name, "PCMA");
    }

    #[test]
    fn refuses_what_is_not_sdp() {
        assert_eq!(Sdp::parse("hello"), Err(SdpError::Version));
        assert_eq!(Sdp::parse("v=0\nrubbish"), Err(SdpError::Line(2)));
        assert_eq!(Sdp::parse("v=0\nm=video"), Err(SdpError::Line(2)));
        assert_eq!(Sdp::parse(&format!("v=0\n{}", "a=x\n".repeat(20_000))), Err(SdpError::TooLarge));
        assert_eq!(Sdp::parse(&format!("v=0\n{}", "m=audio 9 X 0\n".repeat(33))), Err(SdpError::TooLarge));
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(text in "(v=0\n)?([amvt]=[a-z0-9:/ ;=-]{0,20}\n){0,30}") {
            if let Ok(sdp) = Sdp::parse(&text) {
                for media in &sdp.media {
                    media.codecs();
                    media.extension("urn:x");
                }
            }
        }
    }
}
