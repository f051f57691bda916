//! Credentials: logins (cookies), API tokens, and tickets for one camera. Each is 256 random bits, of which only the
//! SHA-256 is stored: a slow hash is unnecessary, since they cannot be guessed. Passwords are in `password`. Start
//! at [`Credential`] and [`Caller`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::permissions::{Person, Scopes, Who};
use super::rows::{id_of, list_of, role_of};
use super::{AccountError, Accounts, millis};
use crate::secret::Secret;

/// An unused login expires after this time.
const IDLE_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Every login expires after this time, used or not.
const LONGEST_LIFE: Duration = Duration::from_secs(180 * 86_400);
/// Resolution of the time of last use, in milliseconds: avoids a write per request.
const SEEN_STEP: i64 = 60_000;
/// Logins per user; the least recently used ones are removed.
const MAX_LOGINS: i64 = 50;
/// Tokens per user.
const MAX_TOKENS: i64 = 50;
/// Valid tickets per user.
const MAX_TICKETS: i64 = 10_000;
/// The longest lifetime of a ticket.
pub const MAX_TICKET_LIFE: Duration = Duration::from_secs(24 * 3600);

const LOGIN_PREFIX: &str = "ghl_";
const TOKEN_PREFIX: &str = "ght_";
const TICKET_PREFIX: &str = "ghv_";

/// The database row of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Credential {
    /// Of a browser.
    Login(i64),
    /// Of a program.
    Token(i64),
    /// Of a page that shows one camera.
    Ticket(i64),
}

/// The user behind one request.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user's number.
    pub user: i64,
    /// What permissions depend on.
    pub person: Person,
    /// The display name.
    pub display: String,
    /// `zh`, `en`, or empty.
    pub language: String,
    /// Nothing else is allowed until the password is changed.
    pub must_change: bool,
    /// What they authenticated with.
    pub credential: Credential,
    /// What the credential may be used for.
    pub scopes: Scopes,
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No credential.
    Nobody,
    /// A person or their program.
    Person(Arc<Identity>),
    /// A page with a ticket.
    Ticket {
        /// Its number.
        id: i64,
        /// The camera it is for.
        camera: Arc<str>,
        /// Who made it: it grants only what they may currently share.
        maker: Arc<Person>,
    },
    /// A client of an older system, without a login.
    OldClient(Arc<OldClient>),
}

/// What clients of an older system may watch without a login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OldClient {
    /// The system's key in the configuration.
    pub mode: &'static str,
    /// Ids of cameras, or `*`.
    pub cameras: Vec<String>,
}

impl Caller {
    /// The form that [`super::permissions::may`] takes.
    pub fn who(&self) -> Who<'_> {
        match self {
            Self::Nobody => Who::Nobody,
            Self::Person(identity) => Who::Person(&identity.person, identity.scopes),
            Self::Ticket { camera, maker, .. } => Who::Ticket { camera, maker },
            Self::OldClient(client) => Who::OldClient(&client.cameras),
        }
    }

    /// The person, if it is one.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Person(identity) => Some(identity),
            _ => None,
        }
    }

    /// The credential, if there is one.
    pub fn credential(&self) -> Option<Credential> {
        match self {
            Self::Nobody | Self::OldClient(_) => None,
            Self::Person(identity) => Some(identity.credential),
            Self::Ticket { id, .. } => Some(Credential::Ticket(*id)),
        }
    }

    /// The name in the audit log.
    pub fn actor(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Person(identity) => identity.person.name.clone(),
            Self::Ticket { id, .. } => format!("ticket {id}"),
            Self::OldClient(client) => format!("old client ({})", client.mode),
        }
    }
}

/// A newly created login.
#[derive(Debug)]
pub struct LoginMade {
    /// For the cookie.
    pub token: Secret,
    /// Whose it is.
    pub caller: Caller,
}

