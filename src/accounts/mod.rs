//! Who is who: users, groups, logins, tokens, what admins decide, cameras added on the page, and the log; all in
//! one SQLite file. `permissions` decides who may do what and is pure. Media and sockets of somebody whose rights
//! end are ended by [`crate::sessions`], which listens to [`Accounts::changes`].
//!
//! Start at [`Accounts::open`], [`Accounts::log_in`] and [`Accounts::identify`].

pub mod audit;
pub mod calls;
pub mod cameras;
pub mod credentials;
pub mod database;
pub mod password;
pub mod permissions;
pub mod preferences;
mod rows;
pub mod settings;
pub mod throttle;
pub mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::secret::Secret;
use credentials::{Caller, Credential, LoginMade};
use database::Database;
use password::Hasher;
use permissions::{Action, Role, Rules};
use throttle::Throttle;

/// The database's name in the data folder.
const FILE: &str = "gatehouse.db";
/// The first account.
pub const FIRST_ADMIN: &str = "admin";

/// What goes wrong with accounts.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Wrong name or password, not to be told apart.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// Too many attempts; how long to wait.
    #[error("too many attempts: try again in {} s", .0.as_secs() + 1)]
    TooManyAttempts(Duration),
    /// Too many password hashings wait.
    #[error("too many logins at once: try again")]
    Busy,
    /// A password that others would guess.
    #[error(
        "the password is too easy to guess: at least 8 characters, not your name, not one of the common ones"
    )]
    WeakPassword,
    /// Something that cannot be stored.
    #[error("{0} is not allowed: {1}")]
    Invalid(&'static str, String),
    /// A name that is taken.
    #[error("there is a {0} of this name already")]
    Taken(&'static str),
    /// Nothing of this name.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Without an admin nobody could let anybody in.
    #[error("this is the last admin: make another one first")]
    LastAdmin,
    /// As many as there may be.
    #[error("there are too many {0}: remove some first")]
    TooMany(&'static str),
    /// A password for one host must not be sent to another.
    #[error("the camera's address has changed: its password is needed again")]
    PasswordAgain,
    /// The database or the system.
    #[error("{0}")]
    Internal(String),
}

impl From<rusqlite::Error> for AccountError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Internal(format!("the database: {error}"))
    }
}

impl AccountError {
    /// Stable, for clients.
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
            Self::Internal(_) => "internal",
        }
    }
}

/// A password that was right a moment ago: what is done with it asks again whether it still is.
struct Verified {
    user: i64,
    hash: String,
}

/// Milliseconds since 1970, as the database and the API have them.
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
    changed: watch::Sender<u64>,
}

impl Accounts {
    /// Opens the accounts of a data folder. Where there are none the first admin is made, and its password
    /// returned: `first` or a random one, which has to be changed.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn open(data: &Path, first: Option<Secret>) -> Result<(Self, Option<Secret>), AccountError> {
        let hasher = Hasher::new()?;
        let database = Database::open(&data.join(FILE))?;
        let accounts = Self {
            database,
            hasher,
            throttle: Arc::default(),
            rules: Arc::default(),
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

    /// Counts what may have changed somebody's rights, by this process or another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Something that may concern rights has changed: what runs on them is gone through.
    pub fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Notices what other processes, such as `gatehouse user`, have written.
    ///
    /// # Errors
    /// The database's.
    pub async fn follow_others(&self) -> Result<(), AccountError> {
        let mut version = self.database.foreign_version().await?;
        // Whatever was written before the first look, or while this had failed, is taken in now.
        self.load_rules().await?;
        self.change();
        loop {
            tokio::time::sleep(Duration::from_millis(400)).await;
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
        self.database
            .call(move |connection| {
                users::require_password(connection, &verified)?;
                credentials::add_login(connection, verified.user, &address, &agent)
            })
            .await
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
                // Nothing was tried: it does not count against anybody.
                self.throttle().forgiven(address, name);
                return Err(busy);
            }
        };
        let Some(hash) = stored.filter(|_| fits) else { return Err(AccountError::WrongPassword) };
        self.throttle().succeeded(Instant::now(), address, name);
        Ok(Verified { user, hash })
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token this is: of a login, of an API client, a ticket. `None` if it is nobody's.
    ///
    /// # Errors
    /// The database's.
    pub async fn identify(&self, token: &str) -> Result<Option<Caller>, AccountError> {
        let Some(hash) = credentials::hash_of(token) else { return Ok(None) };
        self.database.call(move |connection| credentials::by_hash(connection, &hash)).await
    }

    /// Who stands behind a credential now; `None` if it is no longer valid.
    ///
    /// # Errors
    /// The database's.
    pub async fn behind(&self, credential: Credential) -> Result<Option<Caller>, AccountError> {
        self.database.call(move |connection| credentials::by_id(connection, credential)).await
    }

    /// Who stands behind each of these credentials now; those that are no longer valid are left out.
    ///
    /// # Errors
    /// The database's.
    pub async fn behind_all(
        &self,
        credentials: Vec<Credential>,
    ) -> Result<HashMap<Credential, Caller>, AccountError> {
        self.database.call(move |connection| credentials::by_ids(connection, &credentials)).await
    }

    /// Changes one's own password, which ends one's other logins.
    ///
    /// # Errors
    /// The current one is wrong, the new one weak.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        current: &Secret,
        new: &Secret,
        address: IpAddr,
    ) -> Result<(), AccountError> {
        let identity = caller.identity().ok_or(AccountError::NotFound("user"))?;
        // What costs nothing comes first.
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
