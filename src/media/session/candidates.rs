//! Our own addresses as ICE candidates: those of the interfaces plus those from the configuration. They are looked up
//! periodically, because laptops move and DNS names change. Also parses remote candidates. Start at
//! [`Candidates::lines`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{info, warn};

/// Interface names of containers and virtual machines: their addresses cannot be reached from elsewhere.
const VIRTUAL: [&str; 8] = ["docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "lxc"];
/// More addresses than this make browsers slow.
const MAX_ADDRESSES: usize = 12;

/// A configured name or address, and the port by which the media port is reached there, if it is another one.
pub type PublicHost = (String, Option<u16>);

/// See the module.
pub struct Candidates {
    udp: SocketAddr,
    tcp: SocketAddr,
    public_hosts: Vec<PublicHost>,
    advertise_port: Option<u16>,
    known: ArcSwap<Known>,
}

/// What the last lookup has found.
#[derive(Default, PartialEq, Eq)]
struct Known {
    /// What is offered.
    addresses: Arc<Vec<IpAddr>>,
    /// Those of the interfaces.
    local: Vec<IpAddr>,
    /// Those that are configured, with their ports if they differ from the sockets'.
    public: Vec<(IpAddr, Option<u16>)>,
    /// All of this machine.
    own: Vec<IpAddr>,
}

impl Candidates {
    /// For a server that receives media on `udp` and accepts ICE over TCP on `tcp`, both with their real ports.
    pub fn new(
        udp: SocketAddr,
        tcp: SocketAddr,
        public_hosts: Vec<PublicHost>,
        advertise_port: Option<u16>,
    ) -> Self {
        Self { udp, tcp, public_hosts, advertise_port, known: ArcSwap::default() }
    }

    /// Looks up all addresses again and logs changes.
    pub async fn refresh(&self) {
        let Local { addresses: local, own, reachable } = local_addresses(self.udp.ip());
        let mut public = Vec::new();
        for (host, port) in &self.public_hosts {
            let port = port.or(self.advertise_port);
            match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => public.extend(found.map(|address| (address.ip().to_canonical(), port))),
                Err(error) => warn!(host, "cannot resolve public host, not offered: {error}"),
            }
        }
        let unique = unique(local.iter().copied().chain(public.iter().map(|(ip, _)| *ip)));
        let before = self.known.load().addresses.clone();
        let known = Known { addresses: Arc::new(unique), local, public, own };
        if before != known.addresses {
            info!(addresses = ?known.addresses, "addresses offered as ICE candidates");
            if !reachable && self.public_hosts.is_empty() && !self.udp.ip().is_loopback() {
                warn!(
                    "only loopback or container addresses can be offered: set [media] public_hosts to the address that viewers use"
                );
            }
        }
        self.known.store(Arc::new(known));
    }

    /// The currently known addresses.
    pub fn addresses(&self) -> Arc<Vec<IpAddr>> {
        self.known.load().addresses.clone()
    }

    /// Whether an address belongs to this machine.
    pub fn is_own(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.known.load().own.contains(&address)
    }

    /// `a=candidate` values: UDP first, TCP as the last resort. A viewer on this machine may use loopback too.
    pub fn lines(&self, viewer_is_local: bool) -> Vec<String> {
        let known = self.known.load();
        let udp = of_listener(self.udp, &known, viewer_is_local);
        let tcp = of_listener(self.tcp, &known, viewer_is_local);
        let line =
            |(place, address): (usize, &SocketAddr), transport: &str, preference: u32, suffix: &str| {
                // RFC 8445 §5.1.2.1, with a host's type preference of 126.
                let priority = 126 << 24 | (preference - place as u32) << 8 | 255;
                let foundation = if suffix.is_empty() { place + 1 } else { place + 101 };
                let (ip, port) = (address.ip(), address.port());
                format!("{foundation} 1 {transport} {priority} {ip} {port} typ host{suffix}")
            };
        let udp = udp.iter().enumerate().map(|address| line(address, "udp", 65_535, ""));
        let tcp = tcp.iter().enumerate().map(|address| line(address, "tcp", 8_191, " tcptype passive"));
        udp.chain(tcp).collect()
    }
}

