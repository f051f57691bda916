//! `/embed/camera/{id}`: a page with one camera tile, for iframes on other sites. Its script takes the ticket from the
//! URL fragment; whether the camera may be watched is decided by the WHEP request.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};

use super::assets;
use super::error::ApiError;
use crate::ids::is_name;

/// The page, which is the same for all cameras, whether or not they exist.
pub async fn page(Path(id): Path<String>, headers: axum::http::HeaderMap) -> Response {
    if !is_name(&id) {
        return ApiError::not_found("camera").into_response();
    }
    assets::file("embed.html", &headers)
}
