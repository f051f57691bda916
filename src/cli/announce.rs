//! The console output after the server has started: addresses, a QR code for phones, how to log in, and the
//! fingerprint for verifying the certificate authority. Log messages do not go through here.

use std::io::IsTerminal;
use std::net::SocketAddr;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::Gatehouse;
use crate::accounts::FIRST_ADMIN;
use crate::config::{Config, TlsMode};
use crate::secret::Secret;

/// Prints everything.
pub fn announce(gatehouse: &Gatehouse, config: &Config) {
    let address = gatehouse.address();
    let port = address.port();
    say!("Gatehouse {} is running. Open one of:", env!("CARGO_PKG_VERSION"));
    if address.ip().is_unspecified() || address.ip().is_loopback() {
        say!("  http://localhost:{port}/   on this machine");
    }
    let others = other_addresses(gatehouse, config);
    for url in &others {
        say!("  {url}");
    }
    if let (Some(first), true) = (others.first(), std::io::stdout().is_terminal())
        && let Ok(code) = QrCode::new(first.as_bytes())
    {
        say!("{}", code.render::<Dense1x2>().quiet_zone(true).build());
    }
    // Where HTTP and media differ, pages may work where no picture arrives.
    let media = config.media_address(address);
    if address.ip().is_loopback() || config.media.listen.is_some() {
        say!("{}", capital(&media.in_words()));
    }
    if let Some(password) = gatehouse.first_password() {
        say!("Log in as {FIRST_ADMIN} with the password  {}  (only shown once).", Secret::expose(password));
        let folder = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
        say!("If you lose the password, reset it with:");
        say!("  gatehouse user passwd {FIRST_ADMIN} --data {}", quoted(&folder.display().to_string()));
    }
    if let Some(authority) = gatehouse.tls().authority() {
        say!(
            "Other machines must install the CA certificate from http://…:{port}/. Its SHA-256 fingerprint is"
        );
        say!("  {}", authority.fingerprint);
    }
    if config.tls.mode == TlsMode::Off && !address.ip().is_loopback() {
        say!("TLS is off: passwords and video can be intercepted, unless a proxy encrypts the connection.");
    }
    if gatehouse.cameras().entries().iter().all(|entry| entry.origin == crate::cameras::Origin::Demo) {
        say!(
            "No camera is configured: showing a simulated one. Add yours on the page, or in a file: see config/gatehouse.toml."
        );
    }
}

/// A text as a word of a shell's command line.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// URLs for other machines. Those that do not trust the local certificate yet start with plain HTTP, which serves
/// the page that explains how to install it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("/var/lib/gatehouse"), "/var/lib/gatehouse");
        assert_eq!(quoted("/home/me/my data"), "'/home/me/my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
