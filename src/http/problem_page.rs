//! Refusals of a whole page, such as behind a proxy that is set up wrong: a page with the problem in the user's language
//! instead of JSON. It needs no other file, since requests for those would be refused, too. Start at [`respond`].

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::assets;
use super::error::ApiError;

const PAGE: &str = include_str!("problem_page.html");

/// Codes that a page explains.
const EXPLAINED: [&str; 6] =
    ["wrong_host", "proxy_untrusted", "proxy_plain", "too_many_requests", "internal", "timeout"];

/// What the client of a request understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A page, in this language.
    Page(&'static str),
    /// JSON.
    Json,
}

impl Wanted {
    /// Browsers that open a page accept HTML by name; scripts and other programs do not.
    pub fn by(request: &Request) -> Self {
        let accept = request.headers().get(header::ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
        let html = String::from_utf8_lossy(accept).contains("text/html");
        if html && matches!(*request.method(), Method::GET | Method::HEAD) {
            Self::Page(language(request.headers()))
        } else {
            Self::Json
        }
    }
}

/// The first of our languages that the browser prefers. They are sent in order of preference.
fn language(headers: &HeaderMap) -> &'static str {
    let accepted =
        headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known =
        accepted.split(',').find_map(|tag| match tag.trim().get(..2)?.to_ascii_lowercase().as_str() {
            "zh" => Some("zh"),
            "en" => Some("en"),
            _ => None,
        });
    known.unwrap_or("en")
}

/// The response to a refused request.
pub fn respond(wanted: Wanted, error: ApiError) -> Response {
    let (code, status) = (error.code(), error.status());
    let Wanted::Page(language) = wanted else { return error.into_response() };
    let sentence = |key: &str| assets::sentence(language, key);
    let text = sentence(&format!("error.{code}")).filter(|_| EXPLAINED.contains(&code));
    let (Some(text), Some(title)) = (text, sentence("problem.title")) else { return error.into_response() };
    let lang = if language == "zh" { "zh-CN" } else { "en" };
    let mut page = PAGE.to_owned();
    for (name, value) in [("{lang}", lang), ("{title}", &title), ("{text}", &text), ("{code}", code)] {
        page = page.replace(name, &value.replace('&', "&amp;").replace('<', "&lt;"));
    }
    let mut response = error.into_response();
    *response.body_mut() = page.into();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; frame-ancestors 'none'",
        style_digest()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn style_digest() -> String {
    let style = PAGE.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
    STANDARD.encode(digest(&SHA256, style.unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn languages() {
        let table = [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de-DE,de,en", "en"), ("fr", "en"), ("", "en")];
        for (accepted, expected) in table {
            let headers = [(header::ACCEPT_LANGUAGE, accepted.parse().unwrap())].into_iter().collect();
            assert_eq!(language(&headers), expected, "{accepted}");
        }
    }

    #[test]
    fn every_explained_code_has_a_text_in_both_languages() {
        for code in EXPLAINED {
            for language in ["en", "zh"] {
                let error = ApiError::new(StatusCode::FORBIDDEN, code, "");
                let response = respond(Wanted::Page(language), error);
                assert_eq!(
                    response.headers()[header::CONTENT_TYPE],
                    "text/html; charset=utf-8",
                    "{code} {language}"
                );
            }
        }
    }
}
