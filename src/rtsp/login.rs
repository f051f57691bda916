//! Logging in to cameras: Basic (RFC 7617) and Digest (RFC 7616, and RFC 2069 as many cameras have it), with MD5 or
//! SHA-256. Start at [`Challenge::all`] and [`Login::authorization`].

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

/// The hash of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
}

impl Hash {
    fn of(self, text: &str) -> String {
        let mut hex = String::new();
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
        };
        match self {
            Self::Md5 => add(&Md5::digest(text.as_bytes())),
            Self::Sha256 => add(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()),
        }
        hex
    }
}

/// What a camera asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password as they are.
    Basic,
    /// A digest of them.
    Digest(Digest),
}

/// The parameters of a Digest challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As the camera writes it, since it wants it back.
    algorithm: Option<String>,
    hash: Hash,
    session: bool,
    qop: Option<&'static str>,
    /// The login was right, its nonce is too old.
    pub stale: bool,
}

impl Challenge {
    /// `basic` or `digest`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Digest(_) => "digest",
        }
    }

    /// The challenges in `WWW-Authenticate` headers that this supports, the best first: SHA-256, MD5, Basic.
    pub fn all<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Self> {
        let mut found: Vec<Self> =
            headers.flat_map(split_challenges).filter_map(|text| Self::parse(&text)).collect();
        found.sort_by_key(|challenge| match challenge {
            Self::Digest(digest) if digest.hash == Hash::Sha256 => 0,
            Self::Digest(_) => 1,
            Self::Basic => 2,
        });
        found
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let parameters = parameters(rest);
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let algorithm = get("algorithm");
        let upper = algorithm.clone().unwrap_or_default().to_ascii_uppercase();
        let (base, session) =
            upper.strip_suffix("-SESS").map_or((upper.as_str(), false), |base| (base, true));
        let hash = match base {
            "" | "MD5" => Hash::Md5,
            "SHA-256" | "SHA256" => Hash::Sha256,
            _ => return None,
        };
        let offered = get("qop");
        let offers = |name: &str| {
            offered
                .as_deref()
                .is_some_and(|list| list.split(',').any(|qop| qop.trim().eq_ignore_ascii_case(name)))
        };
        let qop = match (offers("auth"), offers("auth-int")) {
            (true, _) => Some("auth"),
            (false, true) => Some("auth-int"),
            (false, false) => None,
        };
        Some(Self::Digest(Digest {
            realm: get("realm").unwrap_or_default(),
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm,
            hash,
            session,
            qop,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        }))
    }
}

