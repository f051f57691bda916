//! What the console says when the server has started: addresses, a QR code for phones, how to log in, and the
//! fingerprint by which people recognise the certificate authority.

use std::io::IsTerminal;
use std::net::SocketAddr;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::Gatehouse;
use crate::accounts::FIRST_ADMIN;
use crate::config::{Config, TlsMode};
use crate::secret::Secret;

/// Prints it.
pub fn announce(gatehouse: &Gatehouse, config: &Config) {
    let address = gatehouse.address();
    let port = address.port();
    println!("Gatehouse {} is running. Open one of:", env!("CARGO_PKG_VERSION"));
    if address.ip().is_unspecified() || address.ip().is_loopback() {
        println!("  http://localhost:{port}/   on this machine");
    }
    let others = other_addresses(gatehouse, config);
    for url in &others {
        println!("  {url}");
    }
    if let (Some(first), true) = (others.first(), std::io::stdout().is_terminal())
        && let Ok(code) = QrCode::new(first.as_bytes())
    {
        println!("{}", code.render::<Dense1x2>().quiet_zone(true).build());
    }
    if let Some(password) = gatehouse.first_password() {
        println!(
            "Log in as {FIRST_ADMIN} with the password  {}  (shown this once).",
            Secret::expose(password)
        );
        println!("A lost password is set anew by: gatehouse user passwd {FIRST_ADMIN}");
    }
    if let Some(authority) = gatehouse.tls().authority() {
        println!(
            "Other machines trust this one by the certificate that http://…:{port}/ offers. Its SHA-256 is"
        );
        println!("  {}", authority.fingerprint);
    }
    if config.tls.mode == TlsMode::Off && !address.ip().is_loopback() {
        println!("TLS is off: passwords and pictures can be read on the way, unless a proxy encrypts it.");
    }
    if gatehouse.cameras().entries().iter().all(|entry| entry.origin == crate::cameras::Origin::Demo) {
        println!(
            "No camera is configured: a simulated one is shown. Add yours on the page, or in a file: see config/gatehouse.toml."
        );
    }
}

/// How other machines reach it. Without a known certificate they begin at plain HTTP, where the page that explains
/// it is.
fn other_addresses(gatehouse: &Gatehouse, config: &Config) -> Vec<String> {
    let address = gatehouse.address();
    let port = address.port();
    let scheme = match config.tls.mode {
        TlsMode::LocalCa | TlsMode::Off => "http",
        TlsMode::Files | TlsMode::Acme => "https",
    };
    let mut urls: Vec<String> =
        config.tls.domains.iter().map(|domain| format!("https://{domain}:{port}/")).collect();
    let ips = gatehouse.engine().addresses();
    let shown = ips.iter().filter(|ip| !ip.is_loopback());
    urls.extend(shown.map(|ip| format!("{scheme}://{}/", SocketAddr::new(*ip, port))));
    urls
}
