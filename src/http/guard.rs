//! Authentication and route access: turns cookies and tokens into a [`Caller`], and rejects callers that may not use
//! the route before its handler runs. What a caller may do with one camera or person is decided by the handler,
//! with [`crate::accounts::permissions`]. Start at [`guard`].

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use cookie::Cookie;

use super::access::Access;
use super::error::ApiError;
use super::origin::{Origin, origin};
use super::proxies::{Mistake, shown};
use super::{App, Client, Connection, base_path};
use crate::accounts::credentials::{Caller, Credential};
use crate::accounts::permissions::Action;
use crate::config::BasePath;

/// Wraps a route with the access check.
pub fn guard(handler: MethodRouter<App>, access: Access, app: &App) -> MethodRouter<App> {
    handler.layer(middleware::from_fn_with_state((app.clone(), access), check))
}

async fn check(State((app, access)): State<(App, Access)>, mut request: Request, next: Next) -> Response {
    let result = admit(&app, access, &mut request).await;
    match result {
        Ok(()) => next.run(request).await,
        // Preflight requests carry no credentials and reveal nothing: the handlers of cross-origin routes answer them.
        Err(_) if request.method() == Method::OPTIONS && access == Access::Handler => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn admit(app: &App, access: Access, request: &mut Request) -> Result<(), ApiError> {
    let client = *request.extensions().get::<Client>().ok_or_else(unknown_client)?;
    let proof = proof(app, client, &base_path::of(request), request.headers());
    check_origin(request, client, proof.as_ref(), access).map_err(|error| told(app, request, error))?;
    let caller = match &proof {
        // Open routes ignore the caller, so an invalid cookie must not be rejected there.
        _ if access == Access::Open => Caller::Nobody,
        None => Caller::Nobody,
        Some(proof) => match (app.accounts.identify(proof.token()).await?, proof) {
            (Some(caller), _) => caller,
            // An expired cookie counts as none; a program is told that its token is not valid.
            (None, Proof::Cookie(_)) => Caller::Nobody,
            (None, Proof::Bearer(_)) => {
                return Err(ApiError::unauthorized("the token is invalid or has expired"));
            }
        },
    };
    permit(app, access, &caller)?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// A refusal because of `Origin`, unless it is a proxy that makes our own page look like another site's.
fn told(app: &App, request: &Request, error: ApiError) -> ApiError {
    let headers = request.headers();
    let connection = request.extensions().get::<Connection>().copied();
    let Some(connection) = connection.filter(|connection| app.proxies.has_changed_host(*connection, headers))
    else {
        return error;
    };
    let seen = format!("{}, {}", shown(headers, "host"), shown(headers, "origin"));
    app.proxies.report(Mistake::Host, connection.peer.ip(), &seen);
    let text = "a proxy has changed the Host header; see the server's log";
    ApiError::new(StatusCode::FORBIDDEN, Mistake::Host.code(), text)
}

fn unknown_client() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the client's address is unknown")
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

fn permit(app: &App, access: Access, caller: &Caller) -> Result<(), ApiError> {
    if matches!(access, Access::Open | Access::Anyone) {
        return Ok(());
    }
    if access == Access::Handler {
        if caller.identity().is_some_and(|identity| identity.must_change) {
            return Err(must_change());
        }
        return Ok(());
    }
    let Some(identity) = caller.identity() else {
        return Err(match caller {
            Caller::Ticket { .. } => forbidden("a ticket is only valid for its camera"),
            _ => ApiError::unauthorized("log in first"),
        });
    };
    let by_login = matches!(identity.credential, Credential::Login(_));
    if matches!(access, Access::Login | Access::SettledLogin | Access::AdminLogin) && !by_login {
        return Err(forbidden("requires a login, tokens are not accepted"));
    }
    if identity.must_change && access != Access::Login {
        return Err(must_change());
    }
    if matches!(access, Access::Admin | Access::AdminLogin) && !app.accounts.may(caller, Action::Administer) {
        return Err(forbidden("only for admins"));
    }
    Ok(())
}

fn must_change() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "password_change_required", "change the password first")
}

enum Proof {
    Bearer(String),
    Cookie(String),
}

impl Proof {
    fn token(&self) -> &str {
        match self {
            Self::Bearer(token) | Self::Cookie(token) => token,
        }
    }
}

/// The credential of a request. A token takes precedence over a cookie.
fn proof(app: &App, client: Client, base: &BasePath, headers: &HeaderMap) -> Option<Proof> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ').unwrap_or_default();
        return Some(Proof::Bearer(
            if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }.to_owned(),
        ));
    }
    let name = cookie_name(app, client, base);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let found = cookies.flat_map(Cookie::split_parse).flatten().find(|cookie| cookie.name() == name);
    found.map(|cookie| Proof::Cookie(cookie.value().to_owned()))
}

/// The cookie's name. Cookies are not separated by port, so the name includes it, for two servers on one host.
/// `__Host-` prevents other hosts of the domain from setting it; browsers require TLS, `Secure` and the path `/` for
/// that (`__Secure-` below a sub-path), and Safari refuses `Secure` on plain `localhost`.
pub fn cookie_name(app: &App, client: Client, base: &BasePath) -> String {
    let prefix = match (client.secure, base.is_root()) {
        (false, _) => "",
        (true, true) => "__Host-",
        (true, false) => "__Secure-",
    };
    format!("{prefix}gatehouse-{}", app.settings.port)
}

fn from_https(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

/// CSRF check: other sites must not act on behalf of a logged-in user. A token is sufficient, and other sites may
/// show public cameras.
fn check_origin(
    request: &Request,
    client: Client,
    proof: Option<&Proof>,
    access: Access,
) -> Result<(), ApiError> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let for_others = access == Access::Handler || request.uri().path().starts_with("/session/");
    let from = origin(request.headers());
    let fine = match proof {
        _ if safe && !upgrade => true,
        Some(Proof::Bearer(_)) => true,
        // If the client uses TLS, our own pages were loaded over TLS too: the plain HTTP origin may be another site.
        Some(Proof::Cookie(_)) if client.secure && !from_https(request.headers()) => {
            for_others && access == Access::Open
        }
        Some(Proof::Cookie(_)) => from == Origin::Own || (for_others && access == Access::Open),
        None => from != Origin::Foreign || for_others,
    };
    if fine {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", "the request comes from another origin"))
}
