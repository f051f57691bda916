//! `/api/ws`: the page's signaling WebSocket. It carries frames between the socket and the switchboard, keeps the
//! connection alive, and closes it when its login ends. The frames themselves are handled in `signaling`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::SinkExt;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::proxies::{Mistake, shown};
use super::serve::Place;
use super::{App, Connection};
use crate::accounts::credentials::Caller;
use crate::sessions::registry::SocketGuard;
use crate::signaling::CLOSE_LOGIN_ENDED;
use crate::signaling::driver::{Outgoing, Switchboard};

/// The WebSocket subprotocol.
const PROTOCOL: &str = "gatehouse.v1";
/// Largest frame from a client, in bytes.
const MAX_FRAME: usize = 64 * 1024;
/// Read buffer of each open socket, in bytes. A frame with an offer fits.
const READ_BUFFER: usize = 2048;
/// Buffered output beyond this size is written immediately.
const WRITE_BUFFER: usize = 2048;
/// Frames that are written before the socket is read again.
const BATCH: usize = 64;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// After this long without any frame the peer is considered gone.
const DEAD: Duration = Duration::from_secs(45);
/// RFC 6455 §7.4.1: unsupported data type.
const CLOSE_NOT_TEXT: u16 = 1003;
/// The client does not read.
const CLOSE_TOO_SLOW: u16 = 4413;
/// Timeout for writing a frame.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Opens the socket.
pub async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(place): Extension<Arc<Place>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| {
        // Proxies remove what concerns one connection, but not the rest of the handshake (RFC 6455 §4.1).
        if headers.contains_key(header::SEC_WEBSOCKET_KEY) {
            let seen = shown(&headers, "upgrade");
            app.proxies.report(Mistake::WebSocket, connection.peer.ip(), &seen);
        }
        ApiError::new(StatusCode::UPGRADE_REQUIRED, Mistake::WebSocket.code(), "WebSocket required")
    })?;
    let credential = caller.credential().ok_or_else(|| ApiError::unauthorized("log in first"))?;
    let name = caller.actor();
    let guard = app.sessions.registry().socket(credential, name.clone());
    // The login may have ended between the guard's check and this registration.
    if app.accounts.behind(credential).await?.is_none() {
        return Err(ApiError::unauthorized("log in first"));
    }
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
    let run = move |socket| async move {
        run(socket, guard, app.switchboard, name).await;
        drop(place);
    };
    Ok(upgrade.on_upgrade(run).into_response())
}

async fn run(mut socket: WebSocket, guard: SocketGuard, switchboard: Switchboard, name: String) {
    let mut line = switchboard.open(&name).await;
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut heard = tokio::time::Instant::now();
    loop {
        let sent = tokio::select! {
            () = guard.end.cancelled() => {
                line.for_good = true;
                return close(&mut socket, CLOSE_LOGIN_ENDED, "login_ended").await;
            }
            message = socket.recv() => {
                heard = tokio::time::Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => line.frame(text.to_string()).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Binary(_))) => return close(&mut socket, CLOSE_NOT_TEXT, "text_only").await,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
                true
            }
            outgoing = line.outgoing.recv() => match outgoing {
                Some(first) => match deliver(&mut socket, first, &mut line.outgoing).await {
                    Ok(None) => true,
                    Ok(Some((code, word))) => return close(&mut socket, code, word).await,
                    Err(_) => return,
                },
                // The client was too slow: it receives what it missed when it resumes.
                None => return close(&mut socket, CLOSE_TOO_SLOW, "too_slow").await,
            },
            _ = ping.tick() => {
                if heard.elapsed() > DEAD {
                    return;
                }
                send(&mut socket, Message::Ping(Vec::new().into())).await
            }
        };
        if !sent {
            return;
        }
    }
}

/// Writes the queued frames in as few writes as possible. Returns code and reason if the socket is to be closed.
async fn deliver(
    socket: &mut WebSocket,
    first: Outgoing,
    waiting: &mut mpsc::Receiver<Outgoing>,
) -> Result<Option<(u16, &'static str)>, axum::Error> {
    let mut next = Some(first);
    for left in (0..BATCH).rev() {
        match next {
            Some(Outgoing::Text(text)) => feed(socket, &text).await?,
            Some(Outgoing::Texts(texts)) => {
                for text in texts.iter() {
                    feed(socket, text).await?;
                }
            }
            Some(Outgoing::Close(code, word)) => return Ok(Some((code, word))),
            None => break,
        }
        next = if left > 0 { waiting.try_recv().ok() } else { None };
    }
    tokio::time::timeout(SEND_LIMIT, socket.flush()).await.map_err(axum::Error::new)??;
    Ok(None)
}

/// Writes a frame, or buffers it to be written together with others.
async fn feed(socket: &mut WebSocket, text: &str) -> Result<(), axum::Error> {
    let feeding = socket.feed(Message::Text(text.into()));
    tokio::time::timeout(SEND_LIMIT, feeding).await.map_err(axum::Error::new)?
}

/// Sends a message; `false` on an error or timeout.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_LIMIT, socket.send(message)).await, Ok(Ok(())))
}

async fn close(socket: &mut WebSocket, code: u16, word: &'static str) {
    let frame = CloseFrame { code, reason: word.into() };
    send(socket, Message::Close(Some(frame))).await;
}
