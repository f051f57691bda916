//! WHEP (draft-ietf-wish-whep) for players and WHIP (RFC 9725) for publishers, our own and third-party ones. The
//! status codes are those that public players handle well: 400 and 406 make some of them switch modes, so they are
//! not used for offers. Negotiation itself is in `media`.

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::base_path::Base;
use super::error::{ApiError, Path, Query, RawBody};
use super::layers::{self, Wanted};
use super::{App, Client};
use crate::accounts::credentials::Caller;
use crate::config::{BasePath, IceServer};
use crate::ids::SessionId;
use crate::media::session::negotiate::OfferError;
use crate::media::shard::PatchOutcome;
use crate::media::{Begun, WatchError};
use crate::names::StreamName;
use crate::sessions::registry::Refusal;
use crate::signaling::grants::Direction;
use crate::streams::StreamHandle;
use crate::streams::layer::Layer;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Upper limit on `Retry-After`, in seconds: with a longer one players notice too late that a camera works again.
const MAX_RETRY_AFTER: u64 = 30;

/// The parts of a request that all handlers of `/whep` and `/whip` use.
type Common = (State<App>, Option<Extension<Caller>>, Path<String>);
/// Of whom and where a `POST` is.
type Around = (Extension<Client>, Extension<Base>);

/// `POST /whep/{stream}`.
pub async fn watch(
    common: Common,
    around: Around,
    layer: Query<Wanted>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, ApiError> {
    post((Direction::Watch, layer.0.layer()?), common, around, &headers, &body.0).await
}

/// `POST /whip/{stream}`.
pub async fn publish(
    common: Common,
    around: Around,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, ApiError> {
    post((Direction::Publish, Layer::Main), common, around, &headers, &body.0).await
}

/// `GET /whep/{stream}`: whether the caller may watch it.
pub async fn may_watch(common: Common) -> Result<Response, ApiError> {
    exists(Direction::Watch, common)
}

/// `GET /whip/{stream}`: whether the caller may publish it.
pub async fn may_publish(common: Common) -> Result<Response, ApiError> {
    exists(Direction::Publish, common)
}

/// `OPTIONS /whep/{stream}` and `OPTIONS /whip/{stream}`.
pub async fn options(State(app): State<App>, caller: Option<Extension<Caller>>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert("accept-post", HeaderValue::from_static(SDP));
    // The links may contain a TURN password.
    if !matches!(known(caller), Caller::Nobody) {
        add_links(headers, &app.settings.ice_servers);
    }
    response
}

fn known(caller: Option<Extension<Caller>>) -> Caller {
    caller.map_or(Caller::Nobody, |Extension(caller)| caller)
}

/// Players look at the type to tell an endpoint from a page (draft-ietf-wish-whep, URL discoverability).
fn exists(direction: Direction, (State(app), caller, Path(stream)): Common) -> Result<Response, ApiError> {
    find(&app, &known(caller), &stream, direction)?;
    Ok([(header::CONTENT_TYPE, SDP)].into_response())
}

async fn post(
    (direction, layer): (Direction, Layer),
    (State(app), caller, Path(stream)): Common,
    (Extension(client), Extension(Base(base))): Around,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let caller = known(caller);
    let stream = find(&app, &caller, &stream, direction)?;
    require_type(headers, SDP)?;
    let offer = std::str::from_utf8(body).map_err(|_| unreadable("the offer is not UTF-8"))?;
    let admission = app.sessions.registry().admit(&caller, stream.id(), direction, client.ip());
    let admission = admission.map_err(not_admitted)?;
    let begun = match direction {
        Direction::Watch => layers::watch(&app.engine, &stream, layer, offer, client.ip()).await,
        Direction::Publish => app.engine.publish(&stream, offer, client.ip()).await,
    };
    let begun = begun.map_err(refuse)?;
    app.sessions.began(admission, begun.session, client.ip()).await;
    let mut response = created(&begun, &base, &app.settings.ice_servers)?;
    if stream.layer(Layer::Sub).is_some() {
        layers::add_link(response.headers_mut(), &base, begun.session);
    }
    Ok(response)
}

/// The stream, if the caller may watch or publish it. Otherwise the response is the same as for a stream that does
/// not exist.
fn find(app: &App, caller: &Caller, stream: &str, direction: Direction) -> Result<StreamHandle, ApiError> {
    // A trailing slash is a common mistake in players' settings.
    let stream = stream.strip_suffix('/').unwrap_or(stream);
    let id = StreamName::parse(stream).filter(|id| app.gate.allows(caller, id, direction));
    let found = id.and_then(|id| app.gate.stream(&id));
    let found = found.filter(|stream| direction == Direction::Watch || stream.is_published());
    found.ok_or_else(|| match caller {
        Caller::Nobody | Caller::OldClient(_) => ApiError::unauthorized("log in, or send a token"),
        Caller::Ticket { .. } => {
            ApiError::new(StatusCode::FORBIDDEN, "forbidden", "the ticket is for watching another camera")
        }
        Caller::Person(identity) if direction == Direction::Watch && !identity.scopes.watch => {
            ApiError::new(StatusCode::FORBIDDEN, "forbidden", "the token has no scope \"watch\"")
        }
        Caller::Person(identity) if direction == Direction::Publish && !identity.scopes.publish => {
            ApiError::new(StatusCode::FORBIDDEN, "forbidden", "the token has no scope \"publish\"")
        }
        Caller::Person(_) => ApiError::not_found("stream"),
    })
}

/// A limit from `[limits]` has been reached, or the stream already has a publisher.
fn not_admitted(refusal: Refusal) -> ApiError {
    let full = |code, text: &str| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, text).retry_after(10);
    match refusal {
        Refusal::Total => full("too_many_viewers", "the server has reached its viewer limit"),
        Refusal::Account => full("too_many_of_account", "this account has reached its limit of open streams"),
        Refusal::Address => full("too_many_of_address", "this address has reached its limit of open streams"),
        Refusal::Published => {
            let text = "this stream already has a publisher";
            ApiError::new(StatusCode::CONFLICT, "already_published", text).retry_after(5)
        }
    }
}

fn created(watching: &Begun, base: &BasePath, ice_servers: &[IceServer]) -> Result<Response, ApiError> {
    let value = |text: &str| {
        let internal =
            |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "cannot create a header");
        HeaderValue::from_str(text).map_err(internal)
    };
    let mut response = (StatusCode::CREATED, watching.answer.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(header::LOCATION, value(&base.join(&format!("/session/{}", watching.session)))?);
    headers.insert(header::ETAG, value(&watching.etag)?);
    headers.insert("accept-patch", HeaderValue::from_static(FRAGMENT));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    add_links(headers, ice_servers);
    Ok(response)
}

fn refuse(error: WatchError) -> ApiError {
    let message = error.to_string();
    match error {
        WatchError::Offer(OfferError::NoCommonCodec { .. }) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "no_common_codec", message)
        }
        WatchError::Offer(OfferError::TooManyTracks(_)) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_tracks", message)
        }
        WatchError::Offer(_) => unreadable(&message),
        WatchError::NotReachable(reason, wait) => {
            let seconds = (wait.as_secs() + 1).min(MAX_RETRY_AFTER);
            ApiError::new(StatusCode::CONFLICT, reason.code, message).retry_after(seconds as u32)
        }
        WatchError::NotPlayable(reason) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason.code, message)
        }
        WatchError::Full(_) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", message).retry_after(10)
        }
        WatchError::Engine => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "internal", message).retry_after(10)
        }
    }
}

