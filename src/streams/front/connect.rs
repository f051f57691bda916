//! Opens what the front needs: the connection to a camera, with or without TLS, and ports for its datagrams. Start at
//! [`open`] and [`bind_pair`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use url::Url;

use crate::streams::source::{SourceError, TlsTrust};

/// Timeout for connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Receive buffer for datagrams: a key frame of 4K arrives in one burst.
pub const UDP_BUFFER: usize = 8 << 20;

/// A connection, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that has just been opened.
pub struct Opened {
    /// For reading and writing.
    pub stream: Box<dyn Stream>,
    /// Our end and the camera's.
    pub ends: (SocketAddr, SocketAddr),
    /// The SHA-256 of its certificate.
    pub fingerprint: Option<String>,
}

/// Connects to a camera.
///
/// # Errors
/// Unreachable, silent, or its certificate is not accepted.
pub async fn open(url: &Url, tls: TlsTrust) -> Result<Opened, SourceError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_secure = url.scheme() == "rtsps";
    let port = url.port().unwrap_or(if is_secure { 322 } else { 554 });
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect((host, port))).await;
    let unreachable = |text: &dyn std::fmt::Display| {
        SourceError::away("camera_unreachable", format!("cannot connect to {host}:{port}: {text}"))
    };
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&format!("no answer within {} s", CONNECT_LIMIT.as_secs()))),
    };
    let _ = stream.set_nodelay(true);
    let ends = (stream.local_addr(), stream.peer_addr());
    let (Ok(local), Ok(peer)) = ends else { return Err(unreachable(&"the connection is gone")) };
    if !is_secure {
        return Ok(Opened { stream: Box::new(stream), ends: (local, peer), fingerprint: None });
    }
    let shaken = tokio::time::timeout(CONNECT_LIMIT, super::tls::connect(stream, host, tls)).await;
    let stream = shaken.unwrap_or_else(|_| Err(unreachable(&"no answer to the TLS handshake")))?;
    let fingerprint = super::tls::fingerprint_of(&stream);
    Ok(Opened { stream: Box::new(stream), ends: (local, peer), fingerprint })
}

/// The receive buffer that the system has granted; Linux tells twice the usable size (socket(7)).
pub fn receive_buffer(socket: &UdpSocket) -> Option<usize> {
    socket2::SockRef::from(socket).recv_buffer_size().ok().map(|size| size / 2)
}

/// Two sockets with neighbouring ports, the first one even (RFC 3550 §11).
///
/// # Errors
/// There are none.
pub fn bind_pair(local: SocketAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let bind = |port: u16| -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(local.ip(), port))?;
        socket.set_nonblocking(true)?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER);
        UdpSocket::from_std(socket)
    };
    for _ in 0..64 {
        let first = bind(0)?;
        let port = first.local_addr()?.port();
        if port % 2 == 0
            && let Ok(second) = bind(port + 1)
        {
            return Ok((first, second));
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
