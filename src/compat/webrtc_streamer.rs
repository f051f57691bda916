//! The HTTP API of webrtc-streamer, as its JavaScript client uses it: our cameras, watched without a login by whoever
//! may use this mode. A peer of theirs is a session of the media engine. Start at [`Streamer::respond`].
//!
//! Every path takes GET and POST alike, and bodies are JSON whatever their type says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Parts;
use super::clients::{Client, Clients};
use super::site::{Around, MAX_BODY, refuse};
use crate::accounts::credentials::{Caller, OldClient};
use crate::cameras::Entry;
use crate::config::{Mode, ModeConfig};
use crate::http::layers;
use crate::ids::SessionId;
use crate::media::WatchError;
use crate::signaling::grants::Direction;
use crate::streams::layer::Layer;
use crate::streams::source::SourceSpec;

/// Longest id of a peer, in bytes. The client takes a random number.
const LONGEST_PEER_ID: usize = 64;
/// How often is looked whether a session has ended.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The API of webrtc-streamer whose behaviour this is.
const VERSION: &str = "Gatehouse, webrtc-streamer API v0.8";

struct Peer {
    session: SessionId,
    address: IpAddr,
    since: SystemTime,
    url: String,
    /// Ends the session.
    end: CancellationToken,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Streamer {
    parts: Parts,
    /// Whom the permissions are asked for.
    caller: Caller,
    clients: Clients,
    peers: Arc<Mutex<HashMap<String, Peer>>>,
}

#[derive(Deserialize)]
struct Description {
    sdp: String,
}

#[derive(Deserialize)]
struct IceCandidate {
    candidate: String,
    #[serde(rename = "sdpMid")]
    mid: Option<String>,
}

/// The parameters of a request.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Whether a path is one of webrtc-streamer's.
pub fn is_path(path: &str) -> bool {
    const PATHS: [&str; 14] = [
        "getIceServers",
        "call",
        "addIceCandidate",
        "getIceCandidate",
        "hangup",
        "getMediaList",
        "getVideoDeviceList",
        "getAudioDeviceList",
        "getStreamList",
        "getPeerConnectionList",
        "version",
        "createOffer",
        "setAnswer",
        "whep",
    ];
    path.strip_prefix("/api/").is_some_and(|name| PATHS.contains(&name))
}

impl Streamer {
    /// For a mode's configuration.
    pub fn new(config: &ModeConfig, clients: Clients, parts: Parts) -> Self {
        let client = OldClient { mode: config.mode.key(), cameras: config.cameras.clone() };
        Self { parts, caller: Caller::OldClient(Arc::new(client)), clients, peers: Arc::default() }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request for one of the paths of [`is_path`].
    pub async fn respond(&self, around: Around<'_>, path: &str, request: Request) -> Response {
        let method = request.method().clone();
        if method == Method::OPTIONS {
            return preflight();
        }
        let query = request.uri().query().unwrap_or_default();
        let given = Parameters(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large");
        };
        let mut response = match (path.trim_start_matches("/api/"), &method) {
            ("whep", &Method::POST) => self.whep(around, &given, &body).await,
            ("whep", &Method::DELETE) => self.hang_up(around, &given),
            (_, method) if !matches!(*method, Method::GET | Method::POST | Method::HEAD) => {
                StatusCode::METHOD_NOT_ALLOWED.into_response()
            }
            ("getIceServers", _) => self.ice_servers(),
            ("call", _) => self.call(around, &given, &body).await,
            ("addIceCandidate", _) => self.add_candidate(around, &given, &body).await,
            // The answer has all of our candidates.
            ("getIceCandidate" | "getVideoDeviceList" | "getAudioDeviceList", _) => {
                Json(json!([])).into_response()
            }
            ("hangup", _) => self.hang_up(around, &given),
            ("getMediaList", _) => self.media_list(),
            ("getStreamList", _) => self.streams(),
            ("getPeerConnectionList", _) => self.peer_list(around.now),
            ("version", _) => VERSION.into_response(),
            _ => refuse(StatusCode::NOT_IMPLEMENTED, "not_supported", "the client makes the offer here"),
        };
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    /// Only those without a password: who watches here has shown none.
    fn ice_servers(&self) -> Response {
        let open = self.parts.ice_servers.iter().filter(|server| server.credential.is_none());
        let servers: Vec<Value> = open.map(|server| json!({ "urls": server.urls })).collect();
        Json(json!({ "iceServers": servers, "iceTransportPolicy": "all" })).into_response()
    }

    /// The cameras that this mode shows.
    fn shown(&self) -> Vec<Arc<Entry>> {
        let entries = self.parts.cameras.entries();
        let allowed = |entry: &&Arc<Entry>| {
            let stream = entry.config.stream_id().filter(|_| entry.config.enabled);
            stream.is_some_and(|stream| self.parts.gate.allows(&self.caller, &stream, Direction::Watch))
        };
        entries.iter().filter(allowed).cloned().collect()
    }

    /// A camera by its id, its name, or the address that it is configured with.
    fn find(&self, url: &str) -> Option<Arc<Entry>> {
        let shown = self.shown();
        let by_id = shown.iter().find(|entry| entry.config.id == url);
        let by_name = || shown.iter().find(|entry| entry.config.name == url);
        let by_address = || {
            let wanted = bare_address(url)?;
            shown.iter().find(|entry| match &entry.config.spec.source {
                SourceSpec::Rtsp { url, .. } => bare_address(url.as_str()).is_some_and(|own| own == wanted),
                _ => false,
            })
        };
        by_id.or_else(by_name).or_else(by_address).cloned()
    }

    fn media_list(&self) -> Response {
        let media = self.shown().into_iter().map(|entry| {
            let mut item = json!({ "video": entry.config.name });
            let view = self.parts.cameras.view(&entry);
            if view.is_some_and(|view| view.status.audio.is_some_and(|audio| audio.playable)) {
                item["audio"] = entry.config.name.clone().into();
            }
            item
        });
        Json(media.collect::<Vec<_>>()).into_response()
    }

    /// The cameras that somebody watches through this mode.
    fn streams(&self) -> Response {
        let mut urls: Vec<String> = self.peers().values().map(|peer| peer.url.clone()).collect();
        urls.sort();
        urls.dedup();
        Json(urls).into_response()
    }

    fn peer_list(&self, now: SystemTime) -> Response {
        let view = |(id, peer): (&String, &Peer)| {
            let duration = now.duration_since(peer.since).unwrap_or_default().as_millis() as u64;
            let state = json!({ "signaling_state": "stable", "duration_ms": duration, "url": peer.url });
            json!({ id: state })
        };
        Json(self.peers().iter().map(view).collect::<Vec<_>>()).into_response()
    }

    async fn call(&self, around: Around<'_>, given: &Parameters, body: &[u8]) -> Response {
        let Some(peer) = given.get("peerid").filter(|id| id.len() <= LONGEST_PEER_ID) else {
            return refuse(StatusCode::BAD_REQUEST, "peerid", "peerid is needed");
        };
        let Ok(offer) = serde_json::from_slice::<Description>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "offer_unreadable", "the body must be {type, sdp}");
        };
        match self.begin(around, peer, given, &offer.sdp).await {
            Ok(answer) => Json(json!({ "type": "answer", "sdp": answer })).into_response(),
            Err(response) => response,
        }
    }

