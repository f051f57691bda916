//! Reverse proxies: whose word about a client is taken, and what a request looks like if a proxy is set up wrong. Each
//! mistake has a code with a text on the page, and is logged once an hour for each proxy. Start at [`Proxies`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;
use tracing::warn;

use super::origin::{authority, host, is_localhost};
use super::{Client, Connection};
use crate::health::{Health, Severity};

/// Between two log lines about the same mistake of the same proxy.
const QUIET: Duration = Duration::from_secs(3600);
/// Proxies and mistakes that are remembered for that. Others are not logged until these are forgotten.
const MAX_REMEMBERED: usize = 64;

/// Headers by which proxies describe a client. Not all of them are used, but all are signs of a proxy.
const FORWARDED: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-real-ip",
    "forwarded",
];

/// A mistake in the setup of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// `Host` is not what the browser sent, so our own pages look like another site's.
    Host,
    /// It describes clients, and is not trusted.
    Untrusted,
    /// It speaks HTTP to our HTTPS, so a redirect to HTTPS leads back to itself.
    Plain,
    /// It removes `Upgrade`.
    WebSocket,
    /// It sends PROXY protocol headers, and is not trusted.
    ProxyProtocol,
}

impl Mistake {
    /// The stable code; pages have a text for each.
    pub fn code(self) -> &'static str {
        match self {
            Self::Host => "proxy_host",
            Self::Untrusted => "proxy_untrusted",
            Self::Plain => "proxy_plain",
            Self::WebSocket => "websocket",
            Self::ProxyProtocol => "proxy_protocol_untrusted",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Host => {
                "a proxy changes the Host header or its port, so that this server's pages look like another site's: pass on \
                 the Host header with its port (nginx: proxy_set_header Host $http_host)"
            }
            Self::Untrusted => {
                "this peer describes clients in a header, which is ignored: if it is your proxy, add its address to [server] \
                 trusted_proxies"
            }
            Self::Plain => {
                "a proxy that clients reach by HTTPS uses HTTP to reach this server's HTTPS: use https:// in the proxy, or have \
                 it send X-Forwarded-Proto: https and add it to [server] trusted_proxies, or set [tls] mode = \"off\""
            }
            Self::WebSocket => {
                "a proxy does not pass on WebSockets: calls and presence do not work (nginx: proxy_http_version 1.1; \
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\")"
            }
            Self::ProxyProtocol => {
                "this peer sends PROXY protocol headers and is refused: if it is your proxy, add its address to [server] \
                 trusted_proxies"
            }
        }
    }
}

/// The trusted proxies, and the mistakes seen.
pub struct Proxies {
    trusted: Vec<IpNet>,
    health: Health,
    logged: Mutex<HashMap<(IpAddr, Mistake), Instant>>,
}

impl Proxies {
    /// Trusting the peers of these networks.
    pub fn new(trusted: Vec<IpNet>, health: Health) -> Self {
        Self { trusted, health, logged: Mutex::default() }
    }

    /// Whether a peer's word is taken.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted.iter().any(|network| network.contains(&ip))
    }

    /// The client's address: behind trusted proxies, the last hop that is not one of them.
    pub fn client(&self, connection: Connection, headers: &HeaderMap) -> Client {
        let mut ip = connection.peer.ip().to_canonical();
        let mut secure = connection.secure;
        if self.trusts(ip) {
            // Bytes, not text: a non-ASCII byte from the client must not hide what the proxy has appended.
            let values = headers.get_all("x-forwarded-for").iter();
            let chain: Vec<&[u8]> =
                values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
            for hop in chain.iter().rev() {
                let hop = std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok());
                let Some(hop) = hop else { break };
                ip = hop.to_canonical();
                if !self.trusts(ip) {
                    break;
                }
            }
            secure = secure || says_https(headers);
        }
        Client { ip, secure }
    }

    /// Replaces `Host` by what a trusted proxy says it was.
    pub fn restore_host(&self, connection: Connection, headers: &mut HeaderMap) {
        if !self.trusts(connection.peer.ip()) {
            return;
        }
        // With several proxies the last one appends what it received: the first entry is the browser's.
        let named = headers.get("x-forwarded-host").and_then(|value| value.to_str().ok());
        let named = named.and_then(|named| named.split(',').next()).map(|named| named.trim().to_owned());
        if let Some(value) = named.and_then(|named| HeaderValue::from_str(&named).ok()) {
            let mut replaced = HeaderMap::new();
            replaced.insert(header::HOST, value.clone());
            if authority(&replaced).is_some() {
                headers.insert(header::HOST, value);
            }
        }
    }

    /// The header by which an untrusted peer describes a client.
    pub fn untrusted_header(&self, connection: Connection, headers: &HeaderMap) -> Option<&'static str> {
        let trusted = self.trusts(connection.peer.ip());
        FORWARDED.into_iter().find(|name| !trusted && headers.contains_key(*name))
    }

    /// Whether a request that looks like another site's is of our own page, and a proxy has changed `Host`.
    pub fn has_changed_host(&self, connection: Connection, headers: &HeaderMap) -> bool {
        match headers.get("sec-fetch-site") {
            // The browser compares with the address that it sees (Fetch Metadata).
            Some(site) => site.as_bytes() == b"same-origin",
            // Not sent by older browsers and on pages without TLS.
            None => self.trusts(connection.peer.ip()) || is_forwarded(headers),
        }
    }

    /// Logs a mistake, and shows it to administrators. `seen` says what was received, as `Host: …`.
    pub fn report(&self, mistake: Mistake, peer: IpAddr, seen: &str) {
        let peer = peer.to_canonical();
        if !self.is_due(mistake, peer) {
            return;
        }
        warn!(%peer, code = mistake.code(), seen, "{}", mistake.advice());
        // Strangers must not be able to write on the administrators' pages.
        let is_near = match peer {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        };
        if is_near || self.trusts(peer) {
            let detail = format!("{peer}: {seen}");
            self.health.report_for(mistake.code(), Severity::Warning, &detail, QUIET);
        }
    }

    fn is_due(&self, mistake: Mistake, peer: IpAddr) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|_, at| at.elapsed() < QUIET);
        let room = logged.len() < MAX_REMEMBERED;
        room && !logged.contains_key(&(peer, mistake))
            && logged.insert((peer, mistake), Instant::now()).is_none()
    }
}

