//! `[media]`: the address for media, public names, limits, and the ICE servers that are announced to browsers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::read::{Reader, Section};
use super::tls::is_host;
use crate::streams::cache_budget;
use crate::streams::source::Secret;

/// `[media]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// The UDP address, if it is not derived from that of HTTP; without a port, HTTP's.
    pub listen: Option<(IpAddr, Option<u16>)>,
    /// Additional names and addresses by which viewers reach this machine.
    pub public_hosts: Vec<PublicHost>,
    /// The port of public hosts that name none; otherwise the port that is listened on.
    pub advertise_port: Option<u16>,
    /// Concurrent viewers.
    pub max_viewers: usize,
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Bytes that the cached GOPs of all cameras take together.
    pub gop_cache: usize,
    /// Between two looks at a camera that nobody watches; zero for none.
    pub check_interval: Duration,
    /// STUN and TURN servers that are announced to viewers.
    pub ice_servers: Vec<IceServer>,
}

/// `[[media.ice_server]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:…`, `turn:…` or `turns:…`.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<Secret>,
}

/// A name or address by which viewers reach this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicHost {
    /// A DNS name or an address.
    pub host: String,
    /// The port by which the media port is reached, if a router or a container's host maps it.
    pub port: Option<u16>,
}

impl PublicHost {
    /// `cameras.example.com`, `192.0.2.1`, `2001:db8::1`, and with a port `…:9000` or `[2001:db8::1]:9000`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self { host: address.ip().to_string(), port: Some(address.port()) });
        }
        if is_host(text) {
            return Some(Self { host: text.to_owned(), port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_host(host).then(|| Self { host: host.to_owned(), port: Some(port) })
    }
}

/// What an entry of `public_hosts` may be.
pub const PUBLIC_HOST: &str = "names or addresses, with or without a port, such as \"cameras.example.com\"";

/// The UDP address for media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress {
    /// The address to bind.
    pub address: SocketAddr,
    /// Datagrams of other machines are dropped.
    pub only_this_host: bool,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            listen: None,
            public_hosts: Vec::new(),
            advertise_port: None,
            max_viewers: 1000,
            threads: 0,
            gop_cache: cache_budget::DEFAULT,
            check_interval: Duration::from_secs(300),
            ice_servers: Vec::new(),
        }
    }
}

impl MediaAddress {
    /// From where media can be reached, for people who read a console.
    pub fn in_words(&self) -> String {
        let Self { address, only_this_host } = self;
        if *only_this_host || address.ip().is_loopback() {
            format!(
                "media: UDP {address}, for viewers on this machine only ([media] listen sets another address)"
            )
        } else {
            format!("media: UDP {address}, for everybody who can reach that address")
        }
    }
}

impl MediaConfig {
    /// Where media is received, if HTTP listens on `http`. Loopback is not enough: media does not pass through a reverse
    /// proxy, and Firefox does not use loopback addresses for media even on the same machine.
    pub fn address(&self, http: SocketAddr, has_proxies: bool) -> MediaAddress {
        if let Some((ip, port)) = self.listen {
            let address = SocketAddr::new(ip, port.unwrap_or(http.port()));
            return MediaAddress { address, only_this_host: false };
        }
        if !http.ip().is_loopback() {
            return MediaAddress { address: http, only_this_host: false };
        }
        let any: IpAddr = match http.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let only_this_host = !has_proxies && self.public_hosts.is_empty();
        MediaAddress { address: SocketAddr::new(any, http.port()), only_this_host }
    }
}

/// What `listen` may be.
pub const LISTEN: &str = "an address with or without a port, such as 0.0.0.0 or 0.0.0.0:8443";

/// Parses `listen`.
pub fn parse_listen(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let with_port = text.parse().ok().map(|address: SocketAddr| (address.ip(), Some(address.port())));
    with_port.or_else(|| text.parse().ok().map(|ip| (ip, None)))
}

