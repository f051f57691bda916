//! `GET /api/cameras` and `GET /api/cameras/{id}`: what is there and how it is. Never an address or a password.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use super::App;
use super::error::ApiError;
use crate::cameras::CameraView;

#[derive(Serialize)]
pub struct CameraList {
    cameras: Vec<CameraView>,
}

/// All cameras in the order of the configuration.
pub async fn list(State(app): State<App>) -> Json<CameraList> {
    Json(CameraList { cameras: app.cameras.list() })
}

/// One camera.
pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<CameraView>, ApiError> {
    app.cameras.get(&id).map(Json).ok_or_else(|| ApiError::not_found("camera"))
}