/// The addresses by which a socket that listens on `listen` can be reached.
fn of_listener(listen: SocketAddr, known: &Known, viewer_is_local: bool) -> Vec<SocketAddr> {
    let local = match listen.ip() {
        ip if ip.is_unspecified() => known.local.clone(),
        ip if ip.is_loopback() && !viewer_is_local => Vec::new(),
        ip => vec![ip],
    };
    let adds_loopback =
        viewer_is_local && listen.ip().is_unspecified() && !local.iter().any(IpAddr::is_loopback);
    let loopback = adds_loopback.then_some(IpAddr::from([127, 0, 0, 1]));
    let own = loopback.into_iter().chain(local).map(|ip| SocketAddr::new(ip, listen.port()));
    let public = known.public.iter().map(|(ip, port)| SocketAddr::new(*ip, port.unwrap_or(listen.port())));
    unique(own.chain(public))
}

/// Each once, in the same order, up to the limit.
fn unique<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for one in all {
        if found.len() < MAX_ADDRESSES && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// The addresses of the interfaces.
struct Local {
    addresses: Vec<IpAddr>,
    /// Without any exception.
    own: Vec<IpAddr>,
    /// Whether other machines can reach any of them.
    reachable: bool,
}

fn local_addresses(listen: IpAddr) -> Local {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let own = interfaces.iter().map(|interface| interface.ip()).collect();
    if !listen.is_unspecified() {
        return Local { addresses: vec![listen], own, reachable: !listen.is_loopback() };
    }
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        // An IPv4 wildcard socket receives no IPv6.
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_unicast_link_local(),
    };
    let all = interfaces.iter().filter(|interface| !interface.is_loopback() && usable(&interface.ip()));
    let (real, virtual_ones): (Vec<_>, Vec<_>) =
        all.partition(|interface| !VIRTUAL.iter().any(|prefix| interface.name.starts_with(prefix)));
    let reachable = !real.is_empty() && !in_container();
    let chosen = if real.is_empty() { virtual_ones } else { real };
    let mut addresses: Vec<IpAddr> = chosen.iter().map(|interface| interface.ip()).collect();
    // IPv4 first: LANs should be checked over IPv4 first.
    addresses.sort_by_key(IpAddr::is_ipv6);
    if addresses.is_empty() {
        addresses.push(IpAddr::from([127, 0, 0, 1]));
    }
    Local { addresses, own, reachable }
}

/// Whether this runs in a container: its interfaces look ordinary, but only the host can reach them.
fn in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|file| std::path::Path::new(file).exists())
}

/// Parses an `a=candidate` value of `client`. Returns UDP candidates that we may send checks to; mDNS names and TCP are
/// left to the client's own checks, which reach us in any case.
pub fn parse_remote(value: &str, client: IpAddr) -> Option<SocketAddr> {
    let fields: Vec<&str> = value.split_whitespace().take(8).collect();
    match fields[..] {
        [_, "1", transport, _, address, port, "typ", _] if transport.eq_ignore_ascii_case("udp") => {
            let address: IpAddr = address.parse().ok()?;
            let port: u16 = port.parse().ok()?;
            let fits = port >= 1024 && may_name(client, address);
            fits.then(|| SocketAddr::new(address, port))
        }
        _ => None,
    }
}

/// From where an address can be reached, the narrowest scope first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Scope {
    Loopback,
    Link,
    Private,
    Global,
}

/// `None` for addresses that cannot belong to a host.
fn scope(address: IpAddr) -> Option<Scope> {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            match (a, b) {
                (0 | 224.., _) => None,
                _ if ip.is_loopback() => Some(Scope::Loopback),
                _ if ip.is_link_local() => Some(Scope::Link),
                // Carrier-grade NAT (RFC 6598) counts as private.
                (100, 64..=127) => Some(Scope::Private),
                _ if ip.is_private() => Some(Scope::Private),
                _ => Some(Scope::Global),
            }
        }
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() => None,
        IpAddr::V6(ip) if ip.is_loopback() => Some(Scope::Loopback),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Scope::Link),
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Scope::Private),
        IpAddr::V6(_) => Some(Scope::Global),
    }
}

