//! Gatehouse's own certificate authority, so that HTTPS works on a network without a domain. Its name constraints
//! limit the damage of a stolen key: it can only certify private addresses, `.local` and the configured names. Takes
//! the time as an argument; does no file I/O. Start at [`make_authority`] and [`issue`].

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// Apple and Chromium reject server certificates that are valid for more than 398 days; one day is for wrong clocks.
const LEAF_LIFE: Duration = Duration::from_secs(396 * 86_400);
/// A certificate is replaced when its remaining validity is shorter than this.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// Networks that are not publicly routable.
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

/// A name or address of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// A DNS or mDNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Name {
    /// An IP address if it parses as one, else a DNS name.
    pub fn from_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_ascii_lowercase()), Self::Ip)
    }
}

fn private_networks() -> Vec<IpNet> {
    PRIVATE.iter().filter_map(|network| network.parse().ok()).collect()
}

/// Creates an authority for `host` that may certify private addresses, `.local`, `localhost`, `host`, and `names`.
///
/// # Errors
/// Generating the key or signing fails.
pub fn make_authority(host: &str, names: &[Name], now: SystemTime) -> Result<Pair, TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(now + AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Servers and nothing else: neither clients, nor code, nor mail.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let date = OffsetDateTime::from(now).date();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Gatehouse");
    subject.push(DnType::CommonName, format!("Gatehouse at {host} ({date})"));
    params.distinguished_name = subject;
    let dns = ["local", "localhost", host].map(str::to_owned);
    let mut permitted: Vec<GeneralSubtree> = dns.into_iter().map(GeneralSubtree::DnsName).collect();
    let networks = private_networks();
    permitted.extend(networks.iter().map(|net| GeneralSubtree::IpAddress(subnet(*net))));
    for name in names {
        match name {
            Name::Dns(name) => permitted.push(GeneralSubtree::DnsName(name.clone())),
            Name::Ip(ip) if networks.iter().any(|net| net.contains(ip)) => {}
            Name::Ip(ip) => permitted.push(GeneralSubtree::IpAddress(subnet(IpNet::from(*ip)))),
        }
    }
    // A kind of name of which nothing is permitted is not constrained at all (RFC 5280 §4.2.1.10): for e-mail one that
    // cannot exist (RFC 6761 §6.4) is.
    permitted.push(GeneralSubtree::Rfc822Name("invalid".into()));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    let cert = params.self_signed(&key)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

fn subnet(net: IpNet) -> CidrSubnet {
    CidrSubnet::from_addr_prefix(net.addr(), net.prefix_len())
}

/// Issues a server certificate.
///
/// # Errors
/// The authority's files are broken.
pub fn issue(authority: &Pair, names: &[Name], now: SystemTime) -> Result<Pair, TlsError> {
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, KeyPair::from_pem(&authority.key)?)?;
    let texts: Vec<String> = names
        .iter()
        .map(|name| match name {
            Name::Dns(name) => name.clone(),
            Name::Ip(ip) => ip.to_string(),
        })
        .collect();
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(texts)?;
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(now + LEAF_LIFE);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Gatehouse");
    params.distinguished_name = subject;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

/// Splits `names` into those that an authority may certify and the others.
///
/// # Errors
/// It is not a certificate.
pub fn within_constraints(authority: &str, names: Vec<Name>) -> Result<(Vec<Name>, Vec<Name>), TlsError> {
    let der = super::first_certificate(authority)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(TlsError::parse)?;
    let Some(constraints) = certificate.name_constraints().map_err(TlsError::parse)? else {
        return Ok((names, Vec::new()));
    };
    let permitted = constraints.value.permitted_subtrees.as_deref().unwrap_or_default();
    let fits = |name: &Name| {
        permitted.iter().any(|subtree| match (&subtree.base, name) {
            (GeneralName::DNSName(base), Name::Dns(name)) => {
                name == base || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
            }
            (GeneralName::IPAddress(bytes), Name::Ip(ip)) => in_subnet(bytes, *ip),
            _ => false,
        })
    };
    Ok(names.into_iter().partition(fits))
}

/// RFC 5280 §4.2.1.10: an address and a mask of the same length.
fn in_subnet(bytes: &[u8], ip: IpAddr) -> bool {
    let ip = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    if bytes.len() != ip.len() * 2 {
        return false;
    }
    let (net, mask) = bytes.split_at(ip.len());
    ip.iter().zip(net).zip(mask).all(|((ip, net), mask)| ip & mask == net & mask)
}

/// Whether a certificate has to be replaced: it lacks a name or expires soon.
///
/// # Errors
/// It is not a certificate.
pub fn needs_renewal(leaf: &str, names: &[Name], now: SystemTime) -> Result<bool, TlsError> {
    let der = super::first_certificate(leaf)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(TlsError::parse)?;
    let end = certificate.validity().not_after.timestamp();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    if now + RENEW_BEFORE.as_secs() as i64 >= end || now < certificate.validity().not_before.timestamp() {
        return Ok(true);
    }
    let mut has = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => has.push(Name::Dns((*name).to_owned())),
                GeneralName::IPAddress(bytes) => has.extend(address(bytes).map(Name::Ip)),
                _ => {}
            }
        }
    }
    Ok(!names.iter().all(|name| has.contains(name)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::from_text(text)).collect()
    }

    #[test]
    fn it_vouches_for_what_is_private_or_named_and_for_nothing_else() {
        let now = SystemTime::now();
        let authority = make_authority("shop", &names(&["cameras.example.com", "203.0.113.7"]), now).unwrap();
        let wanted = names(&[
            "shop",
            "shop.local",
            "localhost",
            "192.168.1.5",
            "10.1.2.3",
            "fd00::1",
            "cameras.example.com",
            "203.0.113.7",
            "203.0.113.8",
            "bank.example",
            "notlocal",
            "8.8.8.8",
            "2001:db8::1",
        ]);
        let (fit, others) = within_constraints(&authority.cert, wanted).unwrap();
        assert_eq!(fit.len(), 8, "{fit:?}");
        assert_eq!(others, names(&["203.0.113.8", "bank.example", "notlocal", "8.8.8.8", "2001:db8::1"]));
    }

    #[test]
    fn a_certificate_is_renewed_in_time_and_for_new_names() {
        let now = SystemTime::now();
        let authority = make_authority("shop", &[], now).unwrap();
        let wanted = names(&["shop", "192.168.1.5"]);
        let leaf = issue(&authority, &wanted, now).unwrap();
        assert!(!needs_renewal(&leaf.cert, &wanted, now).unwrap());
        assert!(
            !needs_renewal(&leaf.cert, &wanted[..1], now).unwrap(),
            "an address that is gone does no harm"
        );
        assert!(needs_renewal(&leaf.cert, &names(&["shop", "192.168.1.6"]), now).unwrap());
        assert!(!needs_renewal(&leaf.cert, &wanted, now + DAY * 365).unwrap());
        assert!(needs_renewal(&leaf.cert, &wanted, now + DAY * 367).unwrap());
        assert!(needs_renewal(&leaf.cert, &wanted, now - DAY * 2).unwrap(), "the clock was wrong");
        let der = super::super::first_certificate(&leaf.cert).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let validity = certificate.validity();
        let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
        assert!(days <= 398, "{days}");
    }

    #[test]
    fn broken_files_are_errors() {
        let now = SystemTime::now();
        let broken = Pair { cert: "x".into(), key: "y".into() };
        assert!(issue(&broken, &[], now).is_err());
        assert!(needs_renewal("", &[], now).is_err());
    }
}
