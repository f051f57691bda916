//! Addresses of tracks: what a camera writes into `Content-Base` and `a=control`, as the request that it expects. Pure.

use url::Url;

/// The base for the addresses in an SDP: `Content-Base`, if something can be made of it, else the address that was asked.
/// Cameras leave it empty, write a path, leave out the scheme or write it twice, and put credentials into it.
pub fn base(asked: &Url, content_base: Option<&str>) -> String {
    let text = content_base.map(str::trim).unwrap_or_default();
    let lower = text.to_ascii_lowercase();
    let last_scheme = lower.rmatch_indices("rtsp://").next().map(|(at, _)| at);
    let found = match last_scheme {
        Some(at) => without_credentials(&text[at..]),
        None if text.is_empty() => None,
        None if text.starts_with('/') => asked.join(text).ok().map(|url| url.to_string()),
        None => without_credentials(&format!("{}://{text}", asked.scheme())),
    };
    found.unwrap_or_else(|| asked.to_string())
}

fn without_credentials(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    url.host_str()?;
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(url.to_string())
}

/// The address of a track or of the session, by its `a=control`. Relative ones are appended, as all clients do, since a
/// base may end with a query.
pub fn control(base: &str, control: Option<&str>) -> String {
    let text = control.map(str::trim).unwrap_or_default();
    if text.is_empty() || text == "*" {
        return base.to_owned();
    }
    if text.to_ascii_lowercase().starts_with("rtsp://") || text.to_ascii_lowercase().starts_with("rtsps://") {
        return without_credentials(text).unwrap_or_else(|| base.to_owned());
    }
    format!("{}/{}", base.strip_suffix('/').unwrap_or(base), text.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        let asked = Url::parse("rtsp://10.0.0.1:554/cam/1").unwrap();
        let table = [
            (None, "rtsp://10.0.0.1:554/cam/1"),
            (Some(""), "rtsp://10.0.0.1:554/cam/1"),
            (Some("rtsp://10.0.0.1/cam/1/"), "rtsp://10.0.0.1/cam/1/"),
            (Some("rtsp://rtsp://10.0.0.1/cam/1/"), "rtsp://10.0.0.1/cam/1/"),
            (Some("10.0.0.1:554/cam/1/"), "rtsp://10.0.0.1:554/cam/1/"),
            (Some("/cam/1/"), "rtsp://10.0.0.1:554/cam/1/"),
            (Some("rtsp://admin:secret@10.0.0.1/cam/1/"), "rtsp://10.0.0.1/cam/1/"),
            (Some("rtsp://"), "rtsp://10.0.0.1:554/cam/1"),
        ];
        for (text, expected) in table {
            assert_eq!(base(&asked, text), expected, "{text:?}");
        }
    }

    #[test]
    fn controls() {
        let table = [
            ("rtsp://h/1/", Some("trackID=1"), "rtsp://h/1/trackID=1"),
            ("rtsp://h/1", Some(" trackID=1 "), "rtsp://h/1/trackID=1"),
            ("rtsp://h/1/", Some("/trackID=1"), "rtsp://h/1/trackID=1"),
            ("rtsp://h/1?channel=1", Some("trackID=1"), "rtsp://h/1?channel=1/trackID=1"),
            ("rtsp://h/1/", Some("*"), "rtsp://h/1/"),
            ("rtsp://h/1/", None, "rtsp://h/1/"),
            (
                "rtsp://h/1/",
                Some("rtsp://192.168.13.2:554/1/trackID=1"),
                "rtsp://192.168.13.2:554/1/trackID=1",
            ),
            ("rtsp://h/1/", Some("rtsp://u:p@h/1/trackID=1"), "rtsp://h/1/trackID=1"),
        ];
        for (base, text, expected) in table {
            assert_eq!(control(base, text), expected, "{text:?}");
        }
    }
}
