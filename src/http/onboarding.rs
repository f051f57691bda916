//! Installing the local certificate authority on other machines: the download of its certificate, and the page that
//! explains how, which is all that is served to them without TLS.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::error::ApiError;
use super::{App, assets};
use crate::tls::Authority;

/// The files that the page needs.
const FILES: [&str; 14] = [
    "favicon.svg",
    "css/tokens.css",
    "css/bar.css",
    "css/page.css",
    "js/loading.js",
    "js/theme.js",
    "js/i18n.js",
    "js/settings.js",
    "js/icons.js",
    "js/bar.js",
    "js/base.js",
    "js/onboarding-page.js",
    "i18n/en.json",
    "i18n/zh.json",
];

fn authority(app: &App) -> Result<Arc<Authority>, ApiError> {
    app.tls.authority().ok_or_else(|| ApiError::not_found("certificate authority"))
}

/// Without TLS: the page, its files, and the downloads. `None` for everything else.
pub fn plain(app: &App, request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = assets::file_path(request.uri().path().trim_start_matches('/'));
    let file = match path {
        "" => "onboarding.html",
        path if FILES.contains(&path) || path.starts_with("vendor/lit-html/") => path,
        "ca.crt" => return Some(download(app, pem).unwrap_or_else(IntoResponse::into_response)),
        "ca.mobileconfig" => {
            return Some(download(app, mobileconfig).unwrap_or_else(IntoResponse::into_response));
        }
        "api/onboarding" => return Some(facts_of(app).unwrap_or_else(IntoResponse::into_response)),
        _ => return None,
    };
    Some(app.assets.file(file, request.headers()))
}

/// `/ca.crt`, for everything except Apple devices.
pub async fn certificate(State(app): State<App>) -> Result<Response, ApiError> {
    download(&app, pem)
}

/// `/ca.mobileconfig`, for iPhones, iPads and Macs.
pub async fn profile(State(app): State<App>) -> Result<Response, ApiError> {
    download(&app, mobileconfig)
}

/// The data for the page: the fingerprint.
pub async fn facts(State(app): State<App>) -> Result<Response, ApiError> {
    facts_of(&app)
}

fn facts_of(app: &App) -> Result<Response, ApiError> {
    let (fingerprint, valid) = (&authority(app)?.fingerprint, app.tls.authority_problem().is_none());
    Ok(Json(json!({ "fingerprint": fingerprint, "valid": valid })).into_response())
}

fn download(app: &App, make: fn(&Authority) -> (HeaderMap, String)) -> Result<Response, ApiError> {
    let (headers, text) = make(&*authority(app)?);
    app.tls.authority_is_given();
    Ok((headers, text).into_response())
}

fn headers(kind: &'static str, disposition: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
    headers
}

fn pem(authority: &Authority) -> (HeaderMap, String) {
    let headers = headers("application/x-x509-ca-cert", "attachment; filename=\"gatehouse-ca.crt\"");
    (headers, authority.cert.clone())
}

/// Apple's "configuration profile", containing one root certificate.
fn mobileconfig(authority: &Authority) -> (HeaderMap, String) {
    let body: String = authority.cert.lines().filter(|line| !line.starts_with("-----")).collect();
    // Decoded and encoded again, so that nothing but base64 can get into the XML.
    let data = STANDARD.encode(STANDARD.decode(body).unwrap_or_default());
    let id = uuid(&authority.fingerprint, 0);
    let inner = uuid(&authority.fingerprint, 8);
    let text = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>PayloadContent</key><array><dict>
<key>PayloadType</key><string>com.apple.security.root</string>
<key>PayloadIdentifier</key><string>gatehouse.ca.{inner}</string>
<key>PayloadUUID</key><string>{inner}</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadDisplayName</key><string>Gatehouse CA</string>
<key>PayloadContent</key><data>{data}</data>
</dict></array>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadIdentifier</key><string>gatehouse.{id}</string>
<key>PayloadUUID</key><string>{id}</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadDisplayName</key><string>Gatehouse</string>
</dict></plist>
"#
    );
    (headers("application/x-apple-aspen-config", "attachment; filename=\"gatehouse.mobileconfig\""), text)
}

/// Always the same for the same authority, so that installing it again replaces it. RFC 9562 §5.8, version 8.
fn uuid(fingerprint: &str, from: usize) -> String {
    let bytes = fingerprint.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok());
    let mut text = String::new();
    for (place, byte) in bytes.skip(from).take(16).enumerate() {
        let byte = match place {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
        let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form() {
        let fingerprint = ["AB"; 32].join(":");
        assert_eq!(uuid(&fingerprint, 0), "ABABABAB-ABAB-8BAB-ABAB-ABABABABABAB");
        assert_eq!(uuid("", 0), "");
    }
}
