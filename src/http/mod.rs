//! HTTP: the router and what its handlers share. `serve` accepts connections, `whip_whep` is the protocol of
//! players, `cameras` the API, `assets` the pages, `error` what goes wrong. No media passes through here.

mod assets;
mod cameras;
mod error;
pub mod serve;
mod whip_whep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::cameras::Cameras;
use crate::config::IceServer;
use crate::media::Engine;
use error::ApiError;

/// Larger bodies are refused: an SDP offer is the largest there is.
const MAX_BODY: usize = 64 * 1024;
/// From a request's head to its answer. A viewer may have to wait for a camera to start.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The cameras.
    pub cameras: Cameras,
    /// Where viewers are served.
    pub engine: Engine,
    /// What viewers are told of STUN and TURN servers.
    pub ice_servers: Arc<Vec<IceServer>>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

impl Client {
    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/api/cameras", get(cameras::list))
        .route("/api/cameras/{id}", get(cameras::one))
        .merge(whip_whep::routes())
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(time_limit))
        .layer(middleware::from_fn(security_headers))
        .with_state(app)
}

/// Cuts off requests whose bodies never end.
async fn time_limit(request: axum::extract::Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = "the request took too long";
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", text).into_response()
        }
    }
}

/// Headers that make browsers careful, on everything.
async fn security_headers(request: axum::extract::Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(self), geolocation=()"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
