//! `/api/ws`: the page's line to the server, for signaling. It carries frames between a socket and the switchboard,
//! keeps it alive, and closes it when its login has ended. What frames mean is `signaling`'s.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use crate::accounts::credentials::Caller;
use crate::rights::SocketGuard;
use crate::signaling::CLOSE_LOGIN_ENDED;
use crate::signaling::driver::{Outgoing, Switchboard};

/// The protocol's name.
const PROTOCOL: &str = "gatehouse.v1";
/// A client's frame.
const MAX_FRAME: usize = 64 * 1024;
const READ_BUFFER: usize = 4096;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Without a sign of life for this long the other side is gone.
const DEAD: Duration = Duration::from_secs(45);
/// RFC 6455 §7.4.1: data of a kind that is not taken.
const CLOSE_NOT_TEXT: u16 = 1003;
/// The client does not read.
const CLOSE_TOO_SLOW: u16 = 4413;
/// For a frame to be taken by the system.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Opens the socket.
pub async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade
        .map_err(|_| ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket", "this is a WebSocket"))?;
    let credential = caller.credential().ok_or_else(|| super::guard::unauthorized("log in first"))?;
    let name = caller.actor();
    let guard = app.rights.socket(credential, name.clone());
    // It may have been ended between the check and the list.
    if app.accounts.behind(credential).await?.is_none() {
        return Err(super::guard::unauthorized("log in first"));
    }
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| run(socket, guard, app.switchboard, name)).into_response())
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
                Some(Outgoing::Text(text)) => send(&mut socket, Message::Text((*text).into())).await,
                Some(Outgoing::Close(code, word)) => return close(&mut socket, code, word).await,
                // It did not keep up: what it missed it gets when it resumes.
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

/// Whether it could be sent in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_LIMIT, socket.send(message)).await, Ok(Ok(())))
}

async fn close(socket: &mut WebSocket, code: u16, word: &'static str) {
    let frame = CloseFrame { code, reason: word.into() };
    send(socket, Message::Close(Some(frame))).await;
}
