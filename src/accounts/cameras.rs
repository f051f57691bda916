//! Cameras that were added on the page. Their passwords are stored in plain text, because logging in to a camera
//! requires them, and are never disclosed: not by the API, and not to another host.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use url::Url;

use super::permissions::is_title;
use super::{AccountError, Accounts, millis};
use crate::ids::is_name;
use crate::secret::{ENCODE_PASSWORD, Secret, has_raw_password, split_credentials};

/// Most cameras in the database.
const MAX_CAMERAS: i64 = 10_000;

/// A camera as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCamera {
    /// Its name in URLs.
    pub id: String,
    /// The editable part.
    pub settings: CameraSettings,
    /// Sent only to the camera.
    pub password: Option<Secret>,
}

/// The settings of a camera that the page can edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    /// Its display name.
    pub name: String,
    /// `rtsp://`, `whep://`, `wheps://` or `whip:`, without user name and password.
    pub url: String,
    /// The address of its smaller stream, on the same host.
    #[serde(default)]
    pub sub_url: Option<String>,
    /// The user name for logging in to the camera.
    #[serde(default)]
    pub username: Option<String>,
    /// `auto`, `tcp` or `udp`.
    #[serde(default = "auto")]
    pub transport: String,
    /// Connected only while somebody watches.
    #[serde(default = "yes")]
    pub on_demand: bool,
    /// Whether it is in use at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether it can be watched without a login.
    #[serde(default)]
    pub public: bool,
}

fn auto() -> String {
    "auto".into()
}

fn yes() -> bool {
    true
}

impl CameraSettings {
    /// Validates the settings. Moves a user name inside the URL to its own field, and returns a password inside it.
    ///
    /// # Errors
    /// An invalid URL, name or transport.
    pub fn check(&mut self) -> Result<Option<Secret>, AccountError> {
        let name = self.name.trim().to_owned();
        self.name = name;
        if !is_title(&self.name) {
            return Err(AccountError::Invalid("name", "1 to 64 characters in one line".into()));
        }
        if !["auto", "tcp", "udp"].contains(&self.transport.as_str()) {
            return Err(AccountError::Invalid("transport", "\"auto\", \"tcp\" or \"udp\"".into()));
        }
        if has_raw_password(&self.url) {
            return Err(AccountError::Invalid("url", ENCODE_PASSWORD.into()));
        }
        let too_long = self.url.len() > 2048 || self.username.as_ref().is_some_and(|name| name.len() > 256);
        let Some(mut url) =
            Url::parse(self.url.trim()).ok().filter(crate::config::is_source).filter(|_| !too_long)
        else {
            let allowed = "rtsp://host[:port]/path, rtsps://, whep://host/path, wheps://host/path or whip:";
            return Err(AccountError::Invalid("url", allowed.into()));
        };
        let inside = split_credentials(&mut url);
        self.check_sub(&url)?;
        self.url = url.into();
        if let Some((username, _)) = &inside {
            self.username = Some(username.clone());
        }
        self.username = self.username.take().filter(|username| !username.is_empty());
        Ok(inside.map(|(_, password)| password).filter(|password| !password.is_empty()))
    }

    /// The sub stream is logged in to with the same password, so it must be on the same host.
    fn check_sub(&mut self, main: &Url) -> Result<(), AccountError> {
        let text = self.sub_url.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let Some(text) = text else { return Ok(()) };
        let raw = text.len() > 2048 || has_raw_password(&text);
        let mut url = Url::parse(&text).ok().filter(|url| !raw && crate::config::is_sub_of(main, url));
        let Some(url) = &mut url else {
            let allowed = "an address of the same camera: scheme, host and port as in the main stream's";
            return Err(AccountError::Invalid("sub_url", allowed.into()));
        };
        split_credentials(url);
        self.sub_url = Some(url.to_string());
        Ok(())
    }
}

impl Accounts {
    /// All cameras, in the order in which they were added.
    ///
    /// # Errors
    /// Database errors.
    pub async fn cameras(&self) -> Result<Vec<StoredCamera>, AccountError> {
        self.database.call(list).await
    }

    /// One camera.
    ///
    /// # Errors
    /// Database errors.
    pub async fn camera(&self, id: &str) -> Result<Option<StoredCamera>, AccountError> {
        let id = id.to_owned();
        self.database.call(move |connection| one(connection, &id)).await
    }

