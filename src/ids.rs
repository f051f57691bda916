//! Names of things: newtypes that can only hold what is allowed. Not their state; that lives with its owner.

use std::fmt;
use std::sync::Arc;

/// The longest id of a camera, in bytes.
pub const MAX_ID: usize = 64;

/// A stream's name, such as `camera/front-door`: one or two segments of `[A-Za-z0-9._-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// The stream of a configured camera.
    pub fn camera(id: &str) -> Option<Self> {
        is_name(id).then(|| Self(format!("camera/{id}").into()))
    }

    /// Takes a path such as `camera/front-door` from outside, or nothing if it cannot be a stream.
    pub fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        let fits = (2..=3).contains(&segments.len()) && segments.iter().all(|segment| is_name(segment));
        fits.then(|| Self(path.into()))
    }

    /// The name as it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `name` can be an id: 1 to 64 of `[A-Za-z0-9._-]`, not starting with a dot.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_ID && !name.starts_with('.') && name.bytes().all(allowed)
}

/// The name of one viewer's session: 128 random bits, so that knowing it is the right to change or end it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The 32 hexadecimal digits that [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 32
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
        if !canonical {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    /// Only a prefix: the whole of it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}…", self.0 >> 104)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_ids() {
        assert_eq!(StreamId::camera("front-door").unwrap().as_str(), "camera/front-door");
        for bad in ["", "a/b", ".hidden", "ü", "a b", "..", &"x".repeat(65)] {
            assert!(StreamId::camera(bad).is_none(), "{bad}");
        }
        assert!(StreamId::parse("camera/x").is_some());
        for bad in ["camera", "camera/", "/camera/x", "camera/../x", "a/b/c/d", "camera/x?y"] {
            assert!(StreamId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn session_ids() {
        let id = SessionId::random();
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert!(!format!("{id:?}").contains(&id.to_string()));
        assert_eq!(SessionId::parse("+0000000000000000000000000000001"), None);
        assert_eq!(SessionId::parse("0"), None);
    }
}
