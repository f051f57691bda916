//! Frames as they stand on the wire, and nothing else: what a client may send, and how answers are written. JSON in
//! text frames; see docs/signaling.md.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// The longest id of a request.
const MAX_REQUEST_ID: usize = 64;
/// The longest name of a device for people.
const MAX_LABEL: usize = 64;
/// The longest call that is believed, in seconds: a week.
const MAX_TALKED: u64 = 7 * 86_400;
/// The longest message of somebody who rejects a call.
pub const MAX_MESSAGE: usize = 200;
/// The largest SDP or candidate that is relayed.
pub const MAX_SIGNAL: usize = 32 * 1024;

/// A frame of a client, before its body is read.
#[derive(Deserialize)]
struct RawFrame {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    body: Value,
}

/// What a client wants.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Who it is, and whether it was here before. The first frame.
    Hello(Hello),
    /// Nothing but an answer.
    Ping,
    /// Do not ring.
    SetDnd(bool),
    /// To call somebody.
    Invite {
        /// Their login name.
        to: String,
        /// With picture.
        video: bool,
    },
    /// To go on with a call over a restart of the server.
    Claim(Claim),
    /// To take a call.
    Accept {
        /// Which.
        call: u64,
        /// Put the call that one is in on hold.
        hold: bool,
    },
    /// To refuse a call that rings.
    Reject {
        /// Which.
        call: u64,
        /// A short word to the caller.
        message: String,
    },
    /// To end a call, ringing or running.
    HangUp {
        /// Which.
        call: u64,
        /// `hangup`, `failed`.
        failed: bool,
    },
    /// Media has connected.
    Connected {
        /// Which.
        call: u64,
    },
    /// To put a call on hold, or take it up again.
    Hold {
        /// Which.
        call: u64,
        /// On hold.
        held: bool,
    },
    /// To watch somebody's camera.
    Watch {
        /// Login name.
        to: String,
    },
    /// Enough seen.
    StopWatching {
        /// Login name.
        to: String,
    },
    /// The answer to somebody who wants to watch.
    AnswerWatcher {
        /// Login name.
        watcher: String,
        /// Yes.
        allow: bool,
    },
    /// To be watched no more.
    StopBeingWatched {
        /// By whom; by anybody, if nothing is said.
        watcher: Option<String>,
    },
    /// The camera that is to be published does not work here.
    CameraFailed {
        /// What is wrong with it.
        code: String,
    },
    /// SDP, candidates, what two browsers have to agree about: relayed as it is.
    Signal {
        /// Which.
        call: u64,
        /// Theirs.
        payload: Value,
    },
}

/// A call that a device is in, and that a server after a restart does not know.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Claim {
    /// Its number.
    pub call: u64,
    /// The login name of the other side.
    pub peer: String,
    /// Whether this side has called.
    pub outgoing: bool,
    /// With picture.
    #[serde(default)]
    pub video: bool,
    /// Seconds since it was accepted.
    #[serde(default)]
    pub talked: u64,
}

/// Why a request is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Stable.
    pub code: &'static str,
    /// Trying again helps after this time.
    pub wait: Option<Duration>,
}

impl From<&'static str> for Refused {
    fn from(code: &'static str) -> Self {
        Self { code, wait: None }
    }
}

/// The first frame.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Hello {
    /// The device's own name for itself, kept by it for ever.
    pub device: String,
    /// For people.
    #[serde(default)]
    pub label: String,
    /// The session that was lost.
    #[serde(default)]
    pub resume: Option<Resume>,
}

/// Where a session was lost.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Resume {
    /// Its secret name.
    pub session: String,
    /// The last frame that arrived.
    pub last_seq: u64,
}

/// Why a frame is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadFrame {
    /// The request's id, where it could be read.
    pub id: Option<String>,
    /// Stable.
    pub code: &'static str,
}

/// Reads a frame.
///
/// # Errors
/// It is no frame of ours, or its body is not what its type wants.
pub fn parse(text: &str) -> Result<(Option<String>, Request), BadFrame> {
    let bad = |id: Option<String>, code| BadFrame { id, code };
    let raw: RawFrame = serde_json::from_str(text).map_err(|_| bad(None, "bad_frame"))?;
    let id = raw.id;
    if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_REQUEST_ID) {
        return Err(bad(None, "bad_id"));
    }
    match request(&raw.kind, raw.body) {
        Ok(request) => Ok((id, request)),
        Err(code) => Err(bad(id, code)),
    }
}

fn request(kind: &str, body: Value) -> Result<Request, &'static str> {
    match kind {
        "hello" => {
            let hello: Hello = read(body)?;
            let fits = crate::ids::is_name(&hello.device) && hello.label.chars().count() <= MAX_LABEL;
            if fits { Ok(Request::Hello(hello)) } else { Err("bad_body") }
        }
        "ping" => Ok(Request::Ping),
        "presence.set" => {
            #[derive(Deserialize)]
            struct Body {
                dnd: bool,
            }
            read(body).map(|Body { dnd }| Request::SetDnd(dnd))
        }
        "call.invite" => {
            #[derive(Deserialize)]
            struct Body {
                to: String,
                #[serde(default)]
                video: bool,
            }
            let Body { to, video } = read(body)?;
            Ok(Request::Invite { to, video })
        }
        "call.claim" => {
            let claim: Claim = read(body)?;
            let fits = claim.talked <= MAX_TALKED && claim.peer.len() <= MAX_REQUEST_ID;
            if fits { Ok(Request::Claim(claim)) } else { Err("bad_body") }
        }
        "call.signal" => {
            #[derive(Deserialize)]
            struct Body {
                call: u64,
                payload: Value,
            }
            let Body { call, payload } = read(body)?;
            if payload.to_string().len() > MAX_SIGNAL {
                Err("too_large")
            } else {
                Ok(Request::Signal { call, payload })
            }
        }
        _ if kind.starts_with("watch") => watch_request(kind, body),
        _ => call_request(kind, body),
    }
}

