//! WebSockets of the older systems, which are text frames without a subprotocol and without a heartbeat. It carries
//! texts, within limits, and knows no protocol. A sender that is too fast is slowed down rather than cut off; so is
//! one whose receiver does not keep up, since these protocols do not survive a lost message. Start at [`run`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::token_bucket::TokenBucket;

/// Largest frame from a client, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// Read and write buffers of each socket, in bytes.
const BUFFER: usize = 2048;
/// A client's frames per second, sustained, and at once.
const FRAMES_PER_SECOND: u32 = 20;
const FRAMES_AT_ONCE: u32 = 60;
/// Capacity of the outgoing queue, in frames.
const OUTGOING: usize = 64;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// After this long without any frame the peer is considered gone.
const DEAD: Duration = Duration::from_secs(45);
/// Timeout for writing a frame, and for a place in the queue of a receiver.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// RFC 6455 §7.4.1: closed by the server's administrator.
const CLOSE_POLICY: u16 = 1008;

/// The way to a client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    outgoing: mpsc::Sender<Arc<str>>,
    slow: CancellationToken,
}

impl Line {
    /// Sends a text. Waits while the client does not keep up; one that takes too long is disconnected.
    pub async fn send(&self, text: Arc<str>) {
        let sending = self.outgoing.send_timeout(text, SEND_LIMIT);
        if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = sending.await {
            self.slow.cancel();
        }
    }
}

/// What handles a connection's frames.
pub trait Handler: Send {
    /// A text, or `None` for a frame that is no text.
    fn frame(&mut self, text: Option<&str>) -> impl Future<Output = ()> + Send;
}

/// Prepares an upgrade; `None` if the request asks for no WebSocket.
pub async fn upgrade(parts: &mut Parts) -> Option<WebSocketUpgrade> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await.ok()?;
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Some(upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER))
}

/// The queue to a client that [`run`] will serve.
pub fn line() -> (Line, mpsc::Receiver<Arc<str>>) {
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    (Line { outgoing, slow: CancellationToken::new() }, queue)
}

/// Serves a connection until it ends, or `end`.
pub async fn run(
    socket: WebSocket,
    line: &Line,
    queue: mpsc::Receiver<Arc<str>>,
    end: &CancellationToken,
    handler: &mut impl Handler,
) {
    let (sink, stream) = socket.split();
    // Two directions that do not wait for each other: two clients that only write would block each other for ever.
    tokio::select! {
        () = write(sink, queue, end) => {}
        () = read(stream, handler) => {}
        () = line.slow.cancelled() => {}
    }
}

async fn read(mut stream: SplitStream<WebSocket>, handler: &mut impl Handler) {
    let mut allowance = TokenBucket::new(FRAMES_AT_ONCE, FRAMES_PER_SECOND, Duration::from_secs(1));
    loop {
        let Ok(Some(Ok(message))) = tokio::time::timeout(DEAD, stream.next()).await else { return };
        match &message {
            Message::Text(text) => handler.frame(Some(text)).await,
            Message::Binary(_) => handler.frame(None).await,
            // The next read sends the answer to a close, then ends.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
        if !allowance.take(Instant::now()) {
            tokio::time::sleep(allowance.wait(Instant::now())).await;
            allowance.take(Instant::now());
        }
    }
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<Arc<str>>,
    end: &CancellationToken,
) {
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    loop {
        let message = tokio::select! {
            () = end.cancelled() => {
                let frame = CloseFrame { code: CLOSE_POLICY, reason: "disconnected".into() };
                let _ = tokio::time::timeout(SEND_LIMIT, sink.send(Message::Close(Some(frame)))).await;
                return;
            }
            text = queue.recv() => match text {
                Some(text) => Message::Text((&*text).into()),
                None => return,
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        if !matches!(tokio::time::timeout(SEND_LIMIT, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}
