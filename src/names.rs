//! Typed stream names: text is parsed once at the boundary, and never taken apart again. The streams themselves are in
//! `streams`; who may use them is decided by `gate`. Start at [`StreamName::parse`].

use std::fmt;
use std::sync::Arc;

use crate::ids::is_name;

/// The name of a stream, as in `/whep/{name}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamName {
    /// `camera/ID`: a configured camera.
    Camera(Arc<str>),
    /// `user/NAME/camera`: a user's camera. The login name is in lower case.
    UserCamera(Arc<str>),
    /// `call/ID/NAME`: microphone and camera of one participant of a call whose media goes through the server.
    Call {
        /// The call's number.
        call: u64,
        /// The login name in lower case.
        user: Arc<str>,
    },
    /// `screen/ID/NAME`: the shared screen of one participant of such a call.
    Screen {
        /// The call's number.
        call: u64,
        /// The login name in lower case.
        user: Arc<str>,
    },
}

impl StreamName {
    /// The stream of a configured camera; `None` if `id` is not a valid id.
    pub fn camera(id: &str) -> Option<Self> {
        is_name(id).then(|| Self::Camera(id.into()))
    }

    /// A user's camera, by login name.
    pub fn user_camera(user: &str) -> Self {
        Self::UserCamera(user.to_lowercase().into())
    }

    /// Microphone and camera of one participant of a call.
    pub fn call(call: u64, user: &str) -> Self {
        Self::Call { call, user: user.to_lowercase().into() }
    }

    /// The shared screen of one participant of a call.
    pub fn screen(call: u64, user: &str) -> Self {
        Self::Screen { call, user: user.to_lowercase().into() }
    }

    /// Parses an untrusted path such as `camera/front-door`; `None` if it is not a valid stream name.
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/');
        let (kind, first, second) = (segments.next()?, segments.next()?, segments.next());
        if segments.next().is_some() {
            return None;
        }
        let call = || first.parse::<u64>().ok().filter(|call| call.to_string() == first);
        match (kind, second) {
            ("camera", None) => Self::camera(first),
            ("user", Some("camera")) if is_name(first) => Some(Self::user_camera(first)),
            ("call", Some(user)) if is_name(user) => Some(Self::call(call()?, user)),
            ("screen", Some(user)) if is_name(user) => Some(Self::screen(call()?, user)),
            _ => None,
        }
    }

    /// The camera's id, if it is a configured camera.
    pub fn camera_id(&self) -> Option<&str> {
        match self {
            Self::Camera(id) => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera(id) => write!(f, "camera/{id}"),
            Self::UserCamera(user) => write!(f, "user/{user}/camera"),
            Self::Call { call, user } => write!(f, "call/{call}/{user}"),
            Self::Screen { call, user } => write!(f, "screen/{call}/{user}"),
        }
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for StreamName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_there_and_back() {
        for text in ["camera/front-door", "user/anna/camera", "call/17/bert", "screen/17/bert"] {
            assert_eq!(StreamName::parse(text).map(|name| name.to_string()).as_deref(), Some(text));
        }
        // Login names are case-insensitive.
        assert_eq!(StreamName::parse("user/Anna/camera"), Some(StreamName::user_camera("ANNA")));
        assert_eq!(StreamName::parse("camera/Front").unwrap().camera_id(), Some("Front"));
    }

    #[test]
    fn what_cannot_be_a_stream() {
        for text in [
            "",
            "/",
            "camera",
            "camera/",
            "camera/a/b",
            "camera/a b",
            "camera/.hidden",
            "camera/../x",
            "user/anna",
            "user/anna/screen",
            "user/anna/camera/x",
            "call/x/anna",
            "call/01/anna",
            "call/1",
            "call/1/",
            "room/1/a",
            "call/99999999999999999999/anna",
        ] {
            assert_eq!(StreamName::parse(text), None, "{text}");
        }
    }
}
