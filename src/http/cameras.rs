//! `GET /api/cameras` and `GET /api/cameras/{id}`: the cameras that the caller may watch, with their status. Never an
//! address or a password.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Serialize;

use super::App;
use super::error::{ApiError, Path};
use crate::accounts::credentials::Caller;
use crate::accounts::permissions::Action;
use crate::cameras::CameraView;

#[derive(Serialize)]
pub struct CameraList {
    cameras: Vec<CameraView>,
}

/// The cameras that the caller may watch, in their configured order. Without a login: the public ones, if any.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<CameraList>, ApiError> {
    let cameras = app.cameras.list(|rule| app.accounts.may(&caller, Action::WatchCamera(rule)));
    if cameras.is_empty() && matches!(caller, Caller::Nobody) {
        return Err(ApiError::unauthorized("log in first"));
    }
    Ok(Json(CameraList { cameras }))
}

/// One camera.
pub async fn one(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<CameraView>, ApiError> {
    let entry = app.cameras.get(&id);
    match entry.filter(|entry| app.accounts.may(&caller, Action::WatchCamera(&entry.rule))) {
        Some(entry) => app.cameras.view(&entry).map(Json).ok_or_else(|| ApiError::not_found("camera")),
        None if matches!(caller, Caller::Nobody) => Err(ApiError::unauthorized("log in first")),
        None => Err(ApiError::not_found("camera")),
    }
}
