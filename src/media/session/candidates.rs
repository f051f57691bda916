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

/// See the module.
pub struct Candidates {
    udp: SocketAddr,
    tcp: SocketAddr,
    public_hosts: Vec<String>,
    known: ArcSwap<Known>,
}

/// What the last lookup has found.
#[derive(Default, PartialEq, Eq)]
struct Known {
    /// What is offered.
    addresses: Arc<Vec<IpAddr>>,
    /// Those that are configured.
    public: Vec<IpAddr>,
    /// All of this machine.
    own: Vec<IpAddr>,
}

impl Candidates {
    /// For a server that receives media on `udp` and accepts ICE over TCP on `tcp`, both with their real ports.
    pub fn new(udp: SocketAddr, tcp: SocketAddr, public_hosts: Vec<String>) -> Self {
        Self { udp, tcp, public_hosts, known: ArcSwap::default() }
    }

    /// Looks up all addresses again and logs changes.
    pub async fn refresh(&self) {
        let Local { mut addresses, own, reachable } = local_addresses(self.udp.ip());
        let mut public = Vec::new();
        for host in &self.public_hosts {
            match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => public.extend(found.map(|address| address.ip().to_canonical())),
                Err(error) => warn!(host, "cannot resolve public host, not offered: {error}"),
            }
        }
        addresses.extend(&public);
        let mut unique: Vec<IpAddr> = Vec::new();
        for ip in addresses {
            if !unique.contains(&ip) {
                unique.push(ip);
            }
        }
        unique.truncate(MAX_ADDRESSES);
        let before = self.known.load().addresses.clone();
        let known = Known { addresses: Arc::new(unique), public, own };
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
        let udp = of_listener(self.udp.ip(), &known, viewer_is_local);
        let tcp = of_listener(self.tcp.ip(), &known, viewer_is_local);
        let line =
            |(place, ip): (usize, &IpAddr), transport: &str, port: u16, preference: u32, suffix: &str| {
                // RFC 8445 §5.1.2.1, with a host's type preference of 126.
                let priority = 126 << 24 | (preference - place as u32) << 8 | 255;
                let foundation = if suffix.is_empty() { place + 1 } else { place + 101 };
                format!("{foundation} 1 {transport} {priority} {ip} {port} typ host{suffix}")
            };
        let udp = udp.iter().enumerate().map(|address| line(address, "udp", self.udp.port(), 65_535, ""));
        let tcp = tcp
            .iter()
            .enumerate()
            .map(|address| line(address, "tcp", self.tcp.port(), 8_191, " tcptype passive"));
        udp.chain(tcp).collect()
    }
}

/// The addresses by which a socket that listens on `listen` can be reached.
fn of_listener(listen: IpAddr, known: &Known, viewer_is_local: bool) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        let is_reachable = viewer_is_local || !listen.is_loopback();
        let others = known.public.iter().copied().filter(|ip| *ip != listen);
        return is_reachable.then_some(listen).into_iter().chain(others).collect();
    }
    let mut addresses = known.addresses.to_vec();
    if viewer_is_local && !addresses.iter().any(IpAddr::is_loopback) {
        addresses.insert(0, IpAddr::from([127, 0, 0, 1]));
    }
    addresses
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

    #[tokio::test]
    async fn a_bound_address_is_offered_by_both_transports() {
        let listen = ([127, 0, 0, 1], 8443).into();
        let candidates = Candidates::new(listen, listen, vec!["192.0.2.9".into()]);
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
        let candidates = Candidates::new(listen, listen, vec!["192.0.2.9".into()]);
        candidates.refresh().await;
        assert!(candidates.lines(true).iter().any(|line| line.contains(" 127.0.0.1 ")));
        assert!(candidates.is_own([127, 0, 0, 1].into()) && !candidates.is_own([192, 0, 2, 9].into()));
    }

    #[tokio::test]
    async fn each_transport_has_its_own_address() {
        let (udp, tcp) = (([192, 0, 2, 1], 5000).into(), ([127, 0, 0, 1], 8443).into());
        let candidates = Candidates::new(udp, tcp, Vec::new());
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