/// Whether there is a proxy between the client and us, as far as headers tell.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// Whether a proxy says that the client uses HTTPS.
fn says_https(headers: &HeaderMap) -> bool {
    let scheme = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    // With several proxies it may be a list, the client's first.
    scheme
        .and_then(|scheme| scheme.split(',').next())
        .is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

/// Whether the browser uses HTTPS although the request arrived without: there is a proxy in between. Browsers send
/// Fetch Metadata only over HTTPS, and to themselves.
pub fn browser_uses_https(headers: &HeaderMap) -> bool {
    let to_itself = host(headers).is_some_and(|host| is_localhost(&host));
    says_https(headers) || (!to_itself && headers.contains_key("sec-fetch-mode"))
}

/// A header as received, for the log: shortened, without control characters.
pub fn shown(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let value: String =
        value.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(100).collect();
    format!("{name}: {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'static str, &'a str)];

    fn headers(pairs: Pairs<'_>) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn from(peer: &str) -> Connection {
        Connection { peer: format!("{peer}:5000").parse().unwrap(), secure: false }
    }

    fn proxies() -> Proxies {
        Proxies::new(vec!["127.0.0.1/32".parse().unwrap()], Health::default())
    }

    #[test]
    fn only_trusted_proxies_name_the_host() {
        let table = [
            ("127.0.0.1", "cam.example:8443", "cam.example:8443"),
            ("127.0.0.1", "cam.example, other", "cam.example"),
            ("127.0.0.1", "a/b", "inside:1"),
            ("192.0.2.1", "cam.example", "inside:1"),
        ];
        for (peer, named, expected) in table {
            let mut headers = headers(&[("host", "inside:1"), ("x-forwarded-host", named)]);
            proxies().restore_host(from(peer), &mut headers);
            assert_eq!(headers["host"], expected, "{peer} {named}");
        }
    }

    #[test]
    fn a_changed_host_is_told_from_another_site() {
        let table: [(&str, Pairs<'_>, bool); 5] = [
            ("192.0.2.1", &[("sec-fetch-site", "same-origin")], true),
            ("192.0.2.1", &[("sec-fetch-site", "cross-site"), ("x-forwarded-for", "192.0.2.9")], false),
            ("127.0.0.1", &[("sec-fetch-site", "same-site")], false),
            ("127.0.0.1", &[], true),
            ("192.0.2.1", &[], false),
        ];
        for (peer, pairs, expected) in table {
            let found = proxies().has_changed_host(from(peer), &headers(pairs));
            assert_eq!(found, expected, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn https_of_the_browser_is_seen_through_a_proxy() {
        let table: [(Pairs<'_>, bool); 5] = [
            (&[("host", "cam.example"), ("x-forwarded-proto", "HTTPS")], true),
            (&[("host", "cam.example"), ("x-forwarded-proto", "https,http")], true),
            (&[("host", "cam.example"), ("sec-fetch-mode", "navigate")], true),
            (&[("host", "localhost:8443"), ("sec-fetch-mode", "navigate")], false),
            (&[("host", "cam.example")], false),
        ];
        for (pairs, expected) in table {
            assert_eq!(browser_uses_https(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_mistake_is_reported_once_and_strangers_do_not_reach_the_page() {
        let proxies = proxies();
        let peer = "192.0.2.1".parse().unwrap();
        assert!(proxies.is_due(Mistake::Host, peer));
        assert!(!proxies.is_due(Mistake::Host, peer));
        assert!(proxies.is_due(Mistake::WebSocket, peer));
        proxies.report(Mistake::Untrusted, "198.51.100.1".parse().unwrap(), "x-forwarded-for: 1");
        assert!(proxies.health.problems().is_empty());
        proxies.report(Mistake::Untrusted, "10.0.0.1".parse().unwrap(), "x-forwarded-for: 1");
        assert!(proxies.health.has("proxy_untrusted"));
        for number in 0..=255 {
            proxies.is_due(Mistake::Plain, IpAddr::from([10, 0, 0, number]));
        }
        assert!(proxies.logged.lock().unwrap().len() <= MAX_REMEMBERED);
    }
}
