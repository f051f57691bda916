//! Layers of a camera in WHEP: `?layer=main|sub` at the start, and `POST /session/{id}/layer` afterwards, in the form of
//! the former WHEP extension for layers. The switching itself is in `media::shard::streams`. Start at [`watch`].

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::error::{ApiError, Path, RawBody};
use super::whip_whep::{require_type, session};
use crate::config::BasePath;
use crate::ids::SessionId;
use crate::media::{Begun, Engine, WatchError};
use crate::streams::StreamHandle;
use crate::streams::layer::Layer;

/// The relation of the link with the address for selecting a layer.
const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

/// The query of `POST /whep/{stream}`.
#[derive(Deserialize)]
pub struct Wanted {
    layer: Option<String>,
}

impl Wanted {
    /// The layer; the main one if the client does not say.
    ///
    /// # Errors
    /// An unknown name.
    pub fn layer(&self) -> Result<Layer, ApiError> {
        self.layer.as_deref().map_or(Ok(Layer::Main), named)
    }
}

fn named(name: &str) -> Result<Layer, ApiError> {
    Layer::parse(name).ok_or_else(|| {
        let text = "the layer must be \"main\" or \"sub\"";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "layer_unknown", text)
    })
}

/// The body of a selection; `mediaId` is not needed, since there is one video.
#[derive(Deserialize)]
struct Selection {
    #[serde(rename = "encodingId")]
    layer: String,
}

/// Starts to watch with a layer. What has no such layer is watched with the main one. If the layer cannot be shown, the
/// other one is, until the wanted one can.
///
/// # Errors
/// Those of [`Engine::watch`].
pub async fn watch(
    engine: &Engine,
    stream: &StreamHandle,
    wanted: Layer,
    offer: &str,
    client: IpAddr,
) -> Result<Begun, WatchError> {
    let sound = |layer| {
        let status = stream.layer(layer)?.status();
        status.audio.as_ref().and_then(|audio| audio.passed)
    };
    let (Some(first), Some(second)) = (stream.layer(wanted), stream.layer(wanted.other())) else {
        return engine.watch(stream, None, offer, client).await;
    };
    let error = match engine.watch(&first, sound(wanted.other()), offer, client).await {
        Err(error @ (WatchError::NotReachable(..) | WatchError::NotPlayable(_))) => error,
        result => return result,
    };
    let Ok(begun) = engine.watch(&second, sound(wanted), offer, client).await else { return Err(error) };
    if matches!(error, WatchError::NotReachable(..)) {
        engine.select_layer(begun.session, first);
    }
    Ok(begun)
}

/// `OPTIONS /session/{id}/layer`.
pub async fn options() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `POST /session/{id}/layer`: from now on with this layer, as soon as it has a key frame.
pub async fn select(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let id = session(&app, &id)?;
    require_type(&headers, "application/json")?;
    let layer = layer_in(&body)?;
    let stream = app.sessions.registry().watched(&id).and_then(|name| app.gate.stream(&name));
    let stream = stream.ok_or_else(|| ApiError::not_found("session"))?;
    let Some(handle) = stream.layer(layer) else {
        let text = "the stream has one layer only";
        return Err(ApiError::new(StatusCode::CONFLICT, "layer_missing", text));
    };
    app.engine.select_layer(id, handle);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn layer_in(body: &Bytes) -> Result<Layer, ApiError> {
    let selection: Selection = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "layer_unknown", format!("the body: {error}"))
    })?;
    named(&selection.layer)
}

/// Tells a client where it can select a layer.
pub fn add_link(headers: &mut HeaderMap, base: &BasePath, session: SessionId) {
    let link = format!("<{}>; rel=\"{RELATION}\"", base.join(&format!("/session/{session}/layer")));
    if let Ok(value) = HeaderValue::from_str(&link) {
        headers.append(header::LINK, value);
    }
}
