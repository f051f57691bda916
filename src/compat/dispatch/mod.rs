//! The dispatch demo with numeric codes, on `/ws`: `protocol` is the pure part, this file its connections. Media goes
//! directly between the pages. Start at [`Dispatch::open`].

mod protocol;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::WebSocket;
use tracing::error;

use super::clients::Client;
use super::socket::{self, Handler, Line};
use crate::compartment;
use protocol::{Conn, Outgoing, Rooms};

#[derive(Default)]
struct State {
    rooms: Rooms,
    lines: HashMap<Conn, Line>,
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Dispatch {
    state: Arc<Mutex<State>>,
}

struct Connection {
    dispatch: Dispatch,
    client: Client,
}

impl Dispatch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a socket until it closes.
    pub async fn open(self, socket: WebSocket, client: Client) {
        let (line, queue) = socket::line();
        let (id, end) = (client.id, client.end.clone());
        self.lock().lines.insert(id, line.clone());
        let mut connection = Connection { dispatch: self.clone(), client };
        socket::run(socket, &line, queue, &end, &mut connection).await;
        let sent = {
            let mut state = self.lock();
            state.lines.remove(&id);
            state.rooms.closed(id)
        };
        self.deliver(sent).await;
    }

    async fn deliver(&self, sent: Vec<Outgoing>) {
        for (to, text) in sent {
            let line = self.lock().lines.get(&to).cloned();
            if let Some(line) = line {
                line.send(text.into()).await;
            }
        }
    }
}

impl Handler for Connection {
    async fn frame(&mut self, text: Option<&str>) {
        let id = self.client.id;
        let handled = {
            let mut state = self.dispatch.lock();
            let sent = compartment::run(|| state.rooms.receive(id, text.unwrap_or_default()));
            let (name, room) = state.rooms.seat_of(id).unwrap_or_default();
            self.client.describe(name, room);
            sent
        };
        match handled {
            Ok(sent) => self.dispatch.deliver(sent).await,
            Err(panicked) => {
                error!(code = "internal", client = id, "dispatch: a client is disconnected: {panicked}");
                self.client.end.cancel();
            }
        }
    }
}
