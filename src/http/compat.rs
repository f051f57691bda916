//! `/api/admin/compat`: which older systems are switched on, who is connected through them, and disconnecting somebody.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::error::{ApiError, Path};
use super::{App, Client};
use crate::accounts::credentials::Caller;

/// `GET /api/admin/compat`.
pub async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({ "modes": app.compat.modes(), "clients": app.compat.clients().list() }))
}

/// `DELETE /api/admin/compat/clients/{id}`.
pub async fn disconnect(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(client): Extension<Client>,
    Path(id): Path<u64>,
) -> Result<StatusCode, ApiError> {
    let disconnected = app.compat.clients().disconnect(id);
    let (mode, name) = disconnected.ok_or_else(|| ApiError::not_found("client"))?;
    app.note(&caller, client, "compat.disconnect", mode.key(), name).await;
    Ok(StatusCode::NO_CONTENT)
}
