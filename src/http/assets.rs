//! The pages and their scripts, embedded in the binary.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::error::ApiError;

#[derive(RustEmbed)]
#[folder = "web/"]
struct Web;

/// Paths of the pages and their files.
const PAGES: [(&str, &str); 6] = [
    ("", "index.html"),
    ("login", "login.html"),
    ("account", "account.html"),
    ("people", "people.html"),
    ("admin", "admin.html"),
    ("trust", "onboarding.html"),
];

/// Serves a file of `web/`; `/` is the camera wall.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "only GET is allowed here")
            .into_response();
    }
    let path = uri.path().trim_start_matches('/');
    file(PAGES.iter().find(|(name, _)| *name == path).map_or(path, |(_, file)| file), &headers)
}

/// A file of `web/`.
pub fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Web::get(path) else { return ApiError::not_found("page").into_response() };
    let digest = file.metadata.sha256_hash();
    let tag: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type(path))], file.data).into_response()
    };
    // Revalidated on each load, which is cheap: a new version takes effect with the next page load.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "text/plain; charset=utf-8",
    }
}