fn watch_request(kind: &str, body: Value) -> Result<Request, &'static str> {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Body {
        to: String,
        watcher: Option<String>,
        allow: bool,
        code: String,
    }
    let body: Body = read(body)?;
    let named = |name: String| if name.is_empty() { Err("bad_body") } else { Ok(name) };
    Ok(match kind {
        "watch.start" => Request::Watch { to: named(body.to)? },
        "watch.stop" => Request::StopWatching { to: named(body.to)? },
        "watch.answer" => {
            Request::AnswerWatcher { watcher: named(body.watcher.unwrap_or_default())?, allow: body.allow }
        }
        "watched.stop" => Request::StopBeingWatched { watcher: body.watcher },
        "watched.failed" => Request::CameraFailed { code: body.code },
        _ => return Err("unknown_type"),
    })
}

fn call_request(kind: &str, body: Value) -> Result<Request, &'static str> {
    #[derive(Deserialize)]
    struct Body {
        call: u64,
        #[serde(default)]
        hold: bool,
        held: Option<bool>,
        #[serde(default)]
        failed: bool,
        #[serde(default)]
        message: String,
    }
    if !["call.accept", "call.reject", "call.hangup", "call.connected", "call.hold"].contains(&kind) {
        return Err("unknown_type");
    }
    let body: Body = read(body)?;
    let call = body.call;
    Ok(match kind {
        "call.accept" => Request::Accept { call, hold: body.hold },
        "call.reject" if body.message.chars().count() > MAX_MESSAGE => return Err("bad_body"),
        "call.reject" => Request::Reject { call, message: body.message },
        "call.hangup" => Request::HangUp { call, failed: body.failed },
        "call.connected" => Request::Connected { call },
        // Nobody is taken off hold by a frame that says nothing about it.
        _ => Request::Hold { call, held: body.held.ok_or("bad_body")? },
    })
}

fn read<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, &'static str> {
    serde_json::from_value(body).map_err(|_| "bad_body")
}

/// An event, without its number.
pub fn event(kind: &str, body: &Value) -> Value {
    json!({ "type": kind, "body": body })
}

/// The answer to a request, without its number.
pub fn reply(id: &str, result: Result<Value, Refused>) -> Value {
    match result {
        Ok(body) => json!({ "re": id, "ok": true, "body": body }),
        Err(Refused { code, wait: None }) => json!({ "re": id, "ok": false, "error": { "code": code } }),
        Err(Refused { code, wait: Some(wait) }) => {
            // Rounded up: whoever waits for so long is not refused again.
            let seconds = wait.as_millis().div_ceil(1000) as u64;
            json!({ "re": id, "ok": false, "error": { "code": code, "seconds": seconds } })
        }
    }
}

/// A frame that could not be answered otherwise: it has no number, and is not replayed.
pub fn error(id: Option<&str>, code: &str) -> String {
    json!({ "type": "error", "re": id, "error": { "code": code } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read() {
        let table = [
            (r#"{"id":"1","type":"ping"}"#, Ok(Request::Ping)),
            (r#"{"id":"1","type":"ping","body":{"more":1},"new":2}"#, Ok(Request::Ping)),
            (
                r#"{"id":"1","type":"call.accept","body":{"call":7}}"#,
                Ok(Request::Accept { call: 7, hold: false }),
            ),
            (
                r#"{"id":"1","type":"call.hold","body":{"call":7,"held":true}}"#,
                Ok(Request::Hold { call: 7, held: true }),
            ),
            (r#"{"id":"1","type":"presence.set","body":{"dnd":true}}"#, Ok(Request::SetDnd(true))),
            (r#"{"id":"1","type":"call.accept","body":{"call":-7}}"#, Err("bad_body")),
            (r#"{"id":"1","type":"call.accept"}"#, Err("bad_body")),
            (r#"{"id":"1","type":"call.invent","body":{"call":7}}"#, Err("unknown_type")),
            (r#"{"id":"1","type":"hello","body":{"device":"a b"}}"#, Err("bad_body")),
            (r#"{"id":"","type":"ping"}"#, Err("bad_id")),
            (r#"{"type":5}"#, Err("bad_frame")),
            ("[]", Err("bad_frame")),
            ("", Err("bad_frame")),
            ("\u{0}", Err("bad_frame")),
        ];
        for (text, expected) in table {
            let found = parse(text).map(|(_, request)| request).map_err(|bad| bad.code);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_right() {
        let text = include_str!("../../docs/signaling.md");
        let mut seen = 0;
        for line in text.lines() {
            if let Some(frame) = line.strip_prefix("> ") {
                assert!(parse(frame).is_ok(), "{frame}");
                seen += 1;
            } else if let Some(frame) = line.strip_prefix("< ") {
                assert!(serde_json::from_str::<Value>(frame).is_ok(), "{frame}");
            }
        }
        assert!(seen >= 10, "{seen} examples");
    }

    #[test]
    fn what_is_too_large_is_not_relayed() {
        let text =
            json!({ "id": "1", "type": "call.signal", "body": { "call": 1, "payload": "x".repeat(40_000) } });
        assert_eq!(parse(&text.to_string()).unwrap_err().code, "too_large");
        let text =
            json!({ "id": "1", "type": "call.reject", "body": { "call": 1, "message": "字".repeat(201) } });
        assert_eq!(parse(&text.to_string()).unwrap_err().code, "bad_body");
    }
}
