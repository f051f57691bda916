//! Accounts: users, groups, logins, tokens, the admins' rules, cameras added on the page, and the log; all in one
//! SQLite file. `permissions` decides who may do what and is pure. Media sessions and sockets of users who lose
//! their rights are terminated by [`crate::sessions`], which listens to [`Accounts::changes`].
//!
//! Start at [`Accounts::open`], [`Accounts::log_in`] and [`Accounts::identify`].

pub mod audit;
pub mod calls;
pub mod cameras;
pub mod credentials;
pub mod database;
pub mod disk;
pub mod password;
pub mod permissions;
pub mod preferences;
mod rows;
pub mod settings;
mod steps;
pub mod throttle;
pub mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::secret::Secret;
use credentials::{Caller, Credential, LoginMade};
use database::Database;
use disk::{AuditQueue, Trouble};
use password::Hasher;
use permissions::{Action, Role, Rules};
use throttle::Throttle;

/// The database's file name in the data folder.
pub const DATABASE: &str = "gatehouse.db";
/// The name of the first account.
pub const FIRST_ADMIN: &str = "admin";

/// How often it is checked whether another process has written.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// …and the database is asked, whatever its files look like.
const ASK_INTERVAL: Duration = Duration::from_secs(10);

/// Account errors.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Wrong name or password; the caller cannot tell which.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// Too many attempts; how long to wait.
    #[error("too many attempts: try again in {} s", .0.as_secs() + 1)]
    TooManyAttempts(Duration),
    /// Too many password hashings are queued.
    #[error("too many logins at once: try again later")]
    Busy,
    /// A password that is easy to guess.
    #[error(
        "the password is too easy to guess: at least 8 characters, not your name, not one of the common ones"
    )]
    WeakPassword,
    /// A value that cannot be stored.
    #[error("{0} is not allowed: {1}")]
    Invalid(&'static str, String),
    /// A name that is taken.
    #[error("a {0} with this name already exists")]
    Taken(&'static str),
    /// Nothing with this name.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Without an admin nobody could manage accounts.
    #[error("this is the last admin: create another one first")]
    LastAdmin,
    /// A limit is reached.
    #[error("too many {0}: remove some first")]
    TooMany(&'static str),
    /// A password for one host must not be sent to another.
    #[error("the camera's address has changed: enter its password again")]
    PasswordAgain,
    /// The disk cannot be written.
    #[error("{}", match .0 { Trouble::Full => "the server's disk is full", Trouble::Failed => "the server's disk cannot be written" })]
    Disk(Trouble),
    /// A failure of the database or the system.
    #[error("{0}")]
    Internal(String),
}

impl From<rusqlite::Error> for AccountError {
    fn from(error: rusqlite::Error) -> Self {
        match Trouble::of(&error) {
            Some(trouble) => Self::Disk(trouble),
            None => Self::Internal(format!("database: {error}")),
        }
    }
}

impl AccountError {
    /// The stable error code for clients.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::TooManyAttempts(_) => "too_many_attempts",
            Self::Busy => "busy",
            Self::WeakPassword => "weak_password",
            Self::Invalid(..) => "invalid",
            Self::Taken(_) => "name_taken",
            Self::NotFound(_) => "not_found",
            Self::LastAdmin => "last_admin",
            Self::TooMany(_) => "too_many",
            Self::PasswordAgain => "password_again",
            Self::Disk(trouble) => trouble.code(),
            Self::Internal(_) => "internal",
        }
    }
}

/// A password that has been verified. The transaction that relies on it checks again that it is still current.
struct Verified {
    user: i64,
    hash: String,
}

/// Milliseconds since 1970, the format of the database and the API.
pub fn millis(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    database: Database,
    hasher: Hasher,
    throttle: Arc<Mutex<Throttle>>,
    rules: Arc<ArcSwap<Rules>>,
    audit_queue: Arc<Mutex<AuditQueue>>,
    clock: Clock,
    /// When this start of the server began, in milliseconds since 1970 by `clock`.
    began: Arc<AtomicI64>,
    changed: watch::Sender<u64>,
}

