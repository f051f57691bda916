//! The async runtime that our WHEP client runs on: tokio's, but with UDP sockets that let no DTLS datagram through
//! that [`Screen`] has not admitted. A hostile server must not reach rtc's DTLS with what it likes.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::dtls_screen::Screen;

/// Datagrams of 1,500 bytes for which the driver provides a buffer: a handshake message that the screen has put
/// together, of at most 16 KiB, fits.
const BUFFER_SEGMENTS: usize = 12;

/// See the module.
#[derive(Debug)]
pub struct ScreenedRuntime(pub TokioRuntime);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for ScreenedRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.0.spawn(future)
    }

    fn spawn_reactor(&self, pool: usize, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.0.spawn_reactor(pool, future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        Ok(Arc::new(ScreenedSocket { socket: UdpSocket::from_std(socket)?, screen: Mutex::default() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.0.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.0.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.0.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.0.block_on(future);
    }

    fn name(&self) -> &'static str {
        "screened tokio"
    }
}

/// One datagram a read: without GRO, since what the screen returns may be longer than what came.
#[derive(Debug)]
struct ScreenedSocket {
    socket: UdpSocket,
    /// One for the socket: there is one DTLS association on it, from whichever address.
    screen: Mutex<Screen>,
}

impl AsyncUdpSocket for ScreenedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let mut read = ReadBuf::new(buffer);
            let from = ready!(self.socket.poll_recv_from(cx, &mut read))?;
            let length = read.filled().len();
            let admitted = match buffer.first() {
                Some(20..=63) if length > 0 => self.screen(buffer, length),
                _ => length,
            };
            if admitted == 0 {
                continue;
            }
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, admitted, admitted);
            return Poll::Ready(Ok(1));
        }
    }

    fn max_gro_segments(&self) -> usize {
        BUFFER_SEGMENTS
    }
}

impl ScreenedSocket {
    /// Replaces a datagram by what of it is admitted; returns its length, 0 if it is nothing.
    fn screen(&self, buffer: &mut [u8], length: usize) -> usize {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        match screen.admit(&buffer[..length]) {
            Some(admitted) if admitted.len() <= buffer.len() => {
                buffer[..admitted.len()].copy_from_slice(&admitted);
                admitted.len()
            }
            _ => 0,
        }
    }
}
