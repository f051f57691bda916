//! `/api/calls`: the caller's own call history.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::error::{ApiError, Query};
use crate::accounts::calls::{CallFilter, PAGE};
use crate::accounts::credentials::Caller;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    peer: Option<String>,
    search: Option<String>,
    #[serde(default)]
    missed: bool,
    before: Option<i64>,
}

/// The caller's calls, newest first; `before` of the next page is the id of the last one.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let said = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let (peer, search) = (said(wanted.peer), said(wanted.search));
    let filter = CallFilter { peer, search, missed: wanted.missed, before: wanted.before };
    let (calls, missed) = app.accounts.calls(&caller.actor(), filter).await?;
    Ok(Json(json!({ "calls": calls, "page": PAGE, "missed": missed })).into_response())
}

/// Marks missed calls as seen.
pub async fn seen(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, ApiError> {
    app.accounts.calls_seen(&caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}
