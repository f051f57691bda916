//! `POST /api/tickets`: a ticket lets another site show one camera for a limited time. Listing and revoking them is
//! in `account` and `users`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, Body};
use super::{App, Client};
use crate::accounts::credentials::{Caller, MAX_TICKET_LIFE};
use crate::accounts::permissions::Action;

/// The default lifetime.
const LIFE: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    camera: String,
    seconds: Option<u64>,
}

/// Creates a ticket.
pub async fn make(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<Wanted>,
) -> Result<Response, ApiError> {
    let identity = caller.identity().ok_or_else(|| ApiError::unauthorized("log in first"))?;
    let entry = app.cameras.get(&wanted.camera).ok_or_else(|| ApiError::not_found("camera"))?;
    if !app.accounts.may(&caller, Action::ShareCamera(&entry.rule)) {
        if !app.accounts.may(&caller, Action::WatchCamera(&entry.rule)) {
            return Err(ApiError::not_found("camera"));
        }
        let text = "only dispatchers and admins, and tokens with the scope \"share\", may share cameras";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", text));
    }
    let life =
        wanted.seconds.map_or(LIFE, |seconds| Duration::from_secs(seconds.max(1))).min(MAX_TICKET_LIFE);
    let (token, expires_at) = app.accounts.add_ticket(identity, &wanted.camera, life).await?;
    app.note(&caller, client, "camera.shared", &wanted.camera, format!("{} s", life.as_secs())).await;
    // In the fragment: browsers do not send it, so it appears in no log and no Referer.
    let path = format!("/embed/camera/{}#token={}", wanted.camera, token.expose());
    let body = json!({ "token": token.expose(), "path": path, "expires_at": expires_at });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