/// A login as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct LoginView {
    /// Its number.
    pub id: i64,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// The same, to the minute.
    pub seen_at: i64,
    /// From where.
    pub address: String,
    /// The browser's user agent.
    pub agent: String,
}

/// A token as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct TokenView {
    /// Its number.
    pub id: i64,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// The same, to the minute.
    pub used_at: Option<i64>,
    /// When it expires, if it does.
    pub expires_at: Option<i64>,
}

/// A ticket as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct TicketView {
    /// Its number.
    pub id: i64,
    /// The camera's id.
    pub camera: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// When it expires.
    pub expires_at: i64,
    /// The name of the token that made it, if it was a token.
    pub token: Option<String>,
}

impl Accounts {
    /// A user's logins, most recently used first.
    ///
    /// # Errors
    /// No such user.
    pub async fn logins(&self, user: &str) -> Result<Vec<LoginView>, AccountError> {
        let user = user.to_owned();
        let now = self.now();
        self.database.call(move |connection| list_logins(connection, id_of(connection, &user)?, now)).await
    }

    /// Ends one login of a user.
    ///
    /// # Errors
    /// No such login.
    pub async fn end_login(&self, user: &str, login: i64) -> Result<(), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &user)?;
                let sql = "DELETE FROM logins WHERE id = ? AND user_id = ?";
                found(connection.execute(sql, [login, user])?, "login")
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Creates an API token for a user. Only here is it available in plain text.
    ///
    /// # Errors
    /// No such user, an invalid name, no scope, too many tokens.
    pub async fn add_token(
        &self,
        user: &str,
        name: &str,
        scopes: Scopes,
        life: Option<Duration>,
    ) -> Result<Secret, AccountError> {
        if !super::permissions::is_title(name) {
            return Err(AccountError::Invalid("name", "1 to 64 characters in one line".into()));
        }
        if scopes == Scopes::default() {
            return Err(AccountError::Invalid(
                "scopes",
                "at least one of watch, publish, share, manage".into(),
            ));
        }
        let (user, name, token) = (user.to_owned(), name.to_owned(), new_token(TOKEN_PREFIX));
        let (made, now) = (token.clone(), self.clock.now());
        self.database
            .call(move |connection| {
                let user = id_of(connection, &user)?;
                let sql = "SELECT count(*) FROM tokens WHERE user_id = ?";
                limit(connection.query_row(sql, [user], |row| row.get(0))?, MAX_TOKENS, "tokens")?;
                let scopes = serde_json::to_string(&scopes).unwrap_or_default();
                let expires = life.map(|life| millis(now + life));
                let sql = "INSERT INTO tokens (user_id, name, hash, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)";
                connection.execute(sql, params![user, name, hash(token.expose()), scopes, millis(now), expires])?;
                Ok(())
            })
            .await?;
        Ok(made)
    }

    /// A user's tokens.
    ///
    /// # Errors
    /// No such user.
    pub async fn tokens(&self, user: &str) -> Result<Vec<TokenView>, AccountError> {
        let user = user.to_owned();
        self.database.call(move |connection| list_tokens(connection, id_of(connection, &user)?)).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// No such token.
    pub async fn end_token(&self, user: &str, token: i64) -> Result<(), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &user)?;
                let sql = "DELETE FROM tokens WHERE id = ? AND user_id = ?";
                found(connection.execute(sql, [token, user])?, "token")
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Creates a ticket for a camera, valid for at most [`MAX_TICKET_LIFE`]. It ends with the account that made it, and
    /// with the token if one was used. Returns the ticket and when it expires.
    ///
    /// # Errors
    /// Too many tickets.
    pub async fn add_ticket(
        &self,
        maker: &Identity,
        camera: &str,
        life: Duration,
    ) -> Result<(Secret, i64), AccountError> {
        let (user, camera, token) = (maker.user, camera.to_owned(), new_token(TICKET_PREFIX));
        let token_id = match maker.credential {
            Credential::Token(id) => Some(id),
            Credential::Login(_) | Credential::Ticket(_) => None,
        };
        let made = token.clone();
        let now = self.clock.now();
        let expires = millis(now + life.min(MAX_TICKET_LIFE));
        self.database
            .call(move |connection| {
                let sql = "SELECT count(*) FROM tickets WHERE user_id = ? AND expires_at > ?";
                let valid = connection.query_row(sql, [user, millis(now)], |row| row.get(0))?;
                limit(valid, MAX_TICKETS, "tickets")?;
                let sql = "INSERT INTO tickets (user_id, hash, camera, created_at, expires_at, token_id) VALUES (?, ?, ?, ?, ?, ?)";
                let hash = hash(token.expose());
                connection.execute(sql, params![user, hash, camera, millis(now), expires, token_id])?;
                Ok(())
            })
            .await?;
        Ok((made, expires))
    }

    /// A user's valid tickets, newest first, at most 500.
    ///
    /// # Errors
    /// No such user.
    pub async fn tickets(&self, user: &str) -> Result<Vec<TicketView>, AccountError> {
        let user = user.to_owned();
        let now = self.now();
        self.database.call(move |connection| list_tickets(connection, id_of(connection, &user)?, now)).await
    }

    /// Revokes one ticket of a user.
    ///
    /// # Errors
    /// No such ticket.
    pub async fn end_ticket(&self, user: &str, ticket: i64) -> Result<(), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &user)?;
                let sql = "DELETE FROM tickets WHERE id = ? AND user_id = ?";
                found(connection.execute(sql, [ticket, user])?, "ticket")
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Deletes expired logins and tickets.
    ///
    /// # Errors
    /// Database errors.
    pub async fn forget_expired(&self) -> Result<(), AccountError> {
        let now = self.now();
        self.database
            .call(move |connection| {
                connection.execute("DELETE FROM logins WHERE expires_at <= ?", [now])?;
                connection.execute("DELETE FROM tickets WHERE expires_at <= ?", [now])?;
                Ok(())
            })
            .await
    }

    /// Ends all logins, tokens and tickets of a user.
    ///
    /// # Errors
    /// No such user.
    pub async fn end_everything(&self, user: &str) -> Result<(), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &user)?;
                for table in ["tickets", "tokens", "logins"] {
                    connection.execute(&format!("DELETE FROM {table} WHERE user_id = ?"), [user])?;
                }
                Ok(())
            })
            .await?;
        self.change();
        Ok(())
    }
}