    /// The same in WHEP's form. The session's address has the session's secret number as the peer's id.
    async fn whep(&self, around: Around<'_>, given: &Parameters, body: &[u8]) -> Response {
        let Ok(offer) = std::str::from_utf8(body) else {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, "offer_unreadable", "the offer is not UTF-8");
        };
        let peer = SessionId::random().to_string();
        match self.begin(around, &peer, given, offer).await {
            Ok(answer) => {
                let location = format!("whep?peerid={peer}");
                let headers = [
                    (header::CONTENT_TYPE, "application/sdp".to_owned()),
                    (header::LOCATION, location),
                    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location".to_owned()),
                ];
                (StatusCode::CREATED, headers, answer).into_response()
            }
            Err(response) => response,
        }
    }

    /// Starts a session for a peer; returns the answer.
    async fn begin(
        &self,
        around: Around<'_>,
        peer: &str,
        given: &Parameters,
        offer: &str,
    ) -> Result<String, Response> {
        let address = around.client.ip();
        if self.peers().get(peer).is_some_and(|known| known.address != address) {
            return Err(refuse(StatusCode::CONFLICT, "peerid_taken", "another client has this peerid"));
        }
        let url = given.get("url").or_else(|| given.get("video")).unwrap_or_default();
        let unknown = || refuse(StatusCode::NOT_FOUND, "not_found", "no such camera");
        let entry = self.find(url).ok_or_else(unknown)?;
        let stream =
            entry.config.stream_id().and_then(|id| self.parts.gate.stream(&id)).ok_or_else(unknown)?;
        let client = self.clients.enter(Mode::WebrtcStreamer, address, around.now);
        let full = |code| refuse(StatusCode::SERVICE_UNAVAILABLE, code, "too many viewers");
        let client = client.ok_or_else(|| full("too_many_clients"))?;
        client.describe("", &entry.config.name);
        let registry = self.parts.sessions.registry();
        let admission = registry.admit(&self.caller, stream.id(), Direction::Watch, address);
        let admission = admission.map_err(|_| full("too_many_viewers"))?;
        let begun = layers::watch(&self.parts.engine, &stream, Layer::Main, offer, address).await;
        let begun = begun.map_err(|error| not_begun(&error))?;
        self.parts.sessions.began(admission, begun.session, address).await;
        let url = entry.config.name.clone();
        let new = Peer { session: begun.session, address, since: around.now, url, end: client.end.clone() };
        if let Some(old) = self.peers().insert(peer.to_owned(), new) {
            old.end.cancel();
        }
        self.watch_over(peer.to_owned(), begun.session, client);
        Ok(begun.answer)
    }

