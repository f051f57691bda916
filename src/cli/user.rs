//! `gatehouse user …`: managing accounts from the console, also while the server runs, which picks up the changes
//! within a second. Start at [`run`].

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{ServeArgs, fail, load};
use crate::accounts::audit::Event;
use crate::accounts::permissions::{Role, Scopes};
use crate::accounts::users::{NewUser, UserChange};
use crate::accounts::{AccountError, Accounts, FIRST_ADMIN, password};
use crate::config::Config;
use crate::data::check_log;
use crate::secret::Secret;

/// The actor in the audit log.
const CONSOLE: &str = "(console)";
/// Longest line that is read as a password, in bytes.
const MAX_LINE: u64 = 4096;

/// The data folder of the service as installed with systemd/gatehouse.service.
const SERVICE_DATA: &str = "/var/lib/gatehouse";

#[derive(Args)]
pub struct UserArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    command: UserCommand,
}

/// Which server is meant.
#[derive(Args)]
pub struct PlaceArgs {
    /// The server's configuration file, for its data folder
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The server's data folder; otherwise that of the configuration, or of the service
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
}

impl PlaceArgs {
    /// The configuration, and the data folder with its database; if it has none, why that folder cannot be used.
    pub fn find(self) -> Result<(Config, PathBuf, Result<(), String>), ExitCode> {
        let serve = ServeArgs { config: self.config, data: self.data, listen: None, new_authority: false };
        let config = load(&serve)?;
        let is_named = serve.config().is_some() || serve.overrides().names_data();
        match data_folder(&config.data, is_named, Accounts::exist_in) {
            Ok(folder) => {
                let usable = check_log(&folder).map_err(|error| error.to_string());
                Ok((config, folder, usable))
            }
            Err(message) => {
                let folder = config.data.clone();
                Ok((config, folder, Err(message)))
            }
        }
    }
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user; the password is prompted for, or read from standard input
    Add {
        /// The login name
        name: String,
        /// What they may do
        #[arg(long, value_enum, default_value = "member")]
        role: RoleArg,
        /// The display name
        #[arg(long, default_value = "")]
        display: String,
        /// An existing group; may be given several times
        #[arg(long)]
        group: Vec<String>,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Set a new password; ends all logins of that user
    Passwd {
        /// The login name
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// List all users
    List,
    /// Prevent a user from logging in; ends all of their logins
    Disable {
        /// The login name
        name: String,
    },
    /// Let a user log in again
    Enable {
        /// The login name
        name: String,
    },
    /// Remove a user
    Remove {
        /// The login name
        name: String,
    },
    /// Create an API token, to be sent as "Authorization: Bearer …"; it is only printed once
    Token {
        /// The login name
        name: String,
        /// The token's name
        #[arg(long, default_value = "console")]
        label: String,
        /// What it may be used for; may be given several times
        #[arg(long, value_enum, required = true)]
        scope: Vec<ScopeArg>,
        /// How long it is valid; unlimited if omitted
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: Option<u64>,
    },
}

#[derive(Args)]
struct PasswordArgs {
    /// Generate a random password and print it
    #[arg(long)]
    random: bool,
    /// Require a password change at the next login
    #[arg(long)]
    must_change: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Guest,
    Member,
    Dispatcher,
    Admin,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScopeArg {
    Watch,
    Publish,
    Share,
    Manage,
}

/// Runs the command; returns the exit status.
pub async fn run(args: UserArgs) -> ExitCode {
    let (config, data) = match args.place.find() {
        Ok((config, data, Ok(()))) => (config, data),
        Ok((_, _, Err(message))) => return fail(&message),
        Err(code) => return code,
    };
    let (accounts, first) = match Accounts::open(&data, config.first_password.clone()).await {
        Ok(opened) => opened,
        Err(error) => return fail(&error.to_string()),
    };
    let sets_first =
        matches!(&args.command, UserCommand::Passwd { name, .. } if name.eq_ignore_ascii_case(FIRST_ADMIN));
    if let (Some(first), false) = (&first, sets_first) {
        eprintln!("Created the first user: {FIRST_ADMIN}, with the password {}", first.expose());
    }
    match execute(&accounts, args.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// The folder with the server's database. It is never created here: a new one would be empty, and not the server's.
fn data_folder(
    configured: &Path,
    is_named: bool,
    has_database: impl Fn(&Path) -> bool,
) -> Result<PathBuf, String> {
    let service = Path::new(SERVICE_DATA);
    if has_database(configured) {
        return Ok(configured.to_owned());
    }
    if !is_named && has_database(service) {
        return Ok(service.to_owned());
    }
    let folder = std::path::absolute(configured).unwrap_or_else(|_| configured.to_owned());
    let mut message = format!("there is no readable database in {}", folder.display());
    if !is_named {
        message += &format!(", nor in {SERVICE_DATA}");
    }
    Err(message + ": name the server's data folder with --data, and run this as the server's user or as root")
}

async fn execute(accounts: &Accounts, command: UserCommand) -> Result<(), AccountError> {
    match command {
        UserCommand::List => list(accounts).await,
        UserCommand::Add { name, role, display, group, password } => {
            let (secret, made) = new_password(&password)?;
            let role = role.role();
            let must_change = password.must_change || made;
            let new = NewUser { name: name.clone(), display, role, groups: group, must_change };
            accounts.add_user(new, &secret).await?;
            note(accounts, "user.added", &name).await?;
            tell(&secret, made);
            Ok(())
        }
        UserCommand::Passwd { name, password } => {
            let (secret, made) = new_password(&password)?;
            accounts.reset_password(&name, &secret, password.must_change || made).await?;
            note(accounts, "user.password", &name).await?;
            tell(&secret, made);
            Ok(())
        }
        UserCommand::Disable { name } => able(accounts, &name, true).await,
        UserCommand::Enable { name } => able(accounts, &name, false).await,
        UserCommand::Remove { name } => {
            accounts.remove_user(&name).await?;
            note(accounts, "user.removed", &name).await
        }
        UserCommand::Token { name, label, scope, days } => {
            let life = days.map(|days| Duration::from_secs(days * 86_400));
            let token = accounts.add_token(&name, &label, scopes(&scope), life).await?;
            note(accounts, "token.made", &name).await?;
            say!("{}", token.expose());
            Ok(())
        }
    }
}

async fn able(accounts: &Accounts, name: &str, disabled: bool) -> Result<(), AccountError> {
    accounts.change_user(name, UserChange { disabled: Some(disabled), ..UserChange::default() }).await?;
    note(accounts, "user.changed", name).await
}

async fn note(accounts: &Accounts, action: &'static str, target: &str) -> Result<(), AccountError> {
    let event = Event { actor: CONSOLE.into(), action, target: target.to_owned(), ..Event::default() };
    accounts.note(event).await.map(drop)
}

impl RoleArg {
    fn role(self) -> Role {
        match self {
            Self::Guest => Role::Guest,
            Self::Member => Role::Member,
            Self::Dispatcher => Role::Dispatcher,
            Self::Admin => Role::Admin,
        }
    }
}

fn scopes(wanted: &[ScopeArg]) -> Scopes {
    let mut scopes = Scopes::default();
    for scope in wanted {
        match scope {
            ScopeArg::Watch => scopes.watch = true,
            ScopeArg::Publish => scopes.publish = true,
            ScopeArg::Share => scopes.share = true,
            ScopeArg::Manage => scopes.manage = true,
        }
    }
    scopes
}

/// The password, and whether it was generated.
fn new_password(args: &PasswordArgs) -> Result<(Secret, bool), AccountError> {
    if args.random {
        return Ok((password::random(), true));
    }
    let unreadable =
        |error: std::io::Error| AccountError::Internal(format!("cannot read the password: {error}"));
    if std::io::stdin().is_terminal() {
        let first = Secret::new(rpassword::prompt_password("New password: ").map_err(unreadable)?);
        let again = Secret::new(rpassword::prompt_password("Again: ").map_err(unreadable)?);
        if first != again {
            return Err(AccountError::Internal("the passwords do not match".into()));
        }
        return Ok((first, false));
    }
    let mut line = String::new();
    let stdin = std::io::stdin().lock();
    std::io::Read::take(stdin, MAX_LINE).read_line(&mut line).map_err(unreadable)?;
    Ok((Secret::new(line.trim_end_matches(['\r', '\n'])), false))
}

fn tell(password: &Secret, made: bool) {
    if made {
        say!("{}", password.expose());
    }
}

async fn list(accounts: &Accounts) -> Result<(), AccountError> {
    say!("{:<20} {:<11} {:<9} GROUPS", "NAME", "ROLE", "STATE");
    for user in accounts.users().await? {
        let state = if user.disabled {
            "disabled"
        } else if user.must_change {
            "new"
        } else {
            "active"
        };
        say!("{:<20} {:<11} {state:<9} {}", user.name, user.role.as_str(), user.groups.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_that_of_the_server() {
        let table = [
            (&["data"][..], false, Some("data")),
            (&["data", SERVICE_DATA], false, Some("data")),
            (&[SERVICE_DATA], false, Some(SERVICE_DATA)),
            // A folder that was named is never replaced by another one.
            (&[SERVICE_DATA], true, None),
            (&[], false, None),
        ];
        for (existing, is_named, expected) in table {
            let has = |folder: &Path| existing.iter().any(|known| Path::new(known) == folder);
            let found = data_folder(Path::new("data"), is_named, has);
            assert_eq!(found.as_deref().ok(), expected.map(Path::new), "{existing:?} {is_named}");
        }
    }
}
