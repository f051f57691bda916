//! The one task that owns the [`Core`]: it brings frames in, sends what comes out, keeps the clock, and writes the
//! history of calls. Sockets are `http/socket`'s; what frames mean is the core's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::grants::Grants;
use super::{Conn, Core, Directory, Input, Member, Output};
use crate::accounts::{AccountError, Accounts};
use crate::compartment;
use crate::names::StreamName;

/// Frames of all sockets that wait for the core.
const INPUTS: usize = 4096;
/// Frames that wait for one socket. Whoever does not read them is cut off, and resumes.
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
    /// Close with this code and word.
    Close(u16, &'static str),
}

enum Command {
    Open { conn: Conn, user: String, outgoing: mpsc::Sender<Outgoing> },
    Input(Input),
}

/// The way to the core. Cheap to clone.
#[derive(Clone)]
pub struct Switchboard {
    commands: mpsc::Sender<Command>,
    /// It must arrive, even if the core is behind: at most one message for each socket.
    gone: mpsc::UnboundedSender<(Conn, bool)>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// One socket's end. Dropping it tells the core.
pub struct ClientHandle {
    conn: Conn,
    commands: mpsc::Sender<Command>,
    gone: mpsc::UnboundedSender<(Conn, bool)>,
    /// The login has ended: nobody comes back.
    pub for_good: bool,
    /// What to send. Closed when the socket has not kept up.
    pub outgoing: mpsc::Receiver<Outgoing>,
}

impl ClientHandle {
    /// A frame has come in. Waits while the core is behind: that slows the socket down, and nobody else.
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
    /// Starts the task. `config` is what every client is told at its beginning; what is granted goes to `grants`.
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
        let last_call = accounts.last_call().await? + RUNNING_CALLS;
        let core = Core::new(Arc::new(directory(&accounts).await?), last_call, config);
        let driver = Driver { core, accounts, grants, sockets: HashMap::new() };
        tokio::spawn(driver.run(received, lost, stop));
        Ok(Self { commands, gone, next: Arc::default() })
    }

    /// A socket of somebody who is logged in.
    pub async fn open(&self, user: &str) -> ClientHandle {
        let conn = Conn(self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        let command = Command::Open { conn, user: user.to_owned(), outgoing };
        let _ = self.commands.send(command).await;
        let (commands, gone) = (self.commands.clone(), self.gone.clone());
        ClientHandle { conn, commands, gone, for_good: false, outgoing: frames }
    }

    /// A picture of a stream has begun, or has ended, on its way to a user.
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
                // Changes before frames: whoever has been told that one is stored, finds it in force. Frames before the
                // end of their socket: "hang up" is often the last thing that a page says.
                biased;
                () = stop.cancelled() => return,
                Ok(()) = changes.changed() => {
                    self.read_directory().await;
                    continue;
                }
                _ = tick.tick() => Input::Tick,
                command = commands.recv() => match command {
                    Some(Command::Open { conn, user, outgoing }) => {
                        self.sockets.insert(conn, outgoing);
                        if !self.core.knows(&user) {
                            // Their account is so new that the change has not been taken in yet.
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
            Err(error) => error!("people are not read again: {error}"),
        }
    }

    fn handle(&mut self, input: Input) {
        let conn = match &input {
            Input::Frame { conn, .. } => Some(*conn),
            _ => None,
        };
        let outputs = match compartment::run(|| self.core.handle(Instant::now(), input)) {
            Ok(outputs) => outputs,
            Err(panicked) => {
                error!(code = "internal", ?conn, "signaling: the connection is closed: {panicked}");
                conn.map(|conn| self.sockets.remove(&conn));
                return;
            }
        };
        // Before anybody is told, and comes.
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
                    let (accounts, now) = (self.accounts.clone(), SystemTime::now());
                    // The history must not make anybody wait.
                    tokio::spawn(async move {
                        if let Err(error) = accounts.note_call(record, now).await {
                            error!("a call is not written to the history: {error}");
                        }
                    });
                }
            }
        }
    }

    fn send(&mut self, conn: Conn, outgoing: Outgoing) {
        let Some(socket) = self.sockets.get(&conn) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = socket.try_send(outgoing) {
            debug!(?conn, "a socket does not keep up: it is closed, and may resume");
            self.sockets.remove(&conn);
        }
    }
}