/// Splits a header with several challenges: a challenge begins with a word that is followed by a space and a parameter.
fn split_challenges(header: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in outside_quotes(header, ',') {
        let part = part.trim();
        let mut words = part.splitn(2, char::is_whitespace);
        let (first, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let begins = !first.contains('=') && (rest.contains('=') || found.is_empty());
        match found.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

/// Parameters with their names in lower case and their values without quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let parts = outside_quotes(text, ',').into_iter();
    let pairs =
        parts.filter_map(|part| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    pairs
        .map(|(key, value)| {
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            (key.trim().to_ascii_lowercase(), bare.replace("\\\"", "\""))
        })
        .collect()
}

fn outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The login of one connection.
#[derive(Clone, Debug)]
pub struct Login {
    challenge: Challenge,
    /// Requests with this nonce.
    count: u32,
    /// Random, of this client.
    cnonce: String,
}

impl Login {
    /// For a challenge. `cnonce` is random.
    pub fn new(challenge: Challenge, cnonce: String) -> Self {
        Self { challenge, count: 0, cnonce }
    }

    /// The challenge that it answers.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// The `Authorization` header of the next request. Requests have no body.
    pub fn authorization(&mut self, user: &str, password: &str, method: &str, uri: &str) -> String {
        let Challenge::Digest(digest) = &self.challenge else {
            return format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        };
        self.count += 1;
        let hash = |text: String| digest.hash.of(&text);
        let mut secret = hash(format!("{user}:{}:{password}", digest.realm));
        if digest.session {
            secret = hash(format!("{secret}:{}:{}", digest.nonce, self.cnonce));
        }
        let request = match digest.qop {
            Some("auth-int") => hash(format!("{method}:{uri}:{}", hash(String::new()))),
            _ => hash(format!("{method}:{uri}")),
        };
        let count = format!("{:08x}", self.count);
        let middle = match digest.qop {
            Some(qop) => format!("{}:{count}:{}:{qop}", digest.nonce, self.cnonce),
            None => digest.nonce.clone(),
        };
        let response = hash(format!("{secret}:{middle}:{request}"));
        let quoted = |text: &str| text.replace('"', "\\\"");
        let mut header = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            quoted(user),
            quoted(&digest.realm),
            digest.nonce
        );
        if let Some(algorithm) = &digest.algorithm {
            let _ = write!(header, ", algorithm={algorithm}");
        }
        if let Some(opaque) = &digest.opaque {
            let _ = write!(header, ", opaque=\"{opaque}\"");
        }
        if let Some(qop) = digest.qop {
            let _ = write!(header, ", qop={qop}, nc={count}, cnonce=\"{}\"", self.cnonce);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(header: &str) -> Login {
        Login::new(Challenge::all(std::iter::once(header)).remove(0), "0a4f113b".into())
    }

    /// The examples of RFC 7616 §3.9.1 and RFC 2617 §3.5, with their own client nonces.
    #[test]
    fn digests_of_the_rfcs() {
        let challenge = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let table = [
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ];
        for (algorithm, expected) in table {
            let mut login = login(&challenge(algorithm));
            login.cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into();
            let header = login.authorization("Mufasa", "Circle of Life", "GET", "/dir/index.html");
            assert!(header.contains(&format!("response=\"{expected}\"")), "{algorithm}: {header}");
            assert!(header.contains("nc=00000001") && header.contains(&format!("algorithm={algorithm}")));
        }
    }

    #[test]
    fn the_old_digest_and_basic() {
        let mut old = login("Digest realm=\"IP Camera(C1)\", nonce=\"n\",");
        let header = old.authorization("admin", "secret", "DESCRIBE", "rtsp://h/1");
        let secret = Hash::Md5.of("admin:IP Camera(C1):secret");
        let expected = Hash::Md5.of(&format!("{secret}:n:{}", Hash::Md5.of("DESCRIBE:rtsp://h/1")));
        assert!(header.contains(&expected) && !header.contains("qop"), "{header}");
        assert_eq!(login("Basic realm=\"x\"").authorization("u", "p", "", ""), "Basic dTpw");
    }

    #[test]
    fn the_best_challenge_is_chosen() {
        let choose = |headers: &[&str]| match Challenge::all(headers.iter().copied()).into_iter().next()? {
            Challenge::Basic => Some("basic"),
            Challenge::Digest(digest) if digest.hash == Hash::Sha256 => Some("sha"),
            Challenge::Digest(_) => Some("md5"),
        };
        let (md5, sha) =
            ("Digest realm=\"a, b\", nonce=\"1\"", "Digest realm=\"r\",nonce=\"2\",algorithm=\"SHA-256\"");
        let table: [(&[&str], Option<&str>); 7] = [
            (&["Basic realm=\"x\"", md5], Some("md5")),
            (&[md5, sha], Some("sha")),
            (&["Basic realm=\"x\", Digest realm=\"y\", nonce=\"1\", stale=TRUE"], Some("md5")),
            (&["X-Cam realm=\"x\"", md5], Some("md5")),
            (&["Digest realm=\"x\", nonce=\"1\", algorithm=SHA-512-256"], None),
            (&["Basic"], Some("basic")),
            (&[], None),
        ];
        for (headers, expected) in table {
            assert_eq!(choose(headers), expected, "{headers:?}");
        }
        let Some(Challenge::Digest(digest)) =
            Challenge::all(std::iter::once("Digest realm=cam, nonce=n, stale=TRUE")).pop()
        else {
            panic!()
        };
        assert!(digest.stale && digest.realm == "cam");
    }
}