fn found(count: usize, what: &'static str) -> Result<(), AccountError> {
    if count == 0 { Err(AccountError::NotFound(what)) } else { Ok(()) }
}

fn limit(count: i64, most: i64, what: &'static str) -> Result<(), AccountError> {
    if count >= most { Err(AccountError::TooMany(what)) } else { Ok(()) }
}

fn new_token(prefix: &str) -> Secret {
    Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())))
}

fn hash(token: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref().to_vec()
}

/// The stored hash of a token and the kind its prefix claims; `None` if it does not have our format.
pub(super) fn hash_of(token: &str) -> Option<(Kind, Vec<u8>)> {
    let kind = match token.get(..4)? {
        LOGIN_PREFIX => Kind::Login,
        TOKEN_PREFIX => Kind::Token,
        TICKET_PREFIX => Kind::Ticket,
        _ => return None,
    };
    (token.len() == 47).then(|| (kind, hash(token)))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Login,
    Token,
    Ticket,
}

impl Kind {
    fn id_of(self, credential: Credential) -> Option<i64> {
        match (self, credential) {
            (Self::Login, Credential::Login(id))
            | (Self::Token, Credential::Token(id))
            | (Self::Ticket, Credential::Ticket(id)) => Some(id),
            _ => None,
        }
    }
}

