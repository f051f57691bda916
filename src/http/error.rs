//! Errors as clients receive them: a status, a stable code, and a message for people who read logs. Also the
//! extractors for bodies and queries, so that their errors have the same form. Start at [`ApiError`].

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::error;

use crate::accounts::AccountError;

/// An error response.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<u32>,
}

impl ApiError {
    /// With a code that clients may rely on: it never changes.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// Adds a `Retry-After` header.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response for callers that must authenticate first.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// There is no such camera, stream or session.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
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
            AccountError::Disk(_) => StatusCode::INSUFFICIENT_STORAGE,
            AccountError::Internal(_) => {
                // Paths and SQL belong only in the log.
                error!("{account}");
                let text = "internal error; see the server's log";
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

/// The response to a method that a route does not have. The router adds `Allow`.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this route does not have this method: see Allow")
}

fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
}

/// RFC 9110 §15.5.16: bodies are not decompressed.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    let text = "the body must not have a Content-Encoding";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", text))
}

/// A body as it is.
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_encoding(request.headers())?;
        Bytes::from_request(request, state).await.map(Self).map_err(|_| too_large())
    }
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_encoding(request.headers())?;
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                let text = "the Content-Type must be application/json";
                Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text))
            }
            Err(JsonRejection::BytesRejection(_)) => Err(too_large()),
            // The library's message would quote the body, which may contain a password.
            Err(_) => {
                let text = "the body is not the JSON that this route expects";
                Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "body", text))
            }
        }
    }
}

/// The path's parameters.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        // A percent-encoded name that is not UTF-8 names nothing.
        read.map(|axum::extract::Path(value)| Self(value))
            .map_err(|_: PathRejection| ApiError::not_found("page"))
    }
}

/// The query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|_: QueryRejection| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "query", "the query string is invalid")
        })
    }
}
