//! The wire format of frames and nothing else: parsing client requests and building answers and events. JSON in text
//! frames; see docs/signaling.md.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Maximum length of a request id.
const MAX_REQUEST_ID: usize = 64;
/// Maximum length of a device's label.
const MAX_LABEL: usize = 64;
/// The longest call that is believed, in seconds: a week.
const MAX_TALKED: u64 = 7 * 86_400;
/// The longest message of somebody who rejects a call.
pub const MAX_MESSAGE: usize = 200;
/// Maximum size of a relayed SDP or candidate.
pub const MAX_SIGNAL: usize = 32 * 1024;

/// A client's frame before its body is parsed.
#[derive(Deserialize)]
struct RawFrame {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    body: Value,
}

/// A client's request.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Identifies the device and optionally resumes a session. Must be the first frame.
    Hello(Hello),
    /// Only asks for an answer.
    Ping,
    /// Turns do-not-disturb on or off.
    SetDnd(bool),
    /// Calls somebody.
    Invite {
        /// Their login name.
        to: String,
        /// With video.
        video: bool,
    },
    /// To go on with a call over a restart of the server.
    Claim(Claim),
    /// To take a call.
    Accept {
        /// Which call.
        call: u64,
        /// Puts the current call on hold.
        hold: bool,
    },
    /// Rejects a ringing call.
    Reject {
        /// Which call.
        call: u64,
        /// A short message to the caller.
        message: String,
    },
    /// Ends a call, ringing or in progress.
    HangUp {
        /// Which call.
        call: u64,
        /// Whether it ends because media failed.
        failed: bool,
    },
    /// Media has connected.
    Connected {
        /// Which call.
        call: u64,
    },
    /// Holds or resumes a call.
    Hold {
        /// Which call.
        call: u64,
        /// Whether it is on hold.
        held: bool,
    },
    /// Starts watching somebody's camera.
    Watch {
        /// Login name.
        to: String,
    },
    /// Stops watching.
    StopWatching {
        /// Login name.
        to: String,
    },
    /// Answers somebody's request to watch.
    AnswerWatcher {
        /// Login name.
        watcher: String,
        /// Whether they may watch.
        allow: bool,
    },
    /// Stops others from watching one's own camera.
    StopBeingWatched {
        /// The watcher's login name; `None` stops all watchers.
        watcher: Option<String>,
    },
    /// This device cannot publish its camera.
    CameraFailed {
        /// The cause, e.g. `camera_denied`.
        code: String,
    },
    /// SDP, candidates and anything else the two browsers negotiate; relayed unchanged.
    Signal {
        /// Which call.
        call: u64,
        /// Opaque to the server.
        payload: Value,
    },
}

/// A call the device is in but the restarted server does not know.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Claim {
    /// Its number.
    pub call: u64,
    /// The login name of the other side.
    pub peer: String,
    /// Whether this side made the call.
    pub outgoing: bool,
    /// With video.
    #[serde(default)]
    pub video: bool,
    /// Seconds since it was accepted.
    #[serde(default)]
    pub talked: u64,
}

/// Why a request was refused.
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
    /// The id that the device chose for itself and keeps across reloads.
    pub device: String,
    /// Human-readable name.
    #[serde(default)]
    pub label: String,
    /// The session to resume.
    #[serde(default)]
    pub resume: Option<Resume>,
}

/// Where to resume a session.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Resume {
    /// Its secret id.
    pub session: String,
    /// The number of the last frame received.
    pub last_seq: u64,
}

/// Why a frame is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadFrame {
    /// The request's id, if it could be parsed.
    pub id: Option<String>,
    /// A stable error code.
    pub code: &'static str,
}

/// Parses a frame.
///
/// # Errors
/// The text is not a valid frame, or the body does not match the type.
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

/// An error for a frame that has no regular answer: not numbered and not replayed.
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