impl Accounts {
    /// The time by which everything here goes.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Milliseconds since 1970 by [`Self::clock`].
    fn now(&self) -> i64 {
        millis(self.clock.now())
    }

    /// Whether a folder has a database that can be read.
    pub fn exist_in(folder: &Path) -> bool {
        std::fs::File::open(folder.join(DATABASE)).is_ok()
    }

    /// Opens the accounts in a data folder. If there are none, creates the first admin with the password `first`, or
    /// with a random one that has to be changed and is returned.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn open(data: &Path, first: Option<Secret>) -> Result<(Self, Option<Secret>), AccountError> {
        let hasher = Hasher::new()?;
        let database = Database::open(&data.join(DATABASE))?;
        let clock = Clock::default();
        let accounts = Self {
            database,
            hasher,
            throttle: Arc::default(),
            rules: Arc::default(),
            audit_queue: Arc::default(),
            began: Arc::new(AtomicI64::new(millis(clock.now()))),
            clock,
            changed: watch::Sender::new(0),
        };
        accounts.load_rules().await?;
        if accounts.database.call(users::any).await? {
            return Ok((accounts, None));
        }
        let must_change = first.is_none();
        let password = first.unwrap_or_else(password::random);
        let new = users::NewUser {
            name: FIRST_ADMIN.into(),
            display: String::new(),
            role: Role::Admin,
            groups: Vec::new(),
            must_change,
        };
        accounts.add_user(new, &password).await?;
        Ok((accounts, must_change.then_some(password)))
    }

    /// Writes a consistent copy of the database to a new file.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub async fn snapshot(&self, file: &Path) -> Result<(), AccountError> {
        self.database.snapshot(file).await
    }

    /// Whether a file is a database that this version can use.
    ///
    /// # Errors
    /// It is damaged, is none of Gatehouse, or of a newer version.
    pub fn check_file(file: &Path) -> Result<(), AccountError> {
        database::check_file(file)
    }

    /// Sets the mark of the database, in its file: see [`crate::data`].
    ///
    /// # Errors
    /// Database errors.
    pub async fn mark(&self, mark: &str) -> Result<(), AccountError> {
        let mark = mark.to_owned();
        let sql = "INSERT OR REPLACE INTO settings VALUES ('mark', ?)";
        self.database.call(move |connection| Ok(connection.execute(sql, [mark]).map(drop)?)).await?;
        self.checkpoint().await
    }

    /// Moves all changes from the write-ahead log into the database file.
    ///
    /// # Errors
    /// Database errors.
    pub async fn checkpoint(&self) -> Result<(), AccountError> {
        self.database.checkpoint().await
    }

    /// A counter of changes that may affect somebody's rights, made by this process or another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Announces that rights may have changed, so that running sessions are checked again.
    pub fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Watches for writes by other processes, such as `gatehouse user`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn follow_others(&self) -> Result<(), AccountError> {
        let (mut log, mut asked) = (self.database.log_stamp(), Instant::now());
        let mut version = self.database.foreign_version().await?;
        // Load what was written before the first poll, or while an earlier call of this had failed.
        self.load_rules().await?;
        self.change();
        loop {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
            // Every write changes the write-ahead log: looking at it is cheaper than asking.
            let stamp = self.database.log_stamp();
            if stamp == log && asked.elapsed() < ASK_INTERVAL {
                continue;
            }
            (log, asked) = (stamp, Instant::now());
            let now = self.database.foreign_version().await?;
            if now != version {
                self.load_rules().await?;
                self.change();
                version = now;
            }
        }
    }

    /// Whether somebody may do something.
    pub fn may(&self, caller: &Caller, action: Action<'_>) -> bool {
        permissions::may(&self.rules.load(), caller.who(), action)
    }

    /// Logs in. Takes the same time and gives the same answer whether or not the user exists.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`], [`AccountError::TooManyAttempts`], [`AccountError::Busy`].
    pub async fn log_in(
        &self,
        name: &str,
        password: &Secret,
        address: IpAddr,
        agent: &str,
    ) -> Result<LoginMade, AccountError> {
        let verified = self.check_password(name, password, address).await?;
        let (address, agent) = (address.to_string(), agent.chars().take(256).collect::<String>());
        let verified = Arc::new(verified);
        let add = || {
            let (verified, address, agent) = (verified.clone(), address.clone(), agent.clone());
            let now = self.now();
            self.database.call(move |connection| {
                users::require_password(connection, &verified)?;
                credentials::add_login(connection, verified.user, &address, &agent, now)
            })
        };
        match add().await {
            // The first write after the disk has become full: from now on logins are kept in memory.
            Err(AccountError::Disk(_)) => add().await,
            result => result,
        }
    }

    async fn check_password(
        &self,
        name: &str,
        password: &Secret,
        address: IpAddr,
    ) -> Result<Verified, AccountError> {
        let attempt = self.throttle().begin(Instant::now(), address, name);
        attempt.map_err(AccountError::TooManyAttempts)?;
        let wanted = name.to_owned();
        let known = self.database.call(move |connection| users::password_of(connection, &wanted)).await?;
        let (user, stored) = known.map_or((0, None), |(user, stored)| (user, Some(stored)));
        let fits = match self.hasher.verify(password, stored.clone()).await {
            Ok(fits) => fits,
            Err(busy) => {
                // No password was compared, so it does not count as an attempt.
                self.throttle().forgiven(address, name);
                return Err(busy);
            }
        };
        let Some(hash) = stored.filter(|_| fits) else { return Err(AccountError::WrongPassword) };
        self.throttle().succeeded(Instant::now(), address, name);
        Ok(Verified { user, hash })
    }

    fn audit_queue(&self) -> std::sync::MutexGuard<'_, AuditQueue> {
        self.audit_queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the disk cannot be written, if so.
    pub fn disk_trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.database.trouble()
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller that a token identifies: a login, an API token or a ticket. `None` if it is unknown or expired.
    ///
    /// # Errors
    /// Database errors.
    pub async fn identify(&self, token: &str) -> Result<Option<Caller>, AccountError> {
        let Some(hash) = credentials::hash_of(token) else { return Ok(None) };
        let now = self.now();
        let found =
            self.database.call(move |connection| credentials::by_hash(connection, &hash, now)).await?;
        let Some((caller, is_stale)) = found else { return Ok(None) };
        if let Some(credential) = caller.credential().filter(|_| is_stale) {
            match self.database.call(move |connection| credentials::touch(connection, credential, now)).await
            {
                // Nobody is refused because the time of the last use cannot be noted.
                Ok(()) | Err(AccountError::Disk(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(caller))
    }

    /// The current caller for a credential; `None` if it is no longer valid.
    ///
    /// # Errors
    /// Database errors.
    pub async fn behind(&self, credential: Credential) -> Result<Option<Caller>, AccountError> {
        let now = self.now();
        self.database.call(move |connection| credentials::by_id(connection, credential, now)).await
    }

    /// The current caller for each credential; those that are no longer valid are left out.
    ///
    /// # Errors
    /// Database errors.
    pub async fn behind_all(
        &self,
        credentials: Vec<Credential>,
    ) -> Result<HashMap<Credential, Caller>, AccountError> {
        let now = self.now();
        self.database.call(move |connection| credentials::by_ids(connection, &credentials, now)).await
    }

    /// Changes the caller's own password, which ends their other logins.
    ///
    /// # Errors
    /// The current password is wrong, or the new one is weak.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        current: &Secret,
        new: &Secret,
        address: IpAddr,
    ) -> Result<(), AccountError> {
        let identity = caller.identity().ok_or(AccountError::NotFound("user"))?;
        // Cheap checks first.
        password::check(new, &identity.person.name)?;
        if current == new {
            return Err(AccountError::WeakPassword);
        }
        let verified = self.check_password(&identity.person.name, current, address).await?;
        let (hash, kept) = (self.hasher.hash(new).await?, identity.credential);
        self.database
            .call(move |connection| {
                users::require_password(connection, &verified)?;
                users::set_password(connection, verified.user, &hash, false, Some(kept))
            })
            .await?;
        self.change();
        Ok(())
    }
}
