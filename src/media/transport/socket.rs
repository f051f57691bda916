//! Where datagrams leave: one UDP socket for all peers, with segmentation offload (GSO) where the kernel has it,
//! and the TCP connections of peers that cannot do UDP. Sending never waits: what does not fit is dropped.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::media::transport::path::{ConnectionId, Path, Via};

/// Bytes that may wait for a peer's TCP connection: a second and a half of 4 Mbit/s.
const TCP_BACKLOG: usize = 768 * 1024;
/// What the kernel may hold for us.
const SEND_BUFFER: usize = 8 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// The UDP socket that all peers share.
pub struct MediaSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl MediaSocket {
    /// Binds it.
    ///
    /// # Errors
    /// The port is taken.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        // As much as the system grants; more than its maximum is not an error worth stopping for.
        let _ = state.set_send_buffer_size((&socket).into(), SEND_BUFFER);
        let _ = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state })
    }

    /// Its address.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many packets one call may carry.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments().clamp(1, 64)
    }

    /// Sends packets that lie one behind the other, all of `segment` bytes but for a shorter last one.
    ///
    /// # Errors
    /// The kernel has no room, or knows no way there.
    pub fn send(
        &self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        data: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let max = self.max_segments() * segment;
        for contents in data.chunks(max) {
            let segment_size = (contents.len() > segment).then_some(segment);
            let transmit = Transmit { destination: remote, ecn: None, contents, segment_size, src_ip: local };
            // Without `try_io` the runtime need not be asked: the socket is non-blocking, and never waited for.
            self.state.try_send((&self.socket).into(), &transmit)?;
        }
        Ok(())
    }

    /// Waits for datagrams and hands each to `take`, with its sender and the address of ours it was sent to.
    ///
    /// # Errors
    /// The socket is broken.
    pub async fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        mut take: impl FnMut(Path, &[u8]),
    ) -> io::Result<()> {
        let count = self
            .socket
            .async_io(Interest::READABLE, || {
                let slices = buffers.data.iter_mut().map(|buffer| io::IoSliceMut::new(buffer));
                let mut slices: Vec<io::IoSliceMut<'_>> = slices.collect();
                self.state.recv((&self.socket).into(), &mut slices, &mut buffers.metas)
            })
            .await?;
        for (meta, buffer) in buffers.metas.iter().zip(&buffers.data).take(count) {
            let path = Path { remote: meta.addr, via: Via::Udp, local: meta.dst_ip };
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                take(path, datagram);
            }
        }
        Ok(())
    }
}

/// Room for datagrams that arrive together.
pub struct ReceiveBuffers {
    data: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        let count = quinn_udp::BATCH_SIZE;
        // GRO puts up to 64 KiB into one.
        Self { data: vec![vec![0; 65_536]; count], metas: vec![RecvMeta::default(); count] }
    }
}

/// The writing half of an ICE-TCP connection, as a shard holds it.
#[derive(Clone)]
pub struct TcpSender {
    frames: mpsc::UnboundedSender<Bytes>,
    backlog: Arc<AtomicUsize>,
    proven: CancellationToken,
}

/// Its other end, for the task that writes.
pub struct TcpOutgoing {
    frames: mpsc::UnboundedReceiver<Bytes>,
    backlog: Arc<AtomicUsize>,
    /// Cancelled once a check with the right password has come.
    pub proven: CancellationToken,
}

impl TcpSender {
    /// A queue bounded in bytes.
    pub fn new() -> (Self, TcpOutgoing) {
        let (sender, frames) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let proven = CancellationToken::new();
        let outgoing = TcpOutgoing { frames, backlog: backlog.clone(), proven: proven.clone() };
        (Self { frames: sender, backlog, proven }, outgoing)
    }

    /// Whether so much waits that media should be left out.
    pub fn is_congested(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > TCP_BACKLOG / 2
    }

