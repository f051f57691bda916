//! `/api/me`: the caller's own account. Except for [`show`] it requires a login cookie: a token cannot create tokens.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::{ApiError, Body, Path};
use super::{App, Client};
use crate::accounts::credentials::{Caller, Credential, Identity};
use crate::accounts::permissions::{Action, Role, Scopes};
use crate::accounts::preferences::Preferences;
use crate::secret::Secret;

/// The longest lifetime of a token that expires, in days.
const MAX_DAYS: u32 = 3650;

/// What the pages need to know about the logged-in user.
#[derive(Serialize)]
pub struct Me {
    name: String,
    display: String,
    role: Role,
    groups: Vec<String>,
    language: String,
    must_change: bool,
    may: May,
}

/// Which parts of the pages to show.
#[derive(Serialize)]
struct May {
    administer: bool,
    rooms: bool,
}

impl Me {
    /// For this caller; `None` without an account.
    pub fn of(app: &App, caller: &Caller) -> Option<Self> {
        let identity = caller.identity()?;
        let may = |action: Action<'_>| app.accounts.may(caller, action);
        Some(Self {
            name: identity.person.name.clone(),
            display: identity.display.clone(),
            role: identity.person.role,
            groups: identity.person.groups.clone(),
            language: identity.language.clone(),
            must_change: identity.must_change,
            may: May { administer: may(Action::Administer), rooms: may(Action::MakeRoom) },
        })
    }
}

fn me(caller: &Caller) -> Result<&Identity, ApiError> {
    caller.identity().ok_or_else(|| ApiError::unauthorized("log in first"))
}

/// The caller's account, or null.
pub async fn show(State(app): State<App>, Extension(caller): Extension<Caller>) -> Json<Option<Me>> {
    Json(Me::of(&app, &caller))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    language: String,
    display: String,
}

/// Sets language and display name.
pub async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(profile): Body<Profile>,
) -> Result<StatusCode, ApiError> {
    app.accounts.set_profile(&me(&caller)?.person.name, &profile.language, &profile.display).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who may watch the caller, and whose calls are accepted automatically.
pub async fn preferences(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Preferences>, ApiError> {
    Ok(Json(app.accounts.preferences(&me(&caller)?.person.name).await?))
}

/// Sets the preferences.
pub async fn set_preferences(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(preferences): Body<Preferences>,
) -> Result<StatusCode, ApiError> {
    app.accounts.set_preferences(&me(&caller)?.person.name, preferences).await?;
    app.note(&caller, client, "preferences", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    current: Secret,
    new: Secret,
}

/// Sets a new password, which ends all other logins.
pub async fn change_password(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(passwords): Body<Passwords>,
) -> Result<StatusCode, ApiError> {
    app.accounts.change_own_password(&caller, &passwords.current, &passwords.new, client.ip()).await?;
    app.note(&caller, client, "password", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's logins; `current` is the one that made the request.
pub async fn logins(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let identity = me(&caller)?;
    let logins = app.accounts.logins(&identity.person.name).await?;
    let current = match identity.credential {
        Credential::Login(id) => Some(id),
        _ => None,
    };
    Ok(Json(json!({ "logins": logins, "current": current })).into_response())
}

/// Ends one login.
pub async fn end_login(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_login(&me(&caller)?.person.name, id).await?;
    app.note(&caller, client, "login.ended", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all logins except this one.
pub async fn end_other_logins(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, ApiError> {
    let identity = me(&caller)?;
    for login in app.accounts.logins(&identity.person.name).await? {
        if Credential::Login(login.id) != identity.credential {
            app.accounts.end_login(&identity.person.name, login.id).await?;
        }
    }
    app.note(&caller, client, "login.ended", &caller.actor(), "all others".into()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all logins, this one included, all tokens and all tickets.
pub async fn end_everything(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_everything(&me(&caller)?.person.name).await?;
    app.note(&caller, client, "credentials.ended", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The tickets that the caller has made.
pub async fn tickets(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let tickets = app.accounts.tickets(&me(&caller)?.person.name).await?;
    Ok(Json(json!({ "tickets": tickets })).into_response())
}

/// Revokes a ticket.
pub async fn end_ticket(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_ticket(&me(&caller)?.person.name, id).await?;
    app.note(&caller, client, "ticket.ended", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's tokens.
pub async fn tokens(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let tokens = app.accounts.tokens(&me(&caller)?.person.name).await?;
    Ok(Json(json!({ "tokens": tokens })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    name: String,
    scopes: Scopes,
    /// None for a token that does not expire.
    days: Option<u32>,
}

/// Creates a token; only this response contains it.
pub async fn make_token(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewToken>,
) -> Result<Response, ApiError> {
    let life = new.days.map(|days| Duration::from_secs(u64::from(days.clamp(1, MAX_DAYS)) * 86_400));
    let token = app.accounts.add_token(&me(&caller)?.person.name, &new.name, new.scopes, life).await?;
    app.note(&caller, client, "token.made", &caller.actor(), new.name).await;
    Ok((StatusCode::CREATED, Json(json!({ "token": token.expose() }))).into_response())
}

/// Revokes a token.
pub async fn end_token(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    app.accounts.end_token(&me(&caller)?.person.name, id).await?;
    app.note(&caller, client, "token.ended", &caller.actor(), String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}
