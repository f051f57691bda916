//! `/api/admin/cameras`: the cameras added on the page, which can be changed, and those of the configuration file,
//! which cannot. Passwords can be set but are never returned.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::error::{ApiError, Body, Path};
use super::{App, Client};
use crate::accounts::AccountError;
use crate::accounts::cameras::{CameraSettings, kept_password};
use crate::accounts::credentials::Caller;
use crate::accounts::permissions::{DEFAULT_ALLOW, Subject};
use crate::cameras::{CameraView, Entry, Origin};
use crate::probe;
use crate::secret::Secret;
use crate::streams::source::{SourceSpec, Transport};

/// Longest duration of a camera test.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

/// A camera as admins see it.
#[derive(Serialize)]
struct AdminView {
    id: String,
    origin: Origin,
    settings: CameraSettings,
    has_password: bool,
    /// Who may watch it.
    allow: Vec<Subject>,
    /// Where that is set: `file`, `page` or `default`.
    allow_origin: &'static str,
    /// Its status, if it is enabled.
    status: Option<CameraView>,
}

fn admin_view(app: &App, entry: &Entry) -> AdminView {
    let config = &entry.config;
    let (url, username, has_password, transport) = match &config.spec.source {
        SourceSpec::Rtsp { url, credentials, transport, .. } => {
            let user = credentials.as_ref().map(|(user, _)| user.clone());
            let has_password = credentials.as_ref().is_some_and(|(_, password)| !password.is_empty());
            (url.to_string(), user, has_password, *transport)
        }
        SourceSpec::Whep { url, token } => (
            format!("whep{}", url.as_str().trim_start_matches("http")),
            None,
            token.is_some(),
            Transport::Auto,
        ),
        SourceSpec::Published => ("whip:".to_owned(), None, false, Transport::Auto),
    };
    let settings = CameraSettings {
        name: config.name.clone(),
        url,
        sub_url: match config.spec.sub.as_deref() {
            Some(SourceSpec::Rtsp { url, .. }) => Some(url.to_string()),
            _ => None,
        },
        username,
        transport: match transport {
            Transport::Auto => "auto",
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
        .into(),
        on_demand: config.spec.on_demand,
        enabled: config.enabled,
        public: config.public,
    };
    let allow_origin = match (&config.allow, &entry.rule.allow) {
        (Some(_), _) => "file",
        (None, Some(_)) => "page",
        (None, None) => "default",
    };
    AdminView {
        id: config.id.clone(),
        origin: entry.origin,
        settings,
        has_password,
        allow: entry.rule.allow.clone().unwrap_or_else(|| DEFAULT_ALLOW.to_vec()),
        allow_origin,
        status: if config.enabled { app.cameras.view(entry) } else { None },
    }
}

/// All cameras, enabled or not.
pub async fn list(State(app): State<App>) -> Response {
    let entries = app.cameras.entries();
    let cameras: Vec<AdminView> = entries.iter().map(|entry| admin_view(&app, entry)).collect();
    Json(json!({ "cameras": cameras })).into_response()
}

#[derive(Deserialize)]
pub struct New {
    id: String,
    password: Option<Secret>,
    #[serde(flatten)]
    settings: CameraSettings,
}

/// Adds a camera.
pub async fn add(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<New>,
) -> Result<StatusCode, ApiError> {
    let id = new.id;
    if app.cameras.entries().iter().any(|entry| entry.config.id == id && entry.origin == Origin::File) {
        return Err(AccountError::Taken("camera").into());
    }
    app.accounts.add_camera(&id, new.settings, new.password).await?;
    app.cameras.refresh().await?;
    app.note(&caller, client, "camera.added", &id, String::new()).await;
    Ok(StatusCode::CREATED)
}

#[derive(Deserialize)]
pub struct Change {
    /// `None` keeps the old one; an empty one removes it.
    password: Option<Secret>,
    #[serde(flatten)]
    settings: CameraSettings,
}

/// Changes a camera that was added on the page.
pub async fn change(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<StatusCode, ApiError> {
    app.accounts.change_camera(&id, change.settings, change.password).await?;
    app.cameras.refresh().await?;
    app.note(&caller, client, "camera.changed", &id, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a camera that was added on the page.
pub async fn remove(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.accounts.remove_camera(&id).await?;
    app.cameras.refresh().await?;
    app.note(&caller, client, "camera.removed", &id, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// None for the default.
    allow: Option<Vec<Subject>>,
}

/// Sets who may watch a camera, unless the configuration file does.
pub async fn allow(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(allow): Body<Allow>,
) -> Result<StatusCode, ApiError> {
    let entries = app.cameras.entries();
    let entry = entries.iter().find(|entry| entry.config.id == id);
    let entry = entry.ok_or_else(|| ApiError::not_found("camera"))?;
    if entry.config.allow.is_some() {
        let text = "who may watch this camera is set in the configuration file";
        return Err(ApiError::new(StatusCode::CONFLICT, "set_by_file", text));
    }
    let detail = match &allow.allow {
        None => "default".to_owned(),
        Some(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    app.accounts.set_camera_list(&id, allow.allow).await?;
    app.cameras.refresh().await?;
    app.note(&caller, client, "camera.allowed", &id, detail).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub struct Probe {
    /// The camera whose stored password may be used, if the address has not changed.
    id: Option<String>,
    password: Option<Secret>,
    #[serde(flatten)]
    settings: CameraSettings,
}

/// Tests a camera for some seconds and reports whether a browser could play it.
pub async fn probe(State(app): State<App>, Body(probe): Body<Probe>) -> Result<Response, ApiError> {
    let mut settings = probe.settings;
    let inside = settings.check()?;
    let stored = match &probe.id {
        Some(id) => app.accounts.camera(id).await?,
        None => None,
    };
    let password = match (probe.password.or(inside), &stored) {
        (Some(password), _) => Some(password),
        (None, Some(stored)) => kept_password(stored, &settings)?,
        (None, None) => None,
    };
    let url = Url::parse(&settings.url).ok().filter(|url| matches!(url.scheme(), "rtsp" | "rtsps"));
    let Some(url) = url else {
        let text = "only rtsp:// and rtsps:// addresses can be tested";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "probe_rtsp_only", text));
    };
    let Ok(_permit) = app.probes.try_acquire() else {
        let text = "other cameras are being tested";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(5));
    };
    let credentials = settings.username.map(|user| (user, password.unwrap_or_default()));
    let udp = settings.transport == "udp";
    let report = Box::pin(probe::examine_camera(url, credentials, udp, PROBE_LIMIT)).await;
    Ok(Json(report).into_response())
}