/// The session with this id: knowing the id grants the right to change or end the session.
pub fn session(app: &App, id: &str) -> Result<SessionId, ApiError> {
    let id = SessionId::parse(id).filter(|id| app.engine.has_session(id));
    id.ok_or_else(|| ApiError::not_found("session"))
}

/// `OPTIONS /session/{id}`.
pub async fn session_options() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert("accept-patch", HeaderValue::from_static(FRAGMENT));
    response
}

/// `GET /session/{id}`: whether it is still open.
pub async fn show_session(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    session(&app, &id).map(|_| StatusCode::OK)
}

/// `DELETE /session/{id}`.
pub async fn end_session(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.engine.close(session(&app, &id)?);
    Ok(StatusCode::OK)
}

/// `PATCH /session/{id}`: more candidates, or an ICE restart.
pub async fn change_session(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let id = session(&app, &id)?;
    require_type(&headers, FRAGMENT)?;
    let tag = headers.get(header::IF_MATCH).and_then(|tag| tag.to_str().ok()).map(str::trim);
    // RFC 9725 §4.3.3 prints the wildcard in quotes, and clients copy it.
    let tag = tag.map(|tag| if tag == "\"*\"" { "*" } else { tag });
    let fragment = std::str::from_utf8(&body).map_err(|_| unreadable("the fragment is not UTF-8"))?;
    let outcome = app.engine.patch(id, tag, fragment, client.ip()).await;
    match outcome.map_err(refuse)? {
        PatchOutcome::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        PatchOutcome::Restarted { fragment, etag } => {
            Ok(([(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, etag)], fragment)
                .into_response())
        }
        PatchOutcome::WrongTag => {
            let text = "If-Match does not match the session's current ETag";
            Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "if_match_wrong", text))
        }
        PatchOutcome::MissingTag => {
            let text = "If-Match is required for an ICE restart";
            Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, "if_match_missing", text))
        }
        PatchOutcome::Gone => Err(ApiError::not_found("session")),
    }
}

pub fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let text = format!("the Content-Type must be {wanted}");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text))
}

fn unreadable(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "offer_unreadable", message)
}

/// RFC 9725 §4.6: one `Link` per server URL.
fn add_links(headers: &mut HeaderMap, servers: &[IceServer]) {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    for server in servers {
        for url in &server.urls {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
                let (username, credential) = (quote(username), quote(credential.expose()));
                link += &format!(
                    "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
                );
            }
            if let Ok(value) = HeaderValue::from_str(&link) {
                headers.append(header::LINK, value);
            }
        }
    }
}

/// Whether players of other sites may use a route: nothing there depends on cookies.
pub fn is_for_other_sites(path: &str) -> bool {
    ["/whep/", "/whip/", "/session/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Lets pages of other origins read a response. Refusals need it, too: without it a player sees a network error and
/// retries for ever.
pub fn add_cors(headers: &mut HeaderMap) {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "OPTIONS, GET, HEAD, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location, ETag, Link, Accept-Patch, Retry-After"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
