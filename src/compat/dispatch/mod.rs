//! The dispatch demo with numeric codes, on `/ws`: `protocol` is the pure part, this file its connections. Media goes
//! directly between the pages. Start at [`Dispatch::open`].

mod protocol;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::WebSocket;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::clients::Client;
use super::socket::{self, Handler, Line};
use crate::compartment;
use protocol::{Conn, Outgoing, Rooms};

/// A connected page.
struct Page {
    line: Line,
    client: Client,
}

#[derive(Default)]
struct State {
    rooms: Rooms,
    pages: HashMap<Conn, Page>,
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Dispatch {
    state: Arc<Mutex<State>>,
}

struct Connection {
    dispatch: Dispatch,
    id: Conn,
    end: CancellationToken,
}

impl State {
    /// Says in the list of clients where those who are sent something are now.
    fn describe(&self, sent: &[Outgoing]) {
        for (conn, _) in sent {
            if let Some(page) = self.pages.get(conn) {
                let (name, room) = self.rooms.seat_of(*conn).unwrap_or_default();
                page.client.describe(name, room);
            }
        }
    }
}

impl Dispatch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a socket until it closes.
    pub async fn open(self, socket: WebSocket, client: Client) {
        let (line, queue) = socket::line();
        let (id, end) = (client.id, client.end.clone());
        self.lock().pages.insert(id, Page { line: line.clone(), client });
        let mut connection = Connection { dispatch: self.clone(), id, end: end.clone() };
        socket::run(socket, &line, queue, &end, &mut connection).await;
        let sent = {
            let mut state = self.lock();
            state.pages.remove(&id);
            let sent = state.rooms.closed(id);
            state.describe(&sent);
            sent
        };
        self.deliver(sent).await;
    }

    async fn deliver(&self, sent: Vec<Outgoing>) {
        for (to, text) in sent {
            let line = self.lock().pages.get(&to).map(|page| page.line.clone());
            if let Some(line) = line {
                line.send(text.into()).await;
            }
        }
    }
}

impl Handler for Connection {
    async fn frame(&mut self, text: Option<&str>) {
        let id = self.id;
        let handled = {
            let mut state = self.dispatch.lock();
            let handled = compartment::run(|| state.rooms.receive(id, text.unwrap_or_default()));
            handled.inspect(|sent| state.describe(sent))
        };
        match handled {
            Ok(sent) => self.dispatch.deliver(sent).await,
            Err(panicked) => {
                error!(code = "internal", client = id, "dispatch: a client is disconnected: {panicked}");
                self.end.cancel();
            }
        }
    }
}
