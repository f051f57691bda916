//! A wrapper for passwords and tokens that keeps them out of logs and errors. It is not encryption.

use std::fmt;

use url::Url;

/// A text that `Debug` does not reveal, so that it appears neither in logs nor in errors.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password or token.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, only for sending, storing or comparing it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Removes user name and password from an RTSP URL: retina rejects URLs with them, and logs must not contain them.
pub fn split_credentials(url: &mut Url) -> Option<(String, Secret)> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode(text);
    let found = (decode(url.username()), Secret::new(decode(url.password().unwrap_or_default())));
    // Neither can fail for a URL with a host; one without a host has no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(found)
}

/// What to do about a password in a URL that is not percent-encoded.
pub const ENCODE_PASSWORD: &str = "the password in the address must be percent-encoded (# as %23, / as %2F, ? as %3F, @ as %40), or \
     be given separately";

/// Whether a text looks like a URL with a password that is not percent-encoded: `/`, `?` and `#` end the part that has it
/// (RFC 3986 §3.2), so that something else would be taken for the host.
pub fn has_raw_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let (Some(end), Some(at)) = (rest.find(['/', '?', '#']), rest.rfind('@')) else { return false };
    let authority = &rest[..end];
    let Some((_, port)) = authority.rsplit_once(':').filter(|_| end < at && !authority.contains('@')) else {
        return false;
    };
    let after = &rest[at + 1..];
    let host = after.split(['/', ':']).next().unwrap_or_default();
    let is_host =
        host.parse::<std::net::IpAddr>().is_ok() || (host.len() < after.len() && host.contains('.'));
    port.parse::<u16>().is_err() || is_host
}

/// Decodes `%XX`; what is malformed stays as it is, and bytes that are no UTF-8 are replaced.
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (ahead.next().and_then(hex_digit), ahead.next().and_then(hex_digit));
        match (byte, digits) {
            (b'%', (Some(high), Some(low))) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_passwords_are_noticed() {
        let table = [
            ("rtsp://u:p#ss/word@host/", true),
            ("rtsp://u:pa/ss@host/1", true),
            ("rtsp://u:12?34@10.0.0.1/1", true),
            ("rtsp://u:12/34@cam.example:554/1", true),
            ("rtsp://u:p%23ss@host/1", false),
            ("rtsp://u:p@ss@host/1", false),
            ("rtsp://host:554/user@main.sdp", false),
            ("rtsp://host/?user=me@example.com", false),
            ("rtsp://host/1", false),
            ("u:p#s@h", false),
        ];
        for (text, expected) in table {
            assert_eq!(has_raw_password(text), expected, "{text}");
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        let mut url = Url::parse("rtsp://ad%40min:p%2Fw%C3%BC@camera/1").unwrap();
        let (user, password) = split_credentials(&mut url).unwrap();
        assert_eq!((user.as_str(), password.expose()), ("ad@min", "p/wü"));
        assert_eq!(url.as_str(), "rtsp://camera/1");
        assert_eq!(split_credentials(&mut url), None);
        assert_eq!(format!("{password:?}"), "…");
        assert_eq!(percent_decode("a%zz%4"), "a%zz%4");
    }
}
