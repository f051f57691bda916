//! ICE over TCP (RFC 6544): a connection to the HTTP port whose first bytes are a framed check. RFC 4571 frames are
//! forwarded to the shard that the check names; what the shard sends is written back. Start at [`serve`].

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;

use crate::media::inbox::ShardHandle;
use crate::media::shard::Control;
use crate::media::transport::path::{ConnectionId, Path, Via};
use crate::media::transport::routes;
use crate::media::transport::socket::{TcpOutgoing, TcpSender};
use crate::media::transport::stun;

/// A viewer sends checks, RTCP and a handshake: nothing near this.
pub const MAX_FRAME: usize = 4096;
/// Consent checks come every few seconds; a connection without is dead.
const READ_LIMIT: Duration = Duration::from_secs(40);
/// Time limit for the first authentic check.
const PROOF_LIMIT: Duration = Duration::from_secs(5);
/// The kernel's send queue must be short, because data in it can no longer be dropped.
const SEND_BUFFER: usize = 256 * 1024;

/// Serves a connection until either side closes it or its peer is removed. `id` is unique for the life of the process.
/// `on_proof` is called once an authentic check shows that it belongs to one of our sessions.
pub async fn serve(
    connection: TcpStream,
    id: ConnectionId,
    shards: &[ShardHandle],
    on_proof: impl FnOnce() + Send,
) {
    let Ok(remote) = connection.peer_addr() else { return };
    let _ = connection.set_nodelay(true);
    let _ = socket2::SockRef::from(&connection).set_send_buffer_size(SEND_BUFFER);
    let path = Path { remote, via: Via::Tcp(id), local: None };
    let (reader, writer) = connection.into_split();
    let (sender, outgoing) = TcpSender::new();
    let proven = outgoing.proven.clone();
    let mut reading = Reading { reader, path, id, sender: Some(sender), shard: None, proven: proven.clone() };
    let proof = async {
        if tokio::time::timeout(PROOF_LIMIT, proven.cancelled()).await.is_ok() {
            on_proof();
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = reading.run(shards) => {}
        () = write(writer, outgoing) => {}
        () = proof => {}
    }
    if let Some(shard) = reading.shard.and_then(|number| shards.get(number)) {
        shard.control(Control::TcpClosed(id));
    }
}

struct Reading {
    reader: OwnedReadHalf,
    path: Path,
    id: ConnectionId,
    sender: Option<TcpSender>,
    shard: Option<usize>,
    proven: CancellationToken,
}

impl Reading {
    async fn run(&mut self, shards: &[ShardHandle]) {
        loop {
            let frame = match tokio::time::timeout(READ_LIMIT, read_frame(&mut self.reader)).await {
                Ok(Some(frame)) => frame,
                _ => return,
            };
            if self.shard.is_none() {
                // The first check assigns the connection to a shard for good; its user name must be one of ours.
                let named = stun::peek_username(&frame).and_then(routes::shard_of);
                let Some(shard) = named.and_then(|number| shards.get(number)) else { return };
                let Some(sender) = self.sender.take() else { return };
                self.shard = named;
                shard.control(Control::TcpOpened(self.id, sender));
            }
            if let Some(shard) = self.shard.and_then(|number| shards.get(number)) {
                shard.datagram(self.path, frame, self.proven.is_cancelled());
            }
        }
    }
}

/// Reads a frame of RFC 4571. `None` if the connection has ended, or the frame is longer than [`MAX_FRAME`].
pub async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = usize::from(reader.read_u16().await.ok()?);
    if length > MAX_FRAME {
        return None;
    }
    let mut frame = vec![0; length];
    reader.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write(mut writer: OwnedWriteHalf, mut outgoing: TcpOutgoing) {
    while let Some(bytes) = outgoing.next().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
        outgoing.written(bytes.len());
    }
}