/// Whether a client may make us send checks to an address: never into a narrower scope than its own, which it may not
/// be able to reach itself.
fn may_name(client: IpAddr, address: IpAddr) -> bool {
    match (scope(client), scope(address)) {
        (_, None) | (None, _) => false,
        (Some(client), Some(address)) => address >= client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(host: &str, port: Option<u16>) -> PublicHost {
        (host.to_owned(), port)
    }

    /// As for a container that maps 9000 to 8443.
    #[tokio::test]
    async fn public_addresses_have_their_own_ports() {
        let listen = ([192, 0, 2, 1], 8443).into();
        let hosts =
            vec![public("198.51.100.1", None), public("198.51.100.2", Some(9001)), public("192.0.2.1", None)];
        let candidates = Candidates::new(listen, listen, hosts, Some(9000));
        candidates.refresh().await;
        let lines = candidates.lines(false);
        let ends = |number: usize, end: &str| assert!(lines[number].ends_with(end), "{lines:?}");
        ends(0, " 192.0.2.1 8443 typ host");
        ends(1, " 198.51.100.1 9000 typ host");
        ends(2, " 198.51.100.2 9001 typ host");
        ends(3, " 192.0.2.1 9000 typ host");
        ends(5, " 198.51.100.1 9000 typ host tcptype passive");
        assert_eq!(candidates.addresses().len(), 3);
    }

    #[tokio::test]
    async fn a_bound_address_is_offered_by_both_transports() {
        let listen = ([127, 0, 0, 1], 8443).into();
        let candidates = Candidates::new(listen, listen, vec![public("192.0.2.9", None)], None);
        candidates.refresh().await;
        let lines = candidates.lines(true);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains(" udp ") && lines[0].ends_with("127.0.0.1 8443 typ host"));
        assert!(lines[1].contains("192.0.2.9"));
        assert!(lines[3].ends_with("typ host tcptype passive"));
    }

    #[tokio::test]
    async fn loopback_is_for_viewers_on_this_machine() {
        let listen = ([0, 0, 0, 0], 1).into();
        let candidates = Candidates::new(listen, listen, vec![public("192.0.2.9", None)], None);
        candidates.refresh().await;
        assert!(candidates.lines(true).iter().any(|line| line.contains(" 127.0.0.1 ")));
        assert!(candidates.is_own([127, 0, 0, 1].into()) && !candidates.is_own([192, 0, 2, 9].into()));
    }

    #[tokio::test]
    async fn each_transport_has_its_own_address() {
        let (udp, tcp) = (([192, 0, 2, 1], 5000).into(), ([127, 0, 0, 1], 8443).into());
        let candidates = Candidates::new(udp, tcp, Vec::new(), None);
        candidates.refresh().await;
        let lines = candidates.lines(true);
        assert!(lines[0].ends_with(" 192.0.2.1 5000 typ host"), "{lines:?}");
        assert!(lines[1].ends_with(" 127.0.0.1 8443 typ host tcptype passive"), "{lines:?}");
        assert_eq!((lines.len(), candidates.lines(false).len()), (2, 1));
    }

    #[test]
    fn remote_candidates() {
        let parse = |value| parse_remote(value, [198, 51, 100, 7].into());
        assert_eq!(parse("1 1 udp 5 192.0.2.1 5000 typ host"), Some(([192, 0, 2, 1], 5000).into()));
        assert!(parse("1 1 UDP 5 2001:db8::1 5000 typ srflx raddr 0.0.0.0 rport 0").is_some());
        for refused in [
            "1 1 udp 5 abc.local 5000 typ host",
            "1 1 tcp 5 192.0.2.1 9 typ host tcptype active",
            "1 2 udp 5 192.0.2.1 5000 typ host",
            "1 1 udp 5 192.0.2.1 53 typ host",
            "1 1 udp 5 224.0.0.1 5000 typ host",
            "",
        ] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }

    /// A client cannot make us send packets into networks that it cannot reach itself.
    #[test]
    fn addresses_are_of_the_clients_own_kind() {
        let named = [
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "192.168.1.5",
            "100.64.3.3",
            "fd00::5",
            "192.0.2.9",
        ];
        let table = [
            ("192.0.2.1", &["192.0.2.9"][..]),
            ("::ffff:192.0.2.1", &["192.0.2.9"]),
            ("10.0.0.9", &["192.168.1.5", "100.64.3.3", "fd00::5", "192.0.2.9"]),
            ("fe80::7", &["169.254.1.1", "fe80::1", "192.168.1.5", "100.64.3.3", "fd00::5", "192.0.2.9"]),
            ("127.0.0.1", &named),
        ];
        for (client, expected) in table {
            let parse = |address: &&str| {
                let line = format!("1 1 udp 5 {address} 5000 typ host");
                parse_remote(&line, client.parse().unwrap()).is_some()
            };
            let found: Vec<&str> = named.into_iter().filter(parse).collect();
            assert_eq!(found, expected, "{client}");
        }
        for nobody in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"] {
            let line = format!("1 1 udp 5 {nobody} 5000 typ host");
            assert_eq!(parse_remote(&line, [127, 0, 0, 1].into()), None, "{nobody}");
        }
    }
}
