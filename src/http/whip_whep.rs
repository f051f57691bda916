//! WHEP (draft-ietf-wish-whep) for players and WHIP (RFC 9725) for publishers, our own and third-party ones. The
//! status codes are those that public players handle well: 400 and 406 make some of them switch modes, so they are
//! not used for offers. Negotiation itself is in `media`.

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::{App, Client};
use crate::accounts::credentials::Caller;
use crate::config::IceServer;
use crate::ids::SessionId;
use crate::media::session::negotiate::OfferError;
use crate::media::shard::PatchOutcome;
use crate::media::{Begun, WatchError};
use crate::names::StreamName;
use crate::sessions::registry::Refusal;
use crate::signaling::grants::Direction;
use crate::streams::StreamHandle;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Upper limit on `Retry-After`, in seconds: with a longer one players notice too late that a camera works again.
const MAX_RETRY_AFTER: u64 = 30;

/// `/whep/{stream}`.
pub async fn watch(
    state: State<App>,
    client: Extension<Client>,
    caller: Option<Extension<Caller>>,
    path: Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    endpoint(Direction::Watch, state, client, caller, path, method, headers, body).await
}

/// `/whip/{stream}`.
pub async fn publish(
    state: State<App>,
    client: Extension<Client>,
    caller: Option<Extension<Caller>>,
    path: Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    endpoint(Direction::Publish, state, client, caller, path, method, headers, body).await
}

// All of these are parts of the request.
#[allow(clippy::too_many_arguments)]
async fn endpoint(
    direction: Direction,
    State(app): State<App>,
    Extension(client): Extension<Client>,
    caller: Option<Extension<Caller>>,
    Path(stream): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let caller = caller.map_or(Caller::Nobody, |Extension(caller)| caller);
    let result = match method {
        Method::OPTIONS => Ok(options(&app, &caller)),
        Method::POST => {
            let request = Request { app: &app, client, caller: &caller, headers: &headers, body: &body };
            request.post(&stream, direction).await
        }
        Method::GET | Method::HEAD => {
            find(&app, &caller, &stream, direction).map(|_| StatusCode::OK.into_response())
        }
        _ => Err(wrong_method("POST, GET, HEAD, OPTIONS")),
    };
    cors(result.unwrap_or_else(IntoResponse::into_response))
}

/// The stream, if the caller may watch or publish it. Otherwise the response is the same as for a stream that does
/// not exist.
fn find(app: &App, caller: &Caller, stream: &str, direction: Direction) -> Result<StreamHandle, ApiError> {
    let id = StreamName::parse(stream).filter(|id| app.gate.allows(caller, id, direction));
    let found = id.and_then(|id| app.gate.stream(&id));
    let found = found.filter(|stream| direction == Direction::Watch || stream.is_published());
    found.ok_or_else(|| match caller {
        Caller::Nobody => ApiError::unauthorized("log in, or send a token"),
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

fn options(app: &App, caller: &Caller) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert("accept-post", HeaderValue::from_static(SDP));
    // The links may contain a TURN password.
    if !matches!(caller, Caller::Nobody) {
        add_links(headers, &app.settings.ice_servers);
    }
    response
}

/// A POST request.
struct Request<'a> {
    app: &'a App,
    client: Client,
    caller: &'a Caller,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Request<'_> {
    async fn post(&self, stream: &str, direction: Direction) -> Result<Response, ApiError> {
        let (app, caller, client) = (self.app, self.caller, self.client);
        let stream = find(app, caller, stream, direction)?;
        require_type(self.headers, SDP)?;
        let offer = std::str::from_utf8(self.body).map_err(|_| unreadable("the offer is not UTF-8"))?;
        let admission = app.sessions.registry().admit(caller, stream.id(), direction, client.ip());
        let admission = admission.map_err(not_admitted)?;
        let begun = match direction {
            Direction::Watch => app.engine.watch(&stream, offer, client.ip()).await,
            Direction::Publish => app.engine.publish(&stream, offer, client.ip()).await,
        };
        let begun = begun.map_err(refuse)?;
        app.sessions.began(admission, begun.session, client.ip()).await;
        created(&begun, &app.settings.ice_servers)
    }
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

fn created(watching: &Begun, ice_servers: &[IceServer]) -> Result<Response, ApiError> {
    let value = |text: &str| {
        let internal =
            |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "cannot create a header");
        HeaderValue::from_str(text).map_err(internal)
    };
    let mut response = (StatusCode::CREATED, watching.answer.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(header::LOCATION, value(&format!("/session/{}", watching.session))?);
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

/// `/session/{id}`: knowing the id grants the right to change or end the session.
pub async fn session(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::OPTIONS {
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().insert("accept-patch", HeaderValue::from_static(FRAGMENT));
        return cors(response);
    }
    let known = SessionId::parse(&id).filter(|id| app.engine.has_session(id));
    let result = match (known, method) {
        (None, _) => Err(ApiError::not_found("session")),
        (Some(_), Method::GET | Method::HEAD) => Ok(StatusCode::OK.into_response()),
        (Some(id), Method::PATCH) => patch(&app, client, id, &headers, &body).await,
        (Some(id), Method::DELETE) => {
            app.engine.close(id);
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(wrong_method("PATCH, DELETE, GET, HEAD, OPTIONS")),
    };
    cors(result.unwrap_or_else(IntoResponse::into_response))
}

async fn patch(
    app: &App,
    client: Client,
    id: SessionId,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    require_type(headers, FRAGMENT)?;
    let missing =
        || ApiError::new(StatusCode::PRECONDITION_REQUIRED, "if_match_missing", "If-Match is required");
    let tag = headers.get(header::IF_MATCH).and_then(|tag| tag.to_str().ok()).ok_or_else(missing)?;
    let fragment = std::str::from_utf8(body).map_err(|_| unreadable("the fragment is not UTF-8"))?;
    let outcome = app.engine.patch(id, tag.trim(), fragment, client.ip()).await;
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
        PatchOutcome::Gone => Err(ApiError::not_found("session")),
    }
}

fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
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

fn wrong_method(allowed: &str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", format!("allowed methods: {allowed}"))
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

/// Players on other sites may use these routes: nothing here depends on cookies.
fn cors(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "OPTIONS, GET, HEAD, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location, ETag, Link, Accept-Patch, Retry-After"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
