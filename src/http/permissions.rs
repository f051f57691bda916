//! `/api/admin/permissions`: the rules between people.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;

use super::error::{ApiError, Body};
use super::{App, Client};
use crate::accounts::credentials::Caller;
use crate::accounts::permissions::Rules;

/// The rules in force.
pub async fn show(State(app): State<App>) -> Json<Rules> {
    Json(Rules::clone(&app.accounts.rules()))
}

/// Sets the rules.
pub async fn change(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(rules): Body<Rules>,
) -> Result<StatusCode, ApiError> {
    let detail = serde_json::to_string(&rules).unwrap_or_default();
    app.accounts.set_rules(rules).await?;
    app.note(&caller, client, "permissions", "", detail).await;
    Ok(StatusCode::NO_CONTENT)
}
