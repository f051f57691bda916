//! `GET /ready` for monitoring, and `GET /api/admin/health` for the pages. `GET /health` only says that the process
//! answers.

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use crate::health::Severity;

/// `GET /ready`: 503 if the server cannot do all of its work. Everybody may ask: there are only codes in it.
pub async fn ready(State(app): State<App>) -> Response {
    let problems = app.health.problems();
    let errors: Vec<&str> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.code)
        .collect();
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": errors.is_empty(), "problems": errors }))).into_response()
}

/// `GET /api/admin/health`: all problems.
pub async fn problems(State(app): State<App>) -> Response {
    let problems = app.health.problems().into_iter().map(|problem| {
        let since = problem.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "code": problem.code,
            "detail": problem.detail,
            "error": problem.severity == Severity::Error,
            "since": since.as_millis() as u64,
        })
    });
    Json(json!({ "problems": problems.collect::<Vec<_>>() })).into_response()
}
