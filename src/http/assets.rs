//! The pages and their scripts, embedded in the binary. Pages load everything else from `/v/{version}/…`, which browsers
//! keep; the version changes whenever any file changes. Start at [`Assets::file`].

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{Context, SHA256, digest};
use rust_embed::RustEmbed;

use super::App;
use super::error::{ApiError, method_not_allowed};

#[derive(RustEmbed)]
#[folder = "web/"]
struct Web;

/// Paths of the pages and their files.
const PAGES: [(&str, &str); 6] = [
    ("", "index.html"),
    ("login", "login.html"),
    ("account", "account.html"),
    ("people", "people.html"),
    ("admin", "admin.html"),
    ("trust", "onboarding.html"),
];

/// Modules that pages of other origins may import: the players, and what they import.
const FOR_OTHER_SITES: [&str; 6] = [
    "js/whep-player.js",
    "js/whip-publisher.js",
    "js/backoff.js",
    "js/frames.js",
    "js/network.js",
    "js/session-url.js",
];

/// Folders that pages load from `/v/{version}/`.
const VERSIONED: [&str; 3] = ["js/", "css/", "vendor/"];

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Assets {
    version: Arc<str>,
}

impl Assets {
    /// Computes the version.
    pub fn new() -> Self {
        let mut context = Context::new(&SHA256);
        for path in Web::iter() {
            context.update(path.as_bytes());
            context.update(&Web::get(&path).map(|file| file.metadata.sha256_hash()).unwrap_or_default());
        }
        Self { version: short(context.finish().as_ref()).into() }
    }

    /// A file of `web/`, or of `v/{version}/`. A page that was loaded before an update asks for an old version: it
    /// receives the current file, and does not keep it.
    pub fn file(&self, path: &str, headers: &HeaderMap) -> Response {
        let (version, path) = split_version(path);
        let Some(file) = Web::get(path) else { return ApiError::not_found("page").into_response() };
        let is_page = path.ends_with(".html");
        let (data, tag) = if is_page {
            let page = self.with_versions(&file.data, up(path));
            let tag = short(digest(&SHA256, page.as_bytes()).as_ref());
            (Cow::Owned(page.into_bytes()), tag)
        } else {
            (file.data, short(&file.metadata.sha256_hash()))
        };
        // Weak, since the response may be compressed.
        let tag = format!("W/\"{tag}\"");
        let is_known =
            headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, content_type(path))], data).into_response()
        };
        let is_current = !is_page && version == Some(&*self.version);
        let caching = if is_current { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        if FOR_OTHER_SITES.contains(&path) {
            let policy = HeaderName::from_static("cross-origin-resource-policy");
            headers.insert(policy, HeaderValue::from_static("cross-origin"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        response
    }

    /// A page whose files are loaded from the versioned path. Pages are written for the root and served with relative
    /// addresses, so that they also work below a proxy's sub-path; `up` leads to the root. Modules import others by
    /// relative path.
    fn with_versions(&self, page: &[u8], up: &str) -> String {
        let page = String::from_utf8_lossy(page).into_owned();
        let page = VERSIONED.iter().fold(page, |page, folder| {
            page.replace(&format!("\"/{folder}"), &format!("\"{up}v/{}/{folder}", self.version))
        });
        page.replace("href=\"/", &format!("href=\"{up}"))
    }
}

/// Splits `v/{version}/js/…` into the version and the file's path.
fn split_version(path: &str) -> (Option<&str>, &str) {
    match path.strip_prefix("v/").and_then(|rest| rest.split_once('/')) {
        Some((version, path)) => (Some(version), path),
        None => (None, path),
    }
}

/// How the paths of the pages and their files begin.
pub fn first_segments() -> impl Iterator<Item = String> {
    let files = Web::iter().filter_map(|path| path.split('/').next().map(str::to_owned));
    let pages = PAGES.iter().map(|(name, _)| (*name).to_owned());
    files.chain(pages).chain(["v".to_owned()]).filter(|segment| !segment.is_empty())
}

/// A text of the pages.
pub fn sentence(language: &str, key: &str) -> Option<String> {
    let file = Web::get(&format!("i18n/{language}.json"))?;
    let sentences: serde_json::Value = serde_json::from_slice(&file.data).ok()?;
    sentences.get(key)?.as_str().map(str::to_owned)
}

/// The path of the file within `web/`, without a version.
pub fn file_path(path: &str) -> &str {
    split_version(path).1
}

/// The way from a page to the root.
fn up(page: &str) -> &'static str {
    // Served as `/embed/camera/{id}`.
    if page == "embed.html" { "../../" } else { "" }
}

fn short(digest: &[u8]) -> String {
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Serves a file of `web/`; `/` is the camera wall.
pub async fn serve(app: &App, request: &Parts) -> Response {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return ([(header::ALLOW, "GET, HEAD")], method_not_allowed().await).into_response();
    }
    let path = request.uri.path().trim_start_matches('/');
    let path = PAGES.iter().find(|(name, _)| *name == path).map_or(path, |(_, file)| file);
    app.assets.file(path, &request.headers)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that a module imports, resolved within `web/`.
    fn imports(path: &str) -> Vec<String> {
        let text = String::from_utf8(Web::get(path).unwrap().data.into_owned()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from "));
        let names = lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned);
        let base = url::Url::parse("http://host/").unwrap().join(path).unwrap();
        names.map(|name| base.join(&name).unwrap().path().trim_start_matches('/').to_owned()).collect()
    }

    #[test]
    fn what_modules_for_other_sites_import_is_for_other_sites() {
        for path in FOR_OTHER_SITES {
            for import in imports(path) {
                assert!(FOR_OTHER_SITES.contains(&import.as_str()), "{path} imports {import}");
            }
        }
        assert!(!imports("js/whep-player.js").is_empty());
    }

    #[test]
    fn only_the_current_version_is_kept() {
        let assets = Assets::new();
        let caching = |path: &str| {
            let response = assets.file(path, &HeaderMap::new());
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        assert_eq!(caching("js/bar.js"), "no-cache");
        assert_eq!(caching("v/0123456789/js/bar.js"), "no-cache");
        assert_eq!(caching("index.html"), "no-cache");
        assert_eq!(caching(&format!("v/{}/index.html", assets.version)), "no-cache");
        assert!(caching(&format!("v/{}/js/bar.js", assets.version)).ends_with("immutable"));
    }

    #[test]
    fn pages_load_everything_from_the_versioned_path() {
        let assets = Assets::new();
        for (_, file) in PAGES {
            let page = assets.with_versions(&Web::get(file).unwrap().data, up(file));
            assert!(page.contains(&format!("src=\"v/{}/js/", assets.version)), "{file}");
            assert!(!page.contains("=\"/"), "{file}");
        }
    }
}