    /// Adds a camera.
    ///
    /// # Errors
    /// Invalid settings, or an id that is taken.
    pub async fn add_camera(
        &self,
        id: &str,
        mut settings: CameraSettings,
        password: Option<Secret>,
    ) -> Result<(), AccountError> {
        if !is_name(id) {
            let allowed = "1 to 64 letters, digits, '.', '_' or '-', not beginning with '.'";
            return Err(AccountError::Invalid("id", allowed.into()));
        }
        let inside = settings.check()?;
        let camera = StoredCamera { id: id.to_owned(), settings, password: password.or(inside) };
        self.database
            .call(move |connection| {
                let count: i64 =
                    connection.query_row("SELECT count(*) FROM cameras", [], |row| row.get(0))?;
                if count >= MAX_CAMERAS {
                    return Err(AccountError::TooMany("cameras"));
                }
                match one(connection, &camera.id)? {
                    Some(_) => Err(AccountError::Taken("camera")),
                    None => write(connection, &camera),
                }
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Changes a camera. Without a new password the old one is kept, unless it would be sent to another host.
    ///
    /// # Errors
    /// Invalid settings, no such camera, or [`AccountError::PasswordAgain`].
    pub async fn change_camera(
        &self,
        id: &str,
        mut settings: CameraSettings,
        password: Option<Secret>,
    ) -> Result<(), AccountError> {
        let inside = settings.check()?;
        let (id, password) = (id.to_owned(), password.or(inside));
        self.database
            .call(move |connection| {
                let old = one(connection, &id)?.ok_or(AccountError::NotFound("camera"))?;
                let password = match password {
                    Some(password) => Some(password).filter(|password| !password.is_empty()),
                    None => kept_password(&old, &settings)?,
                };
                write(connection, &StoredCamera { id, settings, password })
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Removes a camera.
    ///
    /// # Errors
    /// No such camera.
    pub async fn remove_camera(&self, id: &str) -> Result<(), AccountError> {
        let id = id.to_owned();
        self.database
            .call(move |connection| {
                connection.execute("DELETE FROM camera_allow WHERE camera = ?", [&id])?;
                connection.execute("DELETE FROM tickets WHERE camera = ?", [&id])?;
                match connection.execute("DELETE FROM cameras WHERE id = ?", [&id])? {
                    0 => Err(AccountError::NotFound("camera")),
                    _ => Ok(()),
                }
            })
            .await?;
        self.change();
        Ok(())
    }
}

/// The stored password of a camera, for settings with the same host and user.
///
/// # Errors
/// Host or user differ: otherwise whoever can edit a camera could send its password anywhere.
pub fn kept_password(old: &StoredCamera, new: &CameraSettings) -> Result<Option<Secret>, AccountError> {
    let place = |settings: &CameraSettings| {
        let url = Url::parse(&settings.url).ok()?;
        let host = url.host_str().map(str::to_ascii_lowercase);
        Some((url.scheme().to_owned(), host, url.port(), settings.username.clone()))
    };
    if old.password.is_some() && place(&old.settings) != place(new) {
        return Err(AccountError::PasswordAgain);
    }
    Ok(old.password.clone())
}

const COLUMNS: &str = "id, name, url, username, password, transport, on_demand, enabled, public, sub_url";

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredCamera> {
    let settings = CameraSettings {
        name: row.get(1)?,
        url: row.get(2)?,
        username: row.get(3)?,
        transport: row.get(5)?,
        on_demand: row.get(6)?,
        enabled: row.get(7)?,
        public: row.get(8)?,
        sub_url: row.get(9)?,
    };
    Ok(StoredCamera {
        id: row.get(0)?,
        settings,
        password: row.get::<_, Option<String>>(4)?.map(Secret::new),
    })
}

fn list(connection: &Connection) -> Result<Vec<StoredCamera>, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM cameras ORDER BY created_at, rowid");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn one(connection: &Connection, id: &str) -> Result<Option<StoredCamera>, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM cameras WHERE id = ?");
    Ok(connection.query_row(&sql, [id], from_row).optional()?)
}

fn write(connection: &Connection, camera: &StoredCamera) -> Result<(), AccountError> {
    let sql = format!(
        "INSERT INTO cameras ({COLUMNS}, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET name = ?2, url = ?3, username = ?4, password = ?5, transport = ?6,
           on_demand = ?7, enabled = ?8, public = ?9, sub_url = ?10"
    );
    let CameraSettings { name, url, sub_url, username, transport, on_demand, enabled, public } =
        &camera.settings;
    let password = camera.password.as_ref().map(Secret::expose);
    let now = millis(std::time::SystemTime::now());
    let id = &camera.id;
    connection.execute(
        &sql,
        params![id, name, url, username, password, transport, on_demand, enabled, public, sub_url, now],
    )?;
    Ok(())
}
