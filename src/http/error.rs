//! Errors as clients get them: a status, a stable code, words for people who read logs. And what reads bodies and
//! queries, so that those errors have the same form.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::error;

use crate::accounts::AccountError;

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<u32>,
}

impl ApiError {
    /// With a code that stays the same for ever.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// Trying again after so many seconds may help.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The answer to whoever has to log in first.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// There is no such camera, stream or session.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }
}

impl From<AccountError> for ApiError {
    fn from(account: AccountError) -> Self {
        let (code, message) = (account.code(), account.to_string());
        let status = match &account {
            AccountError::WrongPassword => StatusCode::UNAUTHORIZED,
            AccountError::TooManyAttempts(wait) => {
                let seconds = wait.as_secs() as u32 + 1;
                return Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(seconds);
            }
            AccountError::Busy => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(5);
            }
            AccountError::WeakPassword | AccountError::Invalid(..) | AccountError::PasswordAgain => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            AccountError::Taken(_) | AccountError::LastAdmin | AccountError::TooMany(_) => {
                StatusCode::CONFLICT
            }
            AccountError::NotFound(_) => StatusCode::NOT_FOUND,
            AccountError::Internal(_) => {
                // Paths and SQL are for the log alone.
                error!("{account}");
                let text = "something went wrong; the server's log says what";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, text);
            }
        };
        Self::new(status, code, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gatehouse\""));
        }
        response
    }
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                let text = "the Content-Type must be application/json";
                Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text))
            }
            Err(JsonRejection::BytesRejection(_)) => {
                Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large"))
            }
            // The library's words would repeat what was sent, which may be a password.
            Err(_) => {
                let text = "the body is not the JSON that is wanted here";
                Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "body", text))
            }
        }
    }
}

/// What stands behind the `?`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|_: QueryRejection| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "query", "the query is not what is wanted here")
        })
    }
}
