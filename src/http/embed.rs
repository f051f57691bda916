//! `/embed/camera/{id}`: a page with one tile, for the frames of other pages. Its script takes the ticket from the
//! address; who may watch is decided where the picture is asked for.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};

use super::assets;
use super::error::ApiError;
use crate::ids::is_name;

/// The page: the same for all cameras, whether they exist or not.
pub async fn page(Path(id): Path<String>, headers: axum::http::HeaderMap) -> Response {
    if !is_name(&id) {
        return ApiError::not_found("camera").into_response();
    }
    assets::file("embed.html", &headers)
}
