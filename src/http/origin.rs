//! Strict parsing of the `Host` and `Origin` headers. Pure; what follows from them is decided by `guard` and `front`.

use axum::http::{HeaderMap, header};

/// The host name or address without its port, in lower case; `None` if the header is missing or malformed.
pub fn host(headers: &HeaderMap) -> Option<String> {
    authority(headers).map(|authority| without_port(&authority).to_owned())
}

/// Host and port as sent by the client, in lower case.
pub fn authority(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let fits = hosts.next().is_none() && !host.is_empty() && host.len() <= 260 && host.bytes().all(allowed);
    fits.then(|| host.to_ascii_lowercase())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// Whether a host name refers to the client's own machine.
pub fn is_localhost(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

/// Where a request comes from, according to `Origin`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// From our own page.
    Own,
    /// From another site's page.
    Foreign,
    /// No `Origin`: not sent by a browser, or a plain navigation.
    Unsaid,
}

/// Compares `Origin` with `Host`. The scheme may differ: a proxy may have terminated TLS.
pub fn origin(headers: &HeaderMap) -> Origin {
    let Some(origin) = headers.get(header::ORIGIN) else { return Origin::Unsaid };
    let own = || {
        let (scheme, rest) = origin.to_str().ok()?.split_once("://")?;
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let plain =
            |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
        Some(plain(rest) == plain(&authority(headers)?))
    };
    if own() == Some(true) { Origin::Own } else { Origin::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn origins() {
        let table = [
            ("cam.local:8443", None, Origin::Unsaid),
            ("cam.local:8443", Some("https://cam.local:8443"), Origin::Own),
            ("CAM.local:8443", Some("https://cam.local:8443"), Origin::Own),
            ("cam.local", Some("https://cam.local"), Origin::Own),
            ("cam.local:443", Some("https://cam.local"), Origin::Own),
            ("[::1]:8443", Some("http://[::1]:8443"), Origin::Own),
            ("cam.local:8443", Some("https://cam.local"), Origin::Foreign),
            ("cam.local:8443", Some("https://evil.example"), Origin::Foreign),
            ("cam.local:8443", Some("https://cam.local:8443.evil.example"), Origin::Foreign),
            ("cam.local:8443", Some("null"), Origin::Foreign),
            ("cam.local:8443", Some(""), Origin::Foreign),
            ("cam.local:8443", Some("file://cam.local:8443"), Origin::Foreign),
        ];
        for (host, from, expected) in table {
            assert_eq!(origin(&headers(host, from)), expected, "{host} {from:?}");
        }
    }

    #[test]
    fn hosts() {
        let table = [
            ("localhost:8443", Some("localhost"), true),
            ("127.0.0.1", Some("127.0.0.1"), true),
            ("[::1]:8443", Some("[::1]"), true),
            ("[::1]", Some("[::1]"), true),
            ("192.168.1.5:8443", Some("192.168.1.5"), false),
            ("localhost.evil.example", Some("localhost.evil.example"), false),
            ("127.0.0.1.nip.io", Some("127.0.0.1.nip.io"), false),
            ("a/b", None, false),
            ("a@b", None, false),
            ("", None, false),
        ];
        for (text, expected, local) in table {
            let found = host(&headers(text, None));
            assert_eq!(found.as_deref(), expected, "{text}");
            assert_eq!(found.is_some_and(|host| is_localhost(&host)), local, "{text}");
        }
    }
}