/// Reads the section.
pub fn read(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> MediaConfig {
    let defaults = MediaConfig::default();
    let listen = section.parsed_with(reader, "listen", LISTEN, |text| match text {
        "" => Some(None),
        text => parse_listen(text).map(Some),
    });
    let mut public_hosts = Vec::new();
    for text in section.strings(reader, "public_hosts").unwrap_or_default() {
        match PublicHost::parse(&text) {
            Some(host) => public_hosts.push(host),
            None => section.complain(reader, "public_hosts", &text, PUBLIC_HOST),
        }
    }
    let advertise_port = section.integer(reader, "advertise_port", 0..=65_535);
    let max_viewers = section.integer(reader, "max_viewers", 1..=100_000);
    let threads = section.integer(reader, "threads", 0..=64);
    let gop_cache = section.integer(reader, "gop_cache_mib", 0..=1 << 20);
    let check_interval =
        section.duration(reader, "check_interval", Duration::ZERO..=Duration::from_secs(86_400));
    let mut ice_servers = Vec::new();
    for mut server in section.sections(reader, "ice_server") {
        let urls = server.strings(reader, "urls").unwrap_or_default();
        let schemes = ["stun:", "stuns:", "turn:", "turns:"];
        for url in urls.iter().filter(|url| !schemes.iter().any(|scheme| url.starts_with(scheme))) {
            server.complain(reader, "urls", url, "addresses that begin with stun:, turn: or turns:");
        }
        let username = server.string(reader, "username");
        let credential = server.string(reader, "credential").map(Secret::new);
        server.finish(reader);
        ice_servers.push(IceServer { urls, username, credential });
    }
    section.finish(reader);
    MediaConfig {
        listen: listen.flatten(),
        public_hosts,
        advertise_port: advertise_port.map(|port| port as u16).filter(|port| *port != 0),
        max_viewers: max_viewers.map_or(defaults.max_viewers, |value| value as usize),
        threads: threads.map_or(defaults.threads, |value| value as usize),
        gop_cache: gop_cache.map_or(defaults.gop_cache, |mib| (mib as usize) << 20),
        check_interval: check_interval.unwrap_or(defaults.check_interval),
        ice_servers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_hosts_may_have_a_port() {
        let table = [
            ("cameras.example.com", Some(("cameras.example.com", None))),
            ("cameras.example.com:9000", Some(("cameras.example.com", Some(9000)))),
            ("192.0.2.1", Some(("192.0.2.1", None))),
            ("192.0.2.1:9000", Some(("192.0.2.1", Some(9000)))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]:9000", Some(("2001:db8::1", Some(9000)))),
            ("https://cameras.example.com", None),
            ("cameras.example.com:0", None),
            ("cameras.example.com:70000", None),
            ("", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(host, port)| PublicHost { host: host.to_owned(), port });
            assert_eq!(PublicHost::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_address_follows_that_of_http() {
        let config = |listen| MediaConfig { listen: parse_listen(listen), ..MediaConfig::default() };
        let table = [
            ("", "0.0.0.0:8443", false, "0.0.0.0:8443", false),
            ("", "192.0.2.1:8443", false, "192.0.2.1:8443", false),
            ("", "127.0.0.1:8443", false, "0.0.0.0:8443", true),
            ("", "[::1]:8443", false, "[::]:8443", true),
            ("", "127.0.0.1:8443", true, "0.0.0.0:8443", false),
            ("127.0.0.1", "127.0.0.1:8443", false, "127.0.0.1:8443", false),
            ("192.0.2.1:5000", "127.0.0.1:8443", true, "192.0.2.1:5000", false),
            ("::", "127.0.0.1:8443", false, "[::]:8443", false),
        ];
        for (listen, http, has_proxies, address, only_this_host) in table {
            let found = config(listen).address(http.parse().unwrap(), has_proxies);
            let expected = MediaAddress { address: address.parse().unwrap(), only_this_host };
            assert_eq!(found, expected, "{listen:?} {http} {has_proxies}");
            let is_local = only_this_host || found.address.ip().is_loopback();
            assert_eq!(found.in_words().contains("on this machine only"), is_local);
        }
    }
}
