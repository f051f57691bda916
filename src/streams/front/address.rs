//! Addresses of tracks: what a camera writes into `Content-Base` and `a=control`, as the request that it expects;
//! and where it redirects to. Pure.

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

/// Where a redirect leads. With a login, only to the same host and to those in `follow`, and not from TLS to none: the
/// login is for this camera, not for whatever it points to, and not for whoever is in between.
///
/// # Errors
/// What is wrong, and what to do.
pub fn redirected(asked: &Url, location: Option<&str>, follow: Option<&[String]>) -> Result<Url, String> {
    let target = location.and_then(|text| asked.join(text).ok());
    let target = target.filter(|url| matches!(url.scheme(), "rtsp" | "rtsps") && url.host().is_some());
    let Some(mut target) = target else { return Err("the camera redirects to nowhere".into()) };
    let _ = target.set_username("");
    let _ = target.set_password(None);
    let Some(follow) = follow else { return Ok(target) };
    let host = target.host_str().unwrap_or_default().to_ascii_lowercase();
    if asked.scheme() == "rtsps" && target.scheme() == "rtsp" {
        return Err(format!(
            "the camera redirects to {host} without TLS: use that address, with its own login"
        ));
    }
    let is_same = asked.host_str().is_some_and(|own| own.eq_ignore_ascii_case(&host));
    if is_same || follow.iter().any(|known| known.eq_ignore_ascii_case(&host)) {
        return Ok(target);
    }
    Err(format!(
        "the camera redirects to {host}: use that address, with its own login, or allow it with follow = [\"{host}\"]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let follow = ["nvr".to_owned()];
        let with = Some(&follow[..]);
        // What was asked, where it leads, whether there is a login, and the target or a part of the error.
        let table = [
            ("rtsp://cam/1", Some("rtsp://cam/2"), with, Ok("rtsp://cam/2")),
            ("rtsp://cam/1", Some("rtsp://CAM:8554/2"), with, Ok("rtsp://CAM:8554/2")),
            ("rtsp://cam/1", Some("/2"), with, Ok("rtsp://cam/2")),
            ("rtsp://cam/1", Some("rtsp://u:p@NVR/2"), with, Ok("rtsp://NVR/2")),
            ("rtsp://cam/1", Some("rtsp://other/2"), with, Err("follow = [\"other\"]")),
            ("rtsp://cam/1", Some("rtsp://other/2"), None, Ok("rtsp://other/2")),
            ("rtsp://cam/1", Some("rtsps://cam/2"), with, Ok("rtsps://cam/2")),
            ("rtsps://cam/1", Some("rtsp://cam/2"), with, Err("without TLS")),
            ("rtsps://cam/1", Some("rtsp://nvr/2"), with, Err("without TLS")),
            ("rtsps://cam/1", Some("rtsp://cam/2"), None, Ok("rtsp://cam/2")),
            ("rtsp://cam/1", Some("http://cam/2"), with, Err("nowhere")),
            ("rtsp://cam/1", None, with, Err("nowhere")),
        ];
        for (asked, location, follow, expected) in table {
            let found = redirected(&Url::parse(asked).unwrap(), location, follow);
            match (&found, expected) {
                (Ok(url), Ok(wanted)) => assert_eq!(url.as_str(), wanted),
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                _ => panic!("{asked} {location:?}: {found:?}"),
            }
        }
    }

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
