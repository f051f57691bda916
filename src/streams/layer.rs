//! The layers of a camera's stream: the main stream and the smaller sub stream. Each is pulled on its own, and only
//! while somebody needs it; which one a viewer gets is decided by the viewer. Pure. Start at [`Layer`].

use super::status::{State, StreamStatus};

/// A layer of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layer {
    /// The camera's main stream; the only one of other sources.
    #[default]
    Main,
    /// The camera's smaller stream.
    Sub,
}

impl Layer {
    /// By its name in URLs: `main` or `sub`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "main" => Some(Self::Main),
            "sub" => Some(Self::Sub),
            _ => None,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Main => Self::Sub,
            Self::Sub => Self::Main,
        }
    }
}

/// The status of a stream with both layers: that of the main one, or that of the sub stream while nobody needs the main
/// one.
pub fn combined(main: &StreamStatus, sub: &StreamStatus) -> StreamStatus {
    let mut status = main.clone();
    status.viewers += sub.viewers;
    let rests = main.state == State::Idle && main.reason.is_none();
    if rests && sub.state != State::Idle {
        status.state = sub.state;
        status.reason.clone_from(&sub.reason);
        status.problem.clone_from(&sub.problem);
        (status.since, status.retry_at) = (sub.since, sub.retry_at);
    }
    if status.video.is_none() {
        status.video.clone_from(&sub.video);
    }
    if status.audio.is_none() {
        status.audio.clone_from(&sub.audio);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::status::Reason;

    fn status(state: State, code: Option<&'static str>, viewers: usize) -> StreamStatus {
        let reason = code.map(|code| Reason { code, message: String::new() });
        StreamStatus { state, reason, viewers, ..StreamStatus::default() }
    }

    #[test]
    fn the_main_stream_counts_while_it_is_needed() {
        use State::{Connecting, Failed, Idle, Live, Retrying};
        for (main, sub, combined_state, code) in [
            ((Idle, None), (Idle, None), Idle, None),
            ((Idle, None), (Live, None), Live, None),
            ((Idle, None), (Failed, Some("camera_login")), Failed, Some("camera_login")),
            ((Idle, Some("camera_login")), (Live, None), Idle, Some("camera_login")),
            ((Live, None), (Retrying, Some("camera_closed")), Live, None),
            ((Connecting, None), (Live, None), Connecting, None),
            ((Failed, Some("camera_codec")), (Live, None), Failed, Some("camera_codec")),
        ] {
            let both = combined(&status(main.0, main.1, 1), &status(sub.0, sub.1, 2));
            assert_eq!(
                (both.state, both.reason.map(|reason| reason.code)),
                (combined_state, code),
                "{main:?} {sub:?}"
            );
            assert_eq!(both.viewers, 3);
        }
    }
}
