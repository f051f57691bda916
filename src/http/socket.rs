//! `/api/ws`: the page's line to the server. It says when the login has ended, at once; more is to come.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::error::ApiError;
use crate::accounts::credentials::Caller;
use crate::rights::SocketGuard;

/// The protocol's name.
const PROTOCOL: &str = "gatehouse.v1";
/// A client's frame.
const MAX_FRAME: usize = 64 * 1024;
const READ_BUFFER: usize = 4096;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Without a sign of life for this long the other side is gone.
const DEAD: Duration = Duration::from_secs(45);
/// The login that the socket rests on has ended.
const CLOSE_LOGIN_ENDED: u16 = 4401;

/// Opens the socket.
pub async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade
        .map_err(|_| ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket", "this is a WebSocket"))?;
    let credential = caller.credential().ok_or_else(|| super::guard::unauthorized("log in first"))?;
    let guard = app.rights.socket(credential);
    let name = caller.actor();
    // It may have been ended between the check and the list.
    if app.accounts.behind(credential).await?.is_none() {
        return Err(super::guard::unauthorized("log in first"));
    }
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| run(socket, guard, name)).into_response())
}

async fn run(mut socket: WebSocket, guard: SocketGuard, name: String) {
    let welcome = json!({ "type": "welcome", "body": { "user": name } }).to_string();
    if socket.send(Message::Text(welcome.into())).await.is_err() {
        return;
    }
    let mut ping = tokio::time::interval(PING_INTERVAL);
    let mut heard = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = guard.end.cancelled() => {
                let frame = CloseFrame { code: CLOSE_LOGIN_ENDED, reason: "login_ended".into() };
                let _ = socket.send(Message::Close(Some(frame))).await;
                return;
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => heard = tokio::time::Instant::now(),
            },
            _ = ping.tick() => {
                if heard.elapsed() > DEAD || socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                    return;
                }
            }
        }
    }
}
