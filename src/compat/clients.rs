//! The clients of older systems that are connected: for Administration, which lists and disconnects them. It admits
//! within a limit for each mode, and knows no protocol. Start at [`Clients::enter`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::accounts::credentials::address_text;
use crate::accounts::millis;
use crate::config::Mode;

/// Connected clients of each mode.
const MAX_CLIENTS: usize = 10_000;

struct Entry {
    mode: Mode,
    name: String,
    room: String,
    address: IpAddr,
    since: SystemTime,
    end: CancellationToken,
}

/// A client as Administration shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ClientView {
    /// Its number, for disconnecting it.
    pub id: u64,
    /// The mode's key.
    pub mode: &'static str,
    /// What it calls itself, or nothing.
    pub name: String,
    /// The room that it is in, or nothing.
    pub room: String,
    /// Where it comes from.
    pub address: String,
    /// Milliseconds since 1970.
    pub since: i64,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients {
    state: Arc<Mutex<State>>,
}

/// A connected client. Dropping it takes it off the list.
pub struct Client {
    clients: Clients,
    /// Its number, which is never used again.
    pub id: u64,
    /// Cancelled when it is to be disconnected.
    pub end: CancellationToken,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a client, unless its mode has too many.
    pub fn enter(&self, mode: Mode, address: IpAddr, now: SystemTime) -> Option<Client> {
        let mut state = self.lock();
        if state.entries.values().filter(|entry| entry.mode == mode).count() >= MAX_CLIENTS {
            return None;
        }
        state.next += 1;
        let (id, end) = (state.next, CancellationToken::new());
        let (name, room) = (String::new(), String::new());
        let entry = Entry { mode, name, room, address, since: now, end: end.clone() };
        state.entries.insert(id, entry);
        Some(Client { clients: self.clone(), id, end })
    }

    /// All of them, in the order of their arrival.
    pub fn list(&self) -> Vec<ClientView> {
        let view = |(id, entry): (&u64, &Entry)| ClientView {
            id: *id,
            mode: entry.mode.key(),
            name: entry.name.clone(),
            room: entry.room.clone(),
            address: address_text(Some(entry.address)),
            since: millis(entry.since),
        };
        self.lock().entries.iter().map(view).collect()
    }

    /// Disconnects a client. Returns its mode and name; `None` if there is no such client.
    pub fn disconnect(&self, id: u64) -> Option<(Mode, String)> {
        let state = self.lock();
        let entry = state.entries.get(&id)?;
        entry.end.cancel();
        Some((entry.mode, entry.name.clone()))
    }
}

impl Client {
    /// Says what it is called, and the room that it is in.
    pub fn describe(&self, name: &str, room: &str) {
        if let Some(entry) = self.clients.lock().entries.get_mut(&self.id) {
            name.clone_into(&mut entry.name);
            room.clone_into(&mut entry.room);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.lock().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_who_is_connected() {
        let clients = Clients::default();
        let enter = || clients.enter(Mode::Dispatch, [192, 0, 2, 1].into(), SystemTime::UNIX_EPOCH).unwrap();
        let (first, second) = (enter(), enter());
        first.describe("root", "yard");
        let list = clients.list();
        assert_eq!(list.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["root", ""]);
        assert_eq!((list[0].mode, list[0].room.as_str(), list[0].since), ("dispatch", "yard", 0));
        assert_eq!(clients.disconnect(first.id), Some((Mode::Dispatch, "root".into())));
        assert!(first.end.is_cancelled() && !second.end.is_cancelled());
        let gone = first.id;
        drop(first);
        assert_eq!(clients.disconnect(gone), None);
        assert_eq!(clients.list().len(), 1);
        assert_ne!(enter().id, gone, "numbers are not used again");
    }
}
