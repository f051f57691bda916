//! `/embed/camera/{id}`: a page with one camera tile, for iframes on other sites. Its script takes the ticket from the
//! URL fragment; whether the camera may be watched is decided by the WHEP request.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::{ApiError, Path};
use crate::ids::is_name;

/// The page, which is the same for all cameras, whether or not they exist.
pub async fn page(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !is_name(&id) {
        return ApiError::not_found("camera").into_response();
    }
    app.assets.file("embed.html", &headers)
}
