//! The old pages: the files of a folder, at the root of a site. Nothing outside of the folder is reachable, by `..` or by
//! a link, and no hidden file. Start at [`serve`].

use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

use crate::secret::percent_decode;

/// Answers a request for `path`, which is the request's path without the site's secret.
pub async fn serve(folder: &Path, path: &str, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(file) = inside(folder, path).await else { return StatusCode::NOT_FOUND.into_response() };
    if file.is_dir() && !path.ends_with('/') {
        let target = format!("{}/", request.uri().path());
        return match HeaderValue::from_str(&target) {
            // Two slashes at the beginning would be another host.
            Ok(target) if !target.as_bytes().starts_with(b"//") => {
                (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, target)]).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        };
    }
    let (mut parts, _) = request.into_parts();
    match Uri::try_from(path) {
        Ok(uri) => parts.uri = uri,
        Err(_) => return StatusCode::NOT_FOUND.into_response(),
    }
    let request = Request::from_parts(parts, Body::empty());
    match ServeDir::new(folder).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// The file or folder that a path means, if it is inside.
async fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let decoded = percent_decode(path.trim_start_matches('/'));
    let relative = Path::new(&decoded);
    let is_plain = |component: Component<'_>| match component {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    };
    if decoded.contains(['\0', '\\']) || !relative.components().all(is_plain) {
        return None;
    }
    let root = tokio::fs::canonicalize(folder).await.ok()?;
    let file = tokio::fs::canonicalize(root.join(relative)).await.ok()?;
    file.starts_with(&root).then_some(file)
}