    /// Keeps a peer on the lists until its session has ended: most clients disappear without hanging up, and
    /// Administration may disconnect it.
    fn watch_over(&self, id: String, session: SessionId, client: Client) {
        let streamer = self.clone();
        tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK_INTERVAL);
            while streamer.parts.engine.has_session(&session) {
                tokio::select! {
                    () = client.end.cancelled() => {
                        streamer.parts.engine.close(session);
                        break;
                    }
                    _ = look.tick() => {}
                }
            }
            let mut peers = streamer.peers();
            // The same client may have called again.
            if peers.get(&id).is_some_and(|peer| peer.session == session) {
                peers.remove(&id);
            }
        });
    }

    /// The session of a peer, for the address that has begun it.
    fn session_of(&self, around: Around<'_>, given: &Parameters) -> Option<SessionId> {
        let peers = self.peers();
        let peer = peers.get(given.get("peerid")?)?;
        (peer.address == around.client.ip()).then_some(peer.session)
    }

    async fn add_candidate(&self, around: Around<'_>, given: &Parameters, body: &[u8]) -> Response {
        let Some(session) = self.session_of(around, given) else {
            return refuse(StatusCode::NOT_FOUND, "not_found", "no such peer");
        };
        let Ok(candidate) = serde_json::from_slice::<IceCandidate>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "candidate", "the body must be {candidate, sdpMid}");
        };
        let line = candidate.candidate.trim();
        let mid = candidate.mid.unwrap_or_default();
        let is_line = |text: &str| !text.contains(['\r', '\n']);
        if line.starts_with("candidate:") && is_line(line) && is_line(&mid) {
            let fragment = format!("a=mid:{mid}\r\na={line}\r\n");
            // A candidate that cannot be used is none: the others may do.
            let _ = self.parts.engine.patch(session, None, &fragment, around.client.ip()).await;
        }
        Json(true).into_response()
    }

    fn hang_up(&self, around: Around<'_>, given: &Parameters) -> Response {
        let session = self.session_of(around, given);
        if let (Some(_), Some(id)) = (session, given.get("peerid"))
            && let Some(peer) = self.peers().remove(id)
        {
            peer.end.cancel();
        }
        Json(session.is_some()).into_response()
    }
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn not_begun(error: &WatchError) -> Response {
    let (status, code) = match error {
        WatchError::Offer(_) => (StatusCode::UNPROCESSABLE_ENTITY, "offer_unreadable"),
        WatchError::NotReachable(reason, _) => (StatusCode::CONFLICT, reason.code),
        WatchError::NotPlayable(reason) => (StatusCode::UNPROCESSABLE_ENTITY, reason.code),
        WatchError::Full(_) | WatchError::Engine => (StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers"),
    };
    refuse(status, code, &error.to_string())
}

/// An RTSP address without its login, so that the old page's address of a camera means the camera that we have. An
/// address that we do not have is never connected.
fn bare_address(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "rtsp" | "rtsps"))?;
    let host = url.host_str()?.to_ascii_lowercase();
    let port = url.port().unwrap_or(if url.scheme() == "rtsp" { 554 } else { 322 });
    let (path, query) = (url.path().trim_end_matches('/'), url.query().unwrap_or_default());
    Some(format!("{}://{host}:{port}{path}?{query}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_logins() {
        let same = |a, b| bare_address(a).is_some_and(|a| Some(a) == bare_address(b));
        assert!(same("rtsp://u:p@cam/stream/1", "rtsp://cam/stream/1"));
        assert!(same("rtsp://cam/", "rtsp://CAM"));
        assert!(same("rtsp://cam:554/1?a=b", "rtsp://cam/1?a=b"));
        assert!(!same("rtsp://cam/1", "rtsp://cam/2"));
        assert!(!same("rtsp://cam:8554/1", "rtsp://cam/1"));
        assert_eq!(bare_address("http://cam/1"), None);
        assert_eq!(bare_address("door"), None);
    }

    #[test]
    fn paths() {
        assert!(is_path("/api/call") && is_path("/api/whep"));
        assert!(!is_path("/api/calls") && !is_path("/call") && !is_path("/api/call/x"));
    }
}
