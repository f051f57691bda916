//! Serving under a sub-path: removes it from a request's path before the request is routed, and remembers it for
//! whatever tells the browser a path (redirects, cookies, the address of a session). Pages need none of it: they refer
//! to everything by relative addresses. Start at [`SubPaths::enter`].

use std::collections::HashSet;

use axum::extract::Request;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::proxies::is_forwarded;
use super::routes;
use crate::config::BasePath;

/// A trusted proxy names the sub-path that it has removed.
const PREFIX: &str = "x-forwarded-prefix";

/// The sub-path of a request, in its extensions.
#[derive(Clone, Debug, Default)]
pub struct Base(pub BasePath);

/// Marks a request for the sub-path itself without its last slash: relative addresses do not work there.
#[derive(Clone, Copy, Debug)]
struct NeedsSlash;

/// The sub-paths of a server.
pub struct SubPaths {
    configured: BasePath,
    /// How our own paths begin.
    own: HashSet<String>,
}

impl SubPaths {
    /// With the configured one.
    pub fn new(configured: BasePath) -> Self {
        Self { configured, own: routes::first_segments() }
    }

    /// Finds a request's sub-path and removes it from its path. Only trusted proxies may name another than the
    /// configured.
    pub fn enter<B>(&self, request: &mut axum::http::Request<B>, trusted: bool) {
        let named = if trusted { named(request.headers()) } else { None };
        let path = request.uri().path();
        // Most proxies remove what they name, some do not. Where it could be a path of ours, it has been removed.
        let base = named.as_ref().unwrap_or(&self.configured);
        let could_be_ours = named.is_some() && self.own.contains(base.first_segment());
        let rest = if could_be_ours { None } else { base.strip(path) };
        let found = match (rest, &named) {
            (Some(_), _) | (None, Some(_)) => base.clone(),
            (None, None) if trusted && is_forwarded(request.headers()) => self.configured.clone(),
            (None, None) => BasePath::default(),
        };
        if let Some(rest) = rest {
            let rest = rest.to_owned();
            if rest.is_empty() {
                request.extensions_mut().insert(NeedsSlash);
            }
            replace_path(request.uri_mut(), if rest.is_empty() { "/" } else { &rest });
        }
        request.extensions_mut().insert(Base(found));
    }
}

fn named(headers: &HeaderMap) -> Option<BasePath> {
    headers.get(PREFIX).and_then(|value| BasePath::parse(value.to_str().ok()?.trim()))
}

fn replace_path(uri: &mut Uri, path: &str) {
    let text = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    let Ok(replaced) = PathAndQuery::try_from(text) else { return };
    parts.path_and_query = Some(replaced);
    if let Ok(replaced) = Uri::from_parts(parts) {
        *uri = replaced;
    }
}

/// The sub-path of a request.
pub fn of(request: &Request) -> BasePath {
    request.extensions().get::<Base>().map(|base| base.0.clone()).unwrap_or_default()
}

/// The redirect from the sub-path without its last slash.
pub fn redirect(request: &Request) -> Option<Response> {
    request.extensions().get::<NeedsSlash>()?;
    let target = HeaderValue::from_str(&of(request).join("/")).ok()?;
    Some((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, target)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_are_found_and_removed() {
        let sub_paths = SubPaths::new(BasePath::parse("/cams").unwrap());
        // Path, X-Forwarded-Prefix, whether the peer is a trusted proxy; the path and the sub-path afterwards.
        let table = [
            ("/cams/api/me?x=1", None, false, "/api/me?x=1", "/cams"),
            ("/cams", None, false, "/", "/cams"),
            ("/api/me", None, false, "/api/me", ""),
            ("/api/me", None, true, "/api/me", "/cams"),
            ("/api/me", Some("/other/"), true, "/api/me", "/other"),
            ("/other/api/me", Some("/other/"), true, "/api/me", "/other"),
            ("/api/me", Some("/api"), true, "/api/me", "/api"),
            ("/api/me", Some("/other/"), false, "/api/me", ""),
            ("/api/me", Some("//evil.example"), true, "/api/me", "/cams"),
        ];
        for (path, prefix, trusted, expected, base) in table {
            let mut request = Request::builder().uri(path).header("x-forwarded-for", "192.0.2.1");
            if let Some(prefix) = prefix {
                request = request.header(PREFIX, prefix);
            }
            let mut request = request.body(axum::body::Body::empty()).unwrap();
            sub_paths.enter(&mut request, trusted);
            let found = request.uri().path_and_query().unwrap().as_str();
            assert_eq!(
                (found, of(&request).join("").as_str()),
                (expected, base),
                "{path} {prefix:?} {trusted}"
            );
        }
    }

    #[test]
    fn without_its_last_slash_it_redirects() {
        let sub_paths = SubPaths::new(BasePath::parse("/cams").unwrap());
        let mut request = Request::builder().uri("/cams").body(axum::body::Body::empty()).unwrap();
        sub_paths.enter(&mut request, false);
        assert_eq!(redirect(&request).unwrap().headers()[header::LOCATION], "/cams/");
    }
}
