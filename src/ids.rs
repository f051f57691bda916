//! Identifiers as newtypes that can only hold valid values. The state that they identify is kept elsewhere.

use std::fmt;

/// The longest id of a camera, in bytes.
pub const MAX_ID: usize = 64;

/// Whether `name` can be an id: 1 to 64 of `[A-Za-z0-9._-]`, not starting with a dot.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_ID && !name.starts_with('.') && name.bytes().all(allowed)
}

/// The id of one media session: 128 random bits, since knowing it grants the right to change or end the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// A new random id.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Parses exactly the 32 hexadecimal digits that [`fmt::Display`] writes.
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
    /// Only a prefix: the full id is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}…", self.0 >> 104)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_name("front-door"));
        for bad in ["", "a/b", ".hidden", "ü", "a b", "..", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
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
