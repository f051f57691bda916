//! `POST /api/login` and `POST /api/logout`.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use serde::Deserialize;
use tracing::warn;

use super::account::Me;
use super::base_path::Base;
use super::error::{ApiError, Body};
use super::guard::cookie_name;
use super::{App, Client};
use crate::accounts::AccountError;
use crate::accounts::credentials::{Caller, Credential};
use crate::secret::Secret;

/// Longest name or password in bytes: 256 characters of UTF-8.
const MAX_TEXT: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    name: String,
    password: Secret,
}

/// Name and password in, a cookie out.
pub async fn log_in(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(Base(base)): Extension<Base>,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Response, ApiError> {
    if login.name.len() > MAX_TEXT || login.password.expose().len() > MAX_TEXT {
        return Err(AccountError::WrongPassword.into());
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let made = match app.accounts.log_in(&login.name, &login.password, client.ip(), agent).await {
        Ok(made) => made,
        // Refused before a password was compared: not in the audit log, so that strangers cannot fill the disk.
        Err(error @ AccountError::TooManyAttempts(_)) => {
            warn!(address = %client.ip(), code = error.code(), "login failed");
            return Err(error.into());
        }
        Err(error @ AccountError::WrongPassword) => {
            // The form of this line is documented, for programs that block addresses: see docs/operations.md.
            warn!(address = %client.ip(), code = error.code(), "login failed");
            // People sometimes type a password into the name field: log only what could be a name.
            let name = if crate::ids::is_name(&login.name) { login.name.as_str() } else { "" };
            app.note(&Caller::Nobody, client, "login.failed", name, error.code().to_owned()).await;
            return Err(error.into());
        }
        // The password was not compared, or it was right and something else failed.
        Err(error) => return Err(error.into()),
    };
    app.note(&made.caller, client, "login", &made.caller.actor(), String::new()).await;
    let cookie = Cookie::build((cookie_name(&app, client, &base), made.token.expose().to_owned()))
        .path(base.join("/"))
        .http_only(true)
        .secure(client.secure)
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::days(400));
    let mut response = Json(Me::of(&app, &made.caller)).into_response();
    set_cookie(&mut response, &cookie.build())?;
    Ok(response)
}

/// Ends the login with all of its sessions.
pub async fn log_out(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(Base(base)): Extension<Base>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    if let (Some(Credential::Login(id)), Some(identity)) = (caller.credential(), caller.identity()) {
        app.accounts.end_login(&identity.person.name, id).await?;
        app.note(&caller, client, "logout", &caller.actor(), String::new()).await;
    }
    let mut cookie = Cookie::build((cookie_name(&app, client, &base), ""))
        .path(base.join("/"))
        .http_only(true)
        .secure(client.secure)
        .build();
    cookie.make_removal();
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &cookie)?;
    Ok(response)
}

fn set_cookie(response: &mut Response, cookie: &Cookie<'_>) -> Result<(), ApiError> {
    let value = HeaderValue::from_str(&cookie.to_string());
    let value = value.map_err(|_| AccountError::Internal("cannot create a cookie".into()))?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(())
}
