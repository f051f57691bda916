//! `/api/admin/users` and `/api/admin/groups`: managing other people's accounts. One's own is in `account`.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, Body, Path};
use super::{App, Client};
use crate::accounts::credentials::Caller;
use crate::accounts::password;
use crate::accounts::permissions::Role;
use crate::accounts::users::{NewUser, UserChange};
use crate::secret::Secret;

/// All users.
pub async fn list(State(app): State<App>) -> Result<Response, ApiError> {
    Ok(Json(json!({ "users": app.accounts.users().await? })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    display: String,
    role: Role,
    #[serde(default)]
    groups: Vec<String>,
    /// Without one, a random password is generated; only this response contains it.
    #[serde(default)]
    password: Option<Secret>,
}

/// Adds a user, whose password has to be changed at the first login.
pub async fn add(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<New>,
) -> Result<Response, ApiError> {
    let made = new.password.is_none().then(password::random);
    let password = made.clone().or(new.password).unwrap_or_default();
    let name = new.name.clone();
    let user = NewUser {
        name: new.name,
        display: new.display,
        role: new.role,
        groups: new.groups,
        must_change: true,
    };
    app.accounts.add_user(user, &password).await?;
    app.note(&caller, client, "user.added", &name, new.role.as_str().to_owned()).await;
    Ok((StatusCode::CREATED, Json(json!({ "password": made.as_ref().map(Secret::expose) }))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    display: Option<String>,
    role: Option<Role>,
    groups: Option<Vec<String>>,
    disabled: Option<bool>,
}

/// Changes a user.
pub async fn change(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(change): Body<Change>,
) -> Result<StatusCode, ApiError> {
    let mut detail = Vec::new();
    if let Some(role) = change.role {
        detail.push(format!("role {}", role.as_str()));
    }
    if let Some(groups) = &change.groups {
        detail.push(format!("groups {}", groups.join(", ")));
    }
    if let Some(disabled) = change.disabled {
        detail.push(if disabled { "disabled" } else { "enabled" }.to_owned());
    }
    let change = UserChange {
        display: change.display,
        role: change.role,
        groups: change.groups,
        disabled: change.disabled,
    };
    app.accounts.change_user(&name, change).await?;
    app.note(&caller, client, "user.changed", &name, detail.join("; ")).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a user.
pub async fn remove(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.accounts.remove_user(&name).await?;
    app.note(&caller, client, "user.removed", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    #[serde(default)]
    password: Option<Secret>,
}

/// Sets a password, which has to be changed at the next login.
pub async fn reset_password(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(reset): Body<Reset>,
) -> Result<Response, ApiError> {
    let made = reset.password.is_none().then(password::random);
    let password = made.clone().or(reset.password).unwrap_or_default();
    app.accounts.reset_password(&name, &password, true).await?;
    app.note(&caller, client, "user.password", &name, String::new()).await;
    Ok(Json(json!({ "password": made.as_ref().map(Secret::expose) })).into_response())
}

/// A user's logins.
pub async fn logins(State(app): State<App>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(json!({ "logins": app.accounts.logins(&name).await? })).into_response())
}

/// Ends one of a user's logins.
pub async fn end_login(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_login(&name, id).await?;
    app.note(&caller, client, "login.ended", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A user's tokens.
pub async fn tokens(State(app): State<App>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(json!({ "tokens": app.accounts.tokens(&name).await? })).into_response())
}

/// Revokes one of a user's tokens.
pub async fn end_token(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_token(&name, id).await?;
    app.note(&caller, client, "token.ended", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A user's tickets.
pub async fn tickets(State(app): State<App>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(json!({ "tickets": app.accounts.tickets(&name).await? })).into_response())
}

/// Revokes one of a user's tickets.
pub async fn end_ticket(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_ticket(&name, id).await?;
    app.note(&caller, client, "ticket.ended", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all logins, tokens and tickets of a user.
pub async fn end_everything(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_everything(&name).await?;
    app.note(&caller, client, "credentials.ended", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// All groups.
pub async fn groups(State(app): State<App>) -> Result<Response, ApiError> {
    Ok(Json(json!({ "groups": app.accounts.groups().await? })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    members: Vec<String>,
}

/// Creates a group, or sets its members.
pub async fn set_group(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(members): Body<Members>,
) -> Result<StatusCode, ApiError> {
    let detail = members.members.join(", ");
    app.accounts.set_group(&name, members.members).await?;
    app.note(&caller, client, "group.set", &name, detail).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a group.
pub async fn remove_group(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.accounts.remove_group(&name).await?;
    app.note(&caller, client, "group.removed", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}
