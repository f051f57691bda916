//! The PROXY protocol, versions 1 and 2: a proxy that forwards TCP connections begins each with a header that names the
//! client. Only trusted proxies are listened to, see `serve`. The format is parsed by the `ppp` crate. Start at
//! [`read`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Largest header. Version 1 has at most 107 bytes, version 2 at least 16, and some proxies append extensions.
const MAX: usize = 2048;

/// Reads the header; returns the client's address, or `None` if the proxy speaks for itself, as for health checks, or
/// does not know the client.
///
/// # Errors
/// The header is invalid, too long, or the connection ends.
pub async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, String> {
    let mut buffer = [0; MAX];
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut buffer).await.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the connection ended".into());
        }
        if let Some((length, client)) = parse(&buffer[..count])? {
            stream.read_exact(&mut buffer[..length]).await.map_err(|error| error.to_string())?;
            return Ok(client);
        }
        if count == MAX {
            return Err("the header is too long".into());
        }
        // `peek` returns immediately while any byte is buffered: sleep instead of spinning.
        if count == seen {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen = count;
    }
}

/// Length and client of a header; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<SocketAddr>)>, String> {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() {
        return Ok(None);
    }
    match result {
        HeaderResult::V1(Ok(header)) => Ok(Some((header.header.len(), client_v1(&header.addresses)))),
        HeaderResult::V2(Ok(header)) => {
            let client = match header.command {
                v2::Command::Local => None,
                v2::Command::Proxy => client_v2(&header.addresses),
            };
            Ok(Some((header.len(), client)))
        }
        HeaderResult::V1(Err(error)) => Err(error.to_string()),
        HeaderResult::V2(Err(error)) => Err(error.to_string()),
    }
}

fn client_v1(addresses: &v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Tcp4(tcp) => Some(SocketAddr::new(IpAddr::V4(tcp.source_address), tcp.source_port)),
        v1::Addresses::Tcp6(tcp) => Some(SocketAddr::new(IpAddr::V6(tcp.source_address), tcp.source_port)),
        v1::Addresses::Unknown => None,
    }
}

fn client_v2(addresses: &v2::Addresses) -> Option<SocketAddr> {
    match addresses {
        v2::Addresses::IPv4(ip) => Some(SocketAddr::new(IpAddr::V4(ip.source_address), ip.source_port)),
        v2::Addresses::IPv6(ip) => Some(SocketAddr::new(IpAddr::V6(ip.source_address), ip.source_port)),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[0x20 | command, family], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    #[test]
    fn headers_of_both_versions() {
        let address = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let tcp4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x20, 0xfb];
        let with_extension = [&tcp4[..], &[0x04, 0, 1, 0]].concat();
        let table: Vec<(Vec<u8>, Option<SocketAddr>)> = vec![
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 8443\r\n".to_vec(), address("192.0.2.1:4660")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 4660 8443\r\n".to_vec(), address("[2001:db8::1]:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(1, 0x11, &tcp4), address("192.0.2.1:4660")),
            (version_2(1, 0x11, &with_extension), address("192.0.2.1:4660")),
            (version_2(0, 0, &[]), None),
        ];
        for (bytes, expected) in table {
            for cut in 0..bytes.len() {
                let partial = parse(&bytes[..cut]);
                assert!(!matches!(partial, Ok(Some(_))), "{cut} bytes of {bytes:02x?}: {partial:?}");
            }
            let with_more = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&with_more), Ok(Some((bytes.len(), expected))), "{bytes:02x?}");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b"PROXY TCP4 a b c d\r\n"[..], b"PROXZ TCP4\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