    /// Queues packets of `segment` bytes (a shorter last one), each in a frame of RFC 4571.
    fn send(&self, data: &[u8], segment: usize) -> io::Result<()> {
        let count = data.len().div_ceil(segment);
        let size = data.len() + 2 * count;
        if self.backlog.load(Ordering::Relaxed) + size > TCP_BACKLOG {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut out = BytesMut::with_capacity(size);
        for packet in data.chunks(segment) {
            out.put_u16(packet.len() as u16);
            out.extend_from_slice(packet);
        }
        self.backlog.fetch_add(size, Ordering::Relaxed);
        self.frames.send(out.freeze()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl TcpOutgoing {
    /// The next bytes to write. [`Self::written`] must follow.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.frames.recv().await
    }

    /// They are with the kernel.
    pub fn written(&self, bytes: usize) {
        self.backlog.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// All ways out of one shard.
pub struct Egress {
    socket: Arc<MediaSocket>,
    tcp: HashMap<ConnectionId, TcpSender>,
    /// Runs that the kernel or a TCP backlog had no room for.
    pub dropped: u64,
}

impl Egress {
    /// With no TCP connections yet.
    pub fn new(socket: Arc<MediaSocket>) -> Self {
        Self { socket, tcp: HashMap::new(), dropped: 0 }
    }

    /// A TCP connection has come.
    pub fn add_tcp(&mut self, id: ConnectionId, sender: TcpSender) {
        self.tcp.insert(id, sender);
    }

    /// It is gone.
    pub fn remove_tcp(&mut self, id: ConnectionId) {
        self.tcp.remove(&id);
    }

    /// What came on a path was made with the right password. A TCP connection's address cannot be forged: it stays
    /// open as long as its peer exists.
    pub fn tcp_is_proven(&self, via: Via) {
        if let Via::Tcp(id) = via
            && let Some(tcp) = self.tcp.get(&id)
        {
            tcp.proven.cancel();
        }
    }

    /// Whether media for this path should be left out for now.
    pub fn is_congested(&self, path: &Path) -> bool {
        match path.via {
            Via::Udp => false,
            Via::Tcp(id) => self.tcp.get(&id).is_none_or(TcpSender::is_congested),
        }
    }

    /// Sends one datagram.
    pub fn send(&mut self, path: &Path, data: &[u8]) {
        self.send_gso(path, data, data.len());
    }

    /// Sends packets of equal size, but for a shorter last one.
    pub fn send_gso(&mut self, path: &Path, data: &[u8], segment: usize) {
        if data.is_empty() {
            return;
        }
        let result = match path.via {
            Via::Udp => self.socket.send(path.remote, path.local, data, segment),
            Via::Tcp(id) => match self.tcp.get(&id) {
                Some(tcp) => tcp.send(data, segment),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        };
        self.dropped += u64::from(result.is_err());
    }

    /// The most packets for one run.
    pub fn max_segments(&self) -> usize {
        self.socket.max_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_arrive_as_single_datagrams() {
        let from = Arc::new(MediaSocket::bind(([127, 0, 0, 1], 0).into()).unwrap());
        let to = MediaSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let path = Path { remote: to.local_addr().unwrap(), via: Via::Udp, local: None };
        let mut egress = Egress::new(from);
        let data: Vec<u8> = (0..950u32).map(|i| (i / 100) as u8).collect();
        egress.send_gso(&path, &data, 100);
        let mut received = Vec::new();
        let mut buffers = ReceiveBuffers::default();
        while received.len() < 10 {
            to.receive(&mut buffers, |_, datagram| received.push(datagram.to_vec())).await.unwrap();
        }
        let expected: Vec<Vec<u8>> = data.chunks(100).map(<[u8]>::to_vec).collect();
        assert_eq!(received, expected);
    }

    #[tokio::test]
    async fn a_tcp_backlog_is_bounded() {
        let (sender, mut outgoing) = TcpSender::new();
        let mut accepted = 0;
        while sender.send(&[0; 5000], 1000).is_ok() {
            accepted += 5010;
        }
        assert!(accepted <= TCP_BACKLOG && sender.is_congested());
        let first = outgoing.next().await.unwrap();
        assert_eq!(first[..3], [3, 0xe8, 0]);
        outgoing.written(first.len());
        assert!(sender.send(&[0; 5000], 1000).is_ok());
    }
}
