//! The single task that owns the [`Core`]: it feeds in frames and clock ticks, sends the outputs, and writes the call
//! history. `http/socket` handles the sockets; the core interprets the frames. Start at [`Switchboard::start`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::grants::Grants;
use super::{Conn, Core, Directory, Input, Member, Output};
use crate::accounts::{AccountError, Accounts};
use crate::compartment;
use crate::names::StreamName;

/// Capacity of the core's input queue, shared by all sockets.
const INPUTS: usize = 4096;
/// Capacity of one socket's outgoing queue. A client that does not keep up is disconnected and may resume.
const OUTGOING: usize = 256;
/// More calls than can have been going on at once.
const RUNNING_CALLS: u64 = 10_000;
/// How exactly deadlines are kept.
const TICK: Duration = Duration::from_millis(200);

/// Something for a socket to do.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// Send this.
    Text(Arc<str>),
    /// Send all of these.
    Texts(Arc<[Arc<str>]>),
    /// Close with this code and reason.
    Close(u16, &'static str),
}

enum Command {
    Open { conn: Conn, user: String, outgoing: mpsc::Sender<Outgoing> },
    Input(Input),
}

/// Handle to the core's task. Cheap to clone.
#[derive(Clone)]
pub struct Switchboard {
    commands: mpsc::Sender<Command>,
    /// Unbounded because disconnects must arrive even if the core is behind; at most one message per socket.
    gone: mpsc::UnboundedSender<(Conn, bool)>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// One socket's end. Dropping it tells the core.
pub struct ClientHandle {
    conn: Conn,
    commands: mpsc::Sender<Command>,
    gone: mpsc::UnboundedSender<(Conn, bool)>,
    /// The login has ended: the session will not be resumed.
    pub for_good: bool,
    /// What to send. Closed if the socket has not kept up.
    pub outgoing: mpsc::Receiver<Outgoing>,
}

impl ClientHandle {
    /// Passes on an incoming frame. Waits while the core is behind, which slows down only this socket.
    pub async fn frame(&self, text: String) {
        let _ = self.commands.send(Command::Input(Input::Frame { conn: self.conn, text })).await;
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        let _ = self.gone.send((self.conn, self.for_good));
    }
}

impl Switchboard {
    /// Starts the task. `config` is sent to every client in its welcome; grants are stored in `grants`.
    ///
    /// # Errors
    /// The accounts cannot be read.
    pub async fn start(
        accounts: Accounts,
        config: Value,
        grants: Grants,
        stop: CancellationToken,
    ) -> Result<Self, AccountError> {
        let (commands, received) = mpsc::channel(INPUTS);
        let (gone, lost) = mpsc::unbounded_channel();
        // Calls that were going on when the server before this one stopped are in no history, and keep their numbers.
        let last_call = accounts.reserve_calls(RUNNING_CALLS).await?;
        let core = Core::new(Arc::new(directory(&accounts).await?), last_call, config);
        let driver = Driver { core, accounts, grants, sockets: HashMap::new() };
        tokio::spawn(driver.run(received, lost, stop));
        Ok(Self { commands, gone, next: Arc::default() })
    }

    /// Registers a socket of a logged-in user.
    pub async fn open(&self, user: &str) -> ClientHandle {
        let conn = Conn(self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        let command = Command::Open { conn, user: user.to_owned(), outgoing };
        let _ = self.commands.send(command).await;
        let (commands, gone) = (self.commands.clone(), self.gone.clone());
        ClientHandle { conn, commands, gone, for_good: false, outgoing: frames }
    }

    /// Reports that a user's subscription to a stream has begun or ended.
    pub async fn picture(&self, user: &str, stream: &StreamName, began: bool) {
        let input = Input::Picture { user: user.to_owned(), stream: stream.clone(), began };
        let _ = self.commands.send(Command::Input(input)).await;
    }
}

async fn directory(accounts: &Accounts) -> Result<Directory, AccountError> {
    let users = accounts.users().await?.into_iter().filter(|user| !user.disabled);
    let members = users.map(|user| {
        let person = crate::accounts::permissions::Person {
            name: user.name.clone(),
            role: user.role,
            groups: user.groups,
        };
        (user.name.to_lowercase(), Member { person, display: user.display, preferences: user.preferences })
    });
    Ok(Directory { members: members.collect(), rules: (*accounts.rules()).clone() })
}

struct Driver {
    core: Core,
    accounts: Accounts,
    grants: Grants,
    sockets: HashMap<Conn, mpsc::Sender<Outgoing>>,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut lost: mpsc::UnboundedReceiver<(Conn, bool)>,
        stop: CancellationToken,
    ) {
        let mut changes = self.accounts.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let input = tokio::select! {
                // Changes before frames: a client that was told that a change is stored must find it in effect. Frames
                // before their socket's disconnect: a hang-up is often the last frame a page sends.
                biased;
                () = stop.cancelled() => return,
                Ok(()) = changes.changed() => {
                    self.read_directory().await;
                    continue;
                }
                _ = tick.tick(), if self.core.is_occupied() => Input::Tick,
                command = commands.recv() => match command {
                    Some(Command::Open { conn, user, outgoing }) => {
                        self.sockets.insert(conn, outgoing);
                        if !self.core.knows(&user) {
                            // The account is so new that the directory does not contain it yet.
                            self.read_directory().await;
                        }
                        Input::Connected { conn, user, secret: rand::random() }
                    }
                    Some(Command::Input(input)) => input,
                    None => return,
                },
                Some((conn, for_good)) = lost.recv() => Input::Disconnected { conn, for_good },
            };
            if let Input::Disconnected { conn, .. } = input {
                self.sockets.remove(&conn);
            }
            self.handle(input);
        }
    }

    async fn read_directory(&mut self) {
        match directory(&self.accounts).await {
            Ok(directory) => self.handle(Input::Directory(Arc::new(directory))),
            Err(error) => error!("reloading the directory of users failed: {error}"),
        }
    }

    fn handle(&mut self, input: Input) {
        let conn = match &input {
            Input::Frame { conn, .. } => Some(*conn),
            _ => None,
        };
        let handled = compartment::run(|| self.core.handle(Instant::now(), input));
        let outputs = handled.unwrap_or_else(|panicked| {
            error!(code = "internal", ?conn, "signaling: the connection is closed: {panicked}");
            conn.map(|conn| self.sockets.remove(&conn));
            Vec::new()
        });
        // Before the outputs are sent: a client may use its new rights as soon as it learns of them.
        if let Some(grants) = self.core.new_grants() {
            self.grants.set(grants);
        }
        for output in outputs {
            match output {
                Output::Send(conn, text) => self.send(conn, Outgoing::Text(text)),
                Output::SendAll(conn, texts) => self.send(conn, Outgoing::Texts(texts)),
                Output::Close(conn, code, word) => {
                    self.send(conn, Outgoing::Close(code, word));
                    self.sockets.remove(&conn);
                }
                Output::Ended(record) => {
                    let (accounts, now) = (self.accounts.clone(), self.accounts.clock().now());
                    // In a task of its own, so that writing the history delays nobody.
                    tokio::spawn(async move {
                        if let Err(error) = accounts.note_call(record, now).await {
                            error!("writing a call to the history failed: {error}");
                        }
                    });
                }
            }
        }
    }

    fn send(&mut self, conn: Conn, outgoing: Outgoing) {
        let Some(socket) = self.sockets.get(&conn) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = socket.try_send(outgoing) {
            debug!(?conn, "socket does not keep up: closing it; the client may resume");
            self.sockets.remove(&conn);
        }
    }
}
