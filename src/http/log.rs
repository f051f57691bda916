//! `/api/admin/log`: the audit log, paged and as CSV.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, Query};
use super::{App, Client};
use crate::accounts::AccountError;
use crate::accounts::audit::{Filter, MOST, PAGE, to_csv};
use crate::accounts::credentials::Caller;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
    before: Option<i64>,
}

impl Wanted {
    fn filter(self) -> Filter {
        let text =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Filter {
            actor: text(self.actor),
            action: text(self.action),
            target: text(self.target),
            from: self.from,
            to: self.to,
            before: self.before,
        }
    }
}

/// A page of the log, newest first; `before` of the next page is the id of the last entry.
pub async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Result<Response, ApiError> {
    let entries = app.accounts.log(wanted.filter(), PAGE).await?;
    Ok(Json(json!({ "entries": entries, "page": PAGE })).into_response())
}

/// The same as a CSV file.
pub async fn csv(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let entries = app.accounts.log(wanted.filter(), MOST).await?;
    let text = to_csv(&entries).map_err(|error| AccountError::Internal(error.to_string()))?;
    app.note(&caller, client, "log.exported", "", format!("{} entries", entries.len())).await;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"gatehouse-log.csv\"")),
    ];
    Ok((headers, text).into_response())
}
