//! The sub-path under which a reverse proxy serves this server, such as `/gatehouse/`.

/// Longest path in bytes.
const MAX: usize = 256;

/// A sub-path. The root is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath {
    /// `/gatehouse`; empty for the root.
    prefix: String,
}

impl BasePath {
    /// What it may be, for messages.
    pub const ALLOWED: &str = "a path such as \"/gatehouse/\"";

    /// Parses `/gatehouse/`, with or without the last slash. It ends up in `Location` and `Set-Cookie` headers: only
    /// letters, digits and `-._~` (RFC 3986 §2.3) are allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let prefix = text.strip_suffix('/').unwrap_or(text);
        if prefix.is_empty() && !text.is_empty() {
            return Some(Self::default());
        }
        let fits = |segment: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed)
        };
        let fine = prefix.len() <= MAX && prefix.strip_prefix('/')?.split('/').all(fits);
        fine.then(|| Self { prefix: prefix.to_owned() })
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.prefix.is_empty()
    }

    /// `gatehouse` of `/gatehouse/cameras`; empty for the root.
    pub fn first_segment(&self) -> &str {
        self.prefix.split('/').nth(1).unwrap_or_default()
    }

    /// A path of this server as browsers see it.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The path below this one; `None` if the path is elsewhere, or if this is the root.
    pub fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.is_root() {
            return None;
        }
        path.strip_prefix(&self.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let table = [
            ("/", Some("")),
            ("/gatehouse", Some("/gatehouse")),
            ("/gatehouse/", Some("/gatehouse")),
            ("/a/b-1._~/", Some("/a/b-1._~")),
            ("", None),
            ("gatehouse", None),
            ("//evil.example", None),
            ("/a//b", None),
            ("/../a", None),
            ("/a b", None),
            ("/a\r\nx", None),
            ("/%2e", None),
        ];
        for (text, expected) in table {
            let path = BasePath::parse(text);
            assert_eq!(path.map(|path| path.join("")).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_below() {
        let path = BasePath::parse("/gatehouse/").unwrap();
        let table = [
            ("/gatehouse", Some("")),
            ("/gatehouse/", Some("/")),
            ("/gatehouse/api/me", Some("/api/me")),
            ("/gatehouses/", None),
            ("/", None),
        ];
        for (text, expected) in table {
            assert_eq!(path.strip(text), expected, "{text}");
        }
        assert_eq!(BasePath::default().strip("/api/me"), None);
    }
}
