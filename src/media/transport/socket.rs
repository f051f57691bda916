//! The sockets: one UDP socket for all peers, with segmentation offload (GSO) if the kernel supports it, and the TCP
//! connections of peers that cannot use UDP. Sending never blocks: what does not fit is dropped. Start at [`Egress`].

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

/// Bytes that may be queued for a peer's TCP connection: a second and a half at 4 Mbit/s.
const TCP_BACKLOG: usize = 768 * 1024;
/// Kernel buffer sizes that are requested for the UDP socket.
const SEND_BUFFER: usize = 8 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// The UDP socket that all peers share.
pub struct MediaSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl MediaSocket {
    /// Binds the socket.
    ///
    /// # Errors
    /// The socket cannot be bound, for example because the port is in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        // The system may grant less; that is no reason to fail.
        let _ = state.set_send_buffer_size((&socket).into(), SEND_BUFFER);
        let _ = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The system call fails.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The maximum number of packets per system call.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments().clamp(1, 64)
    }

    /// Sends consecutive packets of `segment` bytes each; the last one may be shorter.
    ///
    /// # Errors
    /// The kernel's buffer is full, or the address is unreachable.
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
            // No `try_io`: the socket is non-blocking, and nothing ever waits for it to become writable.
            self.state.try_send((&self.socket).into(), &transmit)?;
        }
        Ok(())
    }

    /// Waits for datagrams and passes each to `take`, with its sender and the local address it was sent to.
    ///
    /// # Errors
    /// The system call fails; on Linux also after an ICMP error for an earlier datagram.
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

/// Buffers for a batch of received datagrams.
pub struct ReceiveBuffers {
    data: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        let count = quinn_udp::BATCH_SIZE;
        // GRO coalesces up to 64 KiB into one buffer.
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
    /// Cancelled once an authentic check has arrived.
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

    /// Whether so much is queued that media should be skipped.
    pub fn is_congested(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > TCP_BACKLOG / 2
    }

    /// Queues packets of `segment` bytes each (the last one may be shorter), framed according to RFC 4571.
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

    /// Records that these bytes were passed to the kernel.
    pub fn written(&self, bytes: usize) {
        self.backlog.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// All sending sides of one shard.
pub struct Egress {
    socket: Arc<MediaSocket>,
    tcp: HashMap<ConnectionId, TcpSender>,
    /// Batches dropped because sending failed or the TCP backlog was full.
    pub dropped: u64,
}

impl Egress {
    /// Without TCP connections yet.
    pub fn new(socket: Arc<MediaSocket>) -> Self {
        Self { socket, tcp: HashMap::new(), dropped: 0 }
    }

    /// Adds a TCP connection.
    pub fn add_tcp(&mut self, id: ConnectionId, sender: TcpSender) {
        self.tcp.insert(id, sender);
    }

    /// Removes a TCP connection, which closes it.
    pub fn remove_tcp(&mut self, id: ConnectionId) {
        self.tcp.remove(&id);
    }

    /// Marks a TCP connection as proven after an authentic message: its address cannot be forged. It then stays open as
    /// long as its peer exists.
    pub fn tcp_is_proven(&self, via: Via) {
        if let Via::Tcp(id) = via
            && let Some(tcp) = self.tcp.get(&id)
        {
            tcp.proven.cancel();
        }
    }

    /// Whether media for this path should be skipped for now.
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

    /// Sends packets of equal size; the last one may be shorter.
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

    /// The maximum number of packets per batch.
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