/// Creates a login and deletes surplus ones.
pub(super) fn add_login(
    connection: &Connection,
    user: i64,
    address: &str,
    agent: &str,
    now: i64,
) -> Result<LoginMade, AccountError> {
    let token = new_token(LOGIN_PREFIX);
    let sql = "DELETE FROM logins WHERE user_id = ?1 AND id NOT IN
                 (SELECT id FROM logins WHERE user_id = ?1 ORDER BY seen_at DESC LIMIT ?2)";
    connection.execute(sql, [user, MAX_LOGINS - 1])?;
    let sql = "INSERT INTO logins (user_id, hash, created_at, seen_at, expires_at, address, agent) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)";
    let expires = login_end(now, now);
    connection.execute(sql, params![user, hash(token.expose()), now, expires, address, agent])?;
    let credential = Credential::Login(connection.last_insert_rowid());
    let caller = by_id(connection, credential, now)?.ok_or(AccountError::WrongPassword)?;
    Ok(LoginMade { token, caller })
}

const PERSON: &str = "users.id, users.name, users.display, users.role, users.language, users.must_change,
    (SELECT json_group_array(groups.name) FROM members JOIN groups ON groups.id = group_id WHERE user_id = users.id)";

/// The caller behind a presented token, and whether its time of last use is due for [`touch`].
pub(super) fn by_hash(
    connection: &Connection,
    (kind, hash): &(Kind, Vec<u8>),
    now: i64,
) -> Result<Option<(Caller, bool)>, AccountError> {
    let sql = select(*kind, "hash = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(params![hash, now], |row| read(*kind, row)).optional()?;
    Ok(found.map(|found| {
        let is_stale = *kind != Kind::Ticket && now - found.used_at >= SEEN_STEP;
        (found.caller, is_stale)
    }))
}

/// Notes that a login or token is used now.
pub(super) fn touch(connection: &Connection, credential: Credential, now: i64) -> Result<(), AccountError> {
    match credential {
        Credential::Login(id) => {
            let sql =
                "UPDATE logins SET seen_at = ?1, expires_at = min(?1 + ?2, created_at + ?3) WHERE id = ?4";
            let (idle, longest) = (IDLE_LIFE.as_millis() as i64, LONGEST_LIFE.as_millis() as i64);
            connection.execute(sql, params![now, idle, longest, id])?;
        }
        Credential::Token(id) => {
            connection.execute("UPDATE tokens SET used_at = ? WHERE id = ?", params![now, id])?;
        }
        Credential::Ticket(_) => {}
    }
    Ok(())
}

/// When a login that is used now expires, in milliseconds since 1970.
fn login_end(now: i64, created_at: i64) -> i64 {
    let millis = |life: Duration| life.as_millis() as i64;
    (now + millis(IDLE_LIFE)).min(created_at + millis(LONGEST_LIFE))
}

/// The callers behind those credentials that are valid now. One query per kind, however many there are.
pub(super) fn by_ids(
    connection: &Connection,
    credentials: &[Credential],
    now: i64,
) -> Result<HashMap<Credential, Caller>, AccountError> {
    let mut found = HashMap::with_capacity(credentials.len());
    for kind in [Kind::Login, Kind::Token, Kind::Ticket] {
        let ids: Vec<i64> = credentials.iter().filter_map(|credential| kind.id_of(*credential)).collect();
        if ids.is_empty() {
            continue;
        }
        let ids = serde_json::to_string(&ids).unwrap_or_default();
        let mut statement =
            connection.prepare_cached(&select(kind, "id IN (SELECT value FROM json_each(?))"))?;
        let rows = statement.query_map(params![ids, now], |row| read(kind, row))?;
        for row in rows {
            let row = row?;
            found.insert(row.credential, row.caller);
        }
    }
    Ok(found)
}

pub(super) fn by_id(
    connection: &Connection,
    credential: Credential,
    now: i64,
) -> Result<Option<Caller>, AccountError> {
    Ok(by_ids(connection, &[credential], now)?.remove(&credential))
}

/// The query for valid credentials of a kind. Columns after those of the person: the credential's id, when it was last
/// used, and one that depends on the kind.
fn select(kind: Kind, condition: &str) -> String {
    let (table, used, special, valid) = match kind {
        Kind::Login => ("logins", "seen_at", "NULL", "disabled = 0"),
        Kind::Token => ("tokens", "coalesce(credential.used_at, 0)", "credential.scopes", "disabled = 0"),
        Kind::Ticket => ("tickets", "0", "credential.camera", "disabled = 0 AND must_change = 0"),
    };
    format!(
        "SELECT {PERSON}, credential.id, {used}, {special}
         FROM {table} AS credential JOIN users ON users.id = user_id
         WHERE credential.{condition} AND coalesce(credential.expires_at > ?, 1) AND {valid}"
    )
}

/// A row of [`select`].
struct Found {
    credential: Credential,
    caller: Caller,
    used_at: i64,
}

fn read(kind: Kind, row: &Row<'_>) -> rusqlite::Result<Found> {
    let id: i64 = row.get(7)?;
    let (credential, caller) = match kind {
        Kind::Login => {
            let credential = Credential::Login(id);
            (credential, Caller::Person(Arc::new(identity(row, credential, Scopes::ALL)?)))
        }
        Kind::Token => {
            let credential = Credential::Token(id);
            let scopes = serde_json::from_str(&row.get::<_, String>(9)?).unwrap_or_default();
            (credential, Caller::Person(Arc::new(identity(row, credential, scopes)?)))
        }
        Kind::Ticket => {
            let credential = Credential::Ticket(id);
            let maker = Arc::new(identity(row, credential, Scopes::ALL)?.person);
            (credential, Caller::Ticket { id, camera: row.get::<_, String>(9)?.into(), maker })
        }
    };
    Ok(Found { credential, caller, used_at: row.get(8)? })
}

fn identity(row: &Row<'_>, credential: Credential, scopes: Scopes) -> rusqlite::Result<Identity> {
    let person = Person {
        name: row.get(1)?,
        role: role_of(&row.get::<_, String>(3)?),
        groups: list_of(&row.get::<_, String>(6)?),
    };
    Ok(Identity {
        user: row.get(0)?,
        person,
        display: row.get(2)?,
        language: row.get(4)?,
        must_change: row.get(5)?,
        credential,
        scopes,
    })
}

fn list_logins(connection: &Connection, user: i64, now: i64) -> Result<Vec<LoginView>, AccountError> {
    let sql = "SELECT id, created_at, seen_at, address, agent FROM logins
               WHERE user_id = ? AND expires_at > ? ORDER BY seen_at DESC, id DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([user, now], |row| {
        Ok(LoginView {
            id: row.get(0)?,
            created_at: row.get(1)?,
            seen_at: row.get(2)?,
            address: row.get(3)?,
            agent: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn list_tokens(connection: &Connection, user: i64) -> Result<Vec<TokenView>, AccountError> {
    let sql =
        "SELECT id, name, scopes, created_at, used_at, expires_at FROM tokens WHERE user_id = ? ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([user], |row| {
        Ok(TokenView {
            id: row.get(0)?,
            name: row.get(1)?,
            scopes: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
            created_at: row.get(3)?,
            used_at: row.get(4)?,
            expires_at: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn list_tickets(connection: &Connection, user: i64, now: i64) -> Result<Vec<TicketView>, AccountError> {
    let sql = "SELECT tickets.id, camera, tickets.created_at, tickets.expires_at, tokens.name
               FROM tickets LEFT JOIN tokens ON tokens.id = token_id
               WHERE tickets.user_id = ? AND tickets.expires_at > ? ORDER BY tickets.id DESC LIMIT 500";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([user, now], |row| {
        Ok(TicketView {
            id: row.get(0)?,
            camera: row.get(1)?,
            created_at: row.get(2)?,
            expires_at: row.get(3)?,
            token: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// For the log: an address as text; empty for the console.
pub fn address_text(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_canonical().to_string()).unwrap_or_default()
}
