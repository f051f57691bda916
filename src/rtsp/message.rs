//! Requests and answers. Reads LF for CRLF, headers without a value or a colon, any case, and text that is not UTF-8.
//! Start at [`head_length`] and [`Head::parse`].

/// Longest head (first line and headers) in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest body in bytes: an SDP.
pub const MAX_BODY: usize = 256 * 1024;

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// An answer, with its status.
    Answer(u16),
    /// A request.
    Request {
        /// Its method, in capitals.
        method: String,
        /// What it is for.
        uri: String,
    },
}

/// First line and headers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub first: First,
    headers: Vec<(String, String)>,
}

/// The length of a head at the beginning of `bytes`, with its blank line; `None` while it is incomplete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(length) = bytes.get(start..)?.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[start..start + length];
        start += length + 1;
        if line.strip_suffix(b"\r").unwrap_or(line).is_empty() && start > 2 {
            return Some(start);
        }
    }
    None
}

impl Head {
    /// Reads a head. `None` if it is neither an answer nor a request of RTSP.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines().map(str::trim_end).skip_while(|line| line.is_empty());
        let mut words = lines.next()?.split_whitespace();
        let word = words.next()?;
        let first = if is_version(word) {
            First::Answer(words.next()?.parse().ok()?)
        } else {
            let fits = word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            let uri = words.clone().next().unwrap_or_default();
            if !fits || !words.last().is_some_and(is_version) {
                return None;
            }
            First::Request { method: word.to_owned(), uri: uri.to_owned() }
        };
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Some(Self { first, headers: headers.collect() })
    }

    /// The first header of a name, given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All headers of a name, given in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self.first {
            First::Answer(status) => Some(status),
            First::Request { .. } => None,
        }
    }

    /// The length of the body, if it is said.
    pub fn body_length(&self) -> Option<usize> {
        self.get("content-length").and_then(|text| text.parse().ok())
    }

    /// The number of the request that an answer is for.
    pub fn cseq(&self) -> Option<u32> {
        self.get("cseq").and_then(|text| text.parse().ok())
    }
}

/// `RTSP/1.0`; some cameras say another number.
pub fn is_version(word: &str) -> bool {
    word.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("RTSP/"))
}

/// The session's name and its timeout in seconds, as in `12345678; timeout = 60`. A timeout of zero counts as none.
pub fn session(text: &str) -> (&str, Option<u64>) {
    let mut parts = text.split(';');
    let id = parts.next().unwrap_or_default().trim();
    let timeout = parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("timeout"));
    let seconds = timeout.and_then(|(_, value)| value.trim().parse().ok()).filter(|seconds| *seconds > 0);
    (id, seconds)
}

/// A parameter of a `Transport` header, such as `interleaved` or `server_port`: one number or two.
pub fn pair(transport: &str, name: &str) -> Option<(u16, Option<u16>)> {
    let mut parts = transport.split([';', ',']).filter_map(|part| part.split_once('='));
    let (_, value) = parts.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    let mut numbers = value.trim().split('-').map(|number| number.trim().parse::<u16>().ok());
    Some((numbers.next()??, numbers.next().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_kinds() {
        let table: [(&str, Option<First>, Option<u32>); 8] = [
            ("RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n", Some(First::Answer(200)), Some(3)),
            ("RTSP/1.1 401\nCSeq : 7\n\n", Some(First::Answer(401)), Some(7)),
            (
                "rtsp/1.0 200 OK\r\ncseq:4\r\njunk\r\nServer:\r\nX: \u{fffd}\r\n\r\n",
                Some(First::Answer(200)),
                Some(4),
            ),
            (
                "\r\nOPTIONS * RTSP/1.0\r\n\r\n",
                Some(First::Request { method: "OPTIONS".into(), uri: "*".into() }),
                None,
            ),
            (
                "GET_PARAMETER rtsp://h/a b RTSP/1.0\r\n\r\n",
                Some(First::Request { method: "GET_PARAMETER".into(), uri: "rtsp://h/a".into() }),
                None,
            ),
            ("RTSP/1.0 OK\r\n\r\n", None, None),
            ("GET / HTTP/1.1\r\n\r\n", None, None),
            ("\r\n\r\n", None, None),
        ];
        for (text, first, cseq) in table {
            let head = Head::parse(text.as_bytes());
            assert_eq!(head.as_ref().map(|head| head.first.clone()), first, "{text:?}");
            assert_eq!(head.and_then(|head| head.cseq()), cseq, "{text:?}");
        }
    }

    #[test]
    fn heads_end_with_a_blank_line() {
        let table = [
            ("A\r\nB\r\n\r\nrest", Some(8)),
            ("A\nB\n\nrest", Some(5)),
            ("A\r\nB\n\r\nrest", Some(7)),
            ("A\r\nB\r\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(head_length(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn sessions_and_transports() {
        assert_eq!(session("12345678;timeout=60"), ("12345678", Some(60)));
        assert_eq!(session(" 12345678 ; Timeout = 60 "), ("12345678", Some(60)));
        assert_eq!(session("12345678;"), ("12345678", None));
        assert_eq!(session("1;timeout=0"), ("1", None));
        assert_eq!(session(""), ("", None));
        let transport = "RTP/AVP/TCP; unicast; interleaved = 8-9;ssrc=0x6f7c";
        assert_eq!(pair(transport, "interleaved"), Some((8, Some(9))));
        assert_eq!(pair("RTP/AVP;server_port=5000", "server_port"), Some((5000, None)));
        assert_eq!(pair("RTP/AVP;server_port=x", "server_port"), None);
        assert_eq!(pair("RTP/AVP", "interleaved"), None);
    }
}
