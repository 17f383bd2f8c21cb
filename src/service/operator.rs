//! What the operator of the server may do, as one [`Command`] and its [`Outcome`]. Both are JSON too: the command line
//! runs a command itself on a stopped server, and sends it to the socket of a running one.

mod media;
mod rooms;
mod status;

use std::time::Duration;

use ruma::{
    OwnedRoomId,
    serde::{Base64, base64::Standard},
};
use serde::{Deserialize, Serialize};

pub use self::{
    media::{MediaOf, Stored},
    rooms::{ListedRoom, Room},
    status::Status,
};
pub use super::verify::Report;
use super::{
    App,
    accounts::{self, ChangePasswordError, EndSessions, RegisterError, Registration},
    localpart,
    own_keys::{self, OwnKeyError},
    registration_tokens::{self, RegistrationTokenError},
    verify::{Begin, Part, verify},
};
use crate::{
    base::{clock::Timestamp, limits, secret::Secret},
    config::{SigningKey, is_version},
    store::{Account, OwnKey, StoreError},
};

/// What is to be done.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    CreateUser {
        name: String,
        /// None: the account can't log in until it is given one.
        password: Option<String>,
        admin: bool,
    },
    /// Lists accounts by localpart, [`limits::LISTED_USERS`] at a time, after the given one.
    ListUsers {
        after: String,
    },
    /// Sets a password and ends all sessions.
    SetPassword {
        name: String,
        password: String,
    },
    DeactivateUser {
        name: String,
        erase: bool,
    },
    CreateRegistrationToken {
        /// None: a random one.
        token: Option<String>,
        /// None: for any number of accounts.
        uses: Option<u32>,
        /// None: for ever.
        lifetime_s: Option<u64>,
    },
    ListRegistrationTokens {},
    DeleteRegistrationToken {
        token: String,
    },
    /// Lists rooms in the order in which the server came to know them, [`limits::LISTED_ROOMS`] at a time, after the
    /// given one.
    ListRooms {
        after: Option<OwnedRoomId>,
    },
    /// Tells about one room, by its id or an alias of this server.
    ShowRoom {
        room: String,
    },
    /// Tells who has uploaded how much, by localpart, [`limits::LISTED_USERS`] at a time, after the given one.
    MediaUsage {
        after: String,
    },
    /// Deletes some of what was uploaded; again until nothing is left to delete.
    PurgeMedia {
        /// None: whoever uploaded it.
        name: Option<String>,
        /// Milliseconds since the Unix epoch. None: whenever it was.
        before: Option<u64>,
    },
    /// Tells the keys that the server signs with, and did.
    ListSigningKeys {},
    /// Signs with another key from now on.
    ChangeSigningKey {
        /// A line as it stands in the file of the key.
        line: String,
        /// Keys that it signed with elsewhere: `ed25519:VERSION PUBLIC_KEY EXPIRED_TS`.
        old: Vec<String>,
    },
    /// Lists what users reported, [`limits::LISTED_REPORTS`] at a time, after the report of the given number.
    ListReports {
        after: u64,
    },
    DeleteReport {
        number: u64,
    },
    /// Tells how the server is.
    Status {},
    /// Does nothing, once the server is found to be well.
    Health {},
    /// Checks a part of the stores, from where the last one ended; takes as long as reading it.
    Verify {
        from: Option<Begin>,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Done {},
    User { user_id: String },
    Users { users: Vec<User> },
    RegistrationToken { token: String },
    RegistrationTokens { tokens: Vec<RegistrationToken> },
    Rooms { rooms: Vec<ListedRoom> },
    Room { room: Box<Room> },
    MediaUsage { users: Vec<MediaOf>, stored: Stored },
    Purged { deleted: Stored, left: u64 },
    SigningKeys { keys: Vec<PublicKey> },
    Reports { reports: Vec<UserReport> },
    Status { status: Box<Status> },
    Verified { part: Part },
}

/// An account, as the operator sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct User {
    pub user_id: String,
    pub localpart: String,
    pub admin: bool,
    pub locked: bool,
    pub suspended: bool,
    pub deactivated: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
}

/// An invitation, as the operator sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct RegistrationToken {
    pub token: String,
    /// None: for any number of accounts.
    pub uses_allowed: Option<u32>,
    pub uses: u32,
    /// Milliseconds since the Unix epoch; none: never.
    pub expires_at: Option<u64>,
    pub valid: bool,
}

/// What a user reported: an event in a room, a room or a user.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserReport {
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub by: String,
    pub room_id: Option<String>,
    pub event_id: Option<String>,
    /// Who is reported, or sent the event.
    pub user_id: Option<String>,
    pub reason: String,
}

/// A key that the server signs with, or did, as others know it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PublicKey {
    pub id: String,
    pub key: String,
    /// Milliseconds since the Unix epoch; none: it signs.
    pub expired_ts: Option<u64>,
}

/// Why nothing was done. The operator reads the text.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("there is no such user; `tayberry user list` tells who there is")]
    NoSuchUser,
    #[error("this account is deactivated for good; make one of another name")]
    Deactivated,
    #[error("there is no such registration token; `tayberry registration-token list` tells which there are")]
    NoSuchToken,
    #[error("there is no such room here; `tayberry room list` tells which there are")]
    NoSuchRoom,
    #[error("there is no report of this number; `tayberry report list` tells which there are")]
    NoSuchReport,
    #[error("a signing key is the line `ed25519 VERSION SEED`")]
    NoKey,
    #[error(
        "an old key is written as 'ed25519:VERSION PUBLIC_KEY EXPIRED_TS', the time being past, in milliseconds"
    )]
    NoOldKey,
    #[error(transparent)]
    SigningKey(#[from] OwnKeyError),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    Password(#[from] ChangePasswordError),
    #[error(transparent)]
    RegistrationToken(#[from] RegistrationTokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Does what a command says.
pub async fn run(app: &App, command: Command) -> Result<Outcome, OperatorError> {
    match command {
        Command::CreateUser { name, password, admin } => {
            let password = password.map(Secret::new);
            let wanted = Registration { name: Some(name), password, admin, ..Registration::default() };
            let registered = accounts::register(app, wanted).await?;
            Ok(Outcome::User { user_id: registered.user_id.to_string() })
        }
        Command::ListUsers { after } => {
            let found = app.store.read(move |view| view.accounts(&after, limits::LISTED_USERS)).await?;
            Ok(Outcome::Users { users: found.into_iter().map(|account| listed(app, account)).collect() })
        }
        Command::SetPassword { name, password } => {
            let account = live_account(app, &name).await?;
            accounts::set_password(app, account.number, Secret::new(password), EndSessions::All).await?;
            Ok(Outcome::Done {})
        }
        Command::DeactivateUser { name, erase } => {
            let account = live_account(app, &name).await?;
            accounts::deactivate(app, account.number, erase).await?;
            Ok(Outcome::Done {})
        }
        Command::CreateRegistrationToken { token, uses, lifetime_s } => {
            let lifetime = lifetime_s.map(Duration::from_secs);
            let token = registration_tokens::create(app, token, uses, lifetime).await?;
            Ok(Outcome::RegistrationToken { token })
        }
        Command::ListRegistrationTokens {} => {
            let now = app.clock.now();
            let shown = |token: crate::store::RegistrationToken| RegistrationToken {
                valid: token.is_valid(now),
                token: token.token,
                uses_allowed: token.uses_allowed,
                uses: token.uses,
                expires_at: token.expires_at.map(|at| at.0),
            };
            let tokens = registration_tokens::list(app).await?.into_iter().map(shown).collect();
            Ok(Outcome::RegistrationTokens { tokens })
        }
        Command::DeleteRegistrationToken { token } => match registration_tokens::delete(app, token).await? {
            true => Ok(Outcome::Done {}),
            false => Err(OperatorError::NoSuchToken),
        },
        Command::ListRooms { after } => Ok(Outcome::Rooms { rooms: rooms::list(app, after).await? }),
        Command::ShowRoom { room } => Ok(Outcome::Room { room: Box::new(rooms::show(app, room).await?) }),
        Command::MediaUsage { after } => {
            let (users, stored) = media::usage(app, after).await?;
            Ok(Outcome::MediaUsage { users, stored })
        }
        Command::PurgeMedia { name, before } => {
            let (deleted, left) = media::purge(app, name, before).await?;
            Ok(Outcome::Purged { deleted, left })
        }
        Command::ListSigningKeys {} => Ok(Outcome::SigningKeys { keys: signing_keys(app).await? }),
        Command::ChangeSigningKey { line, old } => {
            let key = SigningKey::parse(&line).ok_or(OperatorError::NoKey)?;
            let now = app.clock.now();
            let old: Option<_> = old.iter().map(|old| old_key(old, now)).collect();
            own_keys::change(app, key, old.ok_or(OperatorError::NoOldKey)?).await?;
            Ok(Outcome::SigningKeys { keys: signing_keys(app).await? })
        }
        Command::ListReports { after } => Ok(Outcome::Reports { reports: reports(app, after).await? }),
        Command::DeleteReport { number } => {
            let removed = app.store.write(move |transaction| transaction.remove_report(number)).await?;
            if removed { Ok(Outcome::Done {}) } else { Err(OperatorError::NoSuchReport) }
        }
        Command::Health {} => {
            health(app).await?;
            Ok(Outcome::Done {})
        }
        Command::Status {} => Ok(Outcome::Status { status: Box::new(status::status(app).await?) }),
        Command::Verify { from } => Ok(Outcome::Verified { part: verify(app, from).await? }),
    }
}

/// Resolves once the store has read and its writer got on: a server of which that can be said is well.
pub async fn health(app: &App) -> Result<(), StoreError> {
    app.store.read(|_| Ok::<_, StoreError>(())).await?;
    app.store.progress().await
}

async fn reports(app: &App, after: u64) -> Result<Vec<UserReport>, StoreError> {
    let found = app.store.read(move |view| {
        let shown = |report: crate::store::Report| {
            Ok(UserReport {
                number: report.number,
                at: report.at.0,
                by: view.user_id(report.by)?.to_string(),
                room_id: report.room_id,
                event_id: report.event_id,
                user_id: report.user_id,
                reason: report.reason,
            })
        };
        view.reports(after, limits::LISTED_REPORTS)?.into_iter().map(shown).collect::<Result<_, StoreError>>()
    });
    found.await
}

async fn signing_keys(app: &App) -> Result<Vec<PublicKey>, StoreError> {
    let shown = |OwnKey { id, key, expired_at }| PublicKey {
        id,
        key: Base64::<Standard, _>::new(key).encode(),
        expired_ts: expired_at.map(|at| at.0),
    };
    Ok(own_keys::all(app).await?.into_iter().map(shown).collect())
}

fn old_key(text: &str, now: Timestamp) -> Option<OwnKey> {
    let [id, key, at] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    id.strip_prefix("ed25519:").filter(|version| is_version(version))?;
    let key = Base64::<Standard>::parse(key).ok()?.into_inner();
    let expired_at = at.parse().ok().map(Timestamp).filter(|at| *at <= now)?;
    (key.len() == 32).then_some(OwnKey { id: id.to_owned(), key, expired_at: Some(expired_at) })
}

async fn live_account(app: &App, name: &str) -> Result<Account, OperatorError> {
    match accounts::find(app, name).await? {
        None => Err(OperatorError::NoSuchUser),
        Some(Account { deactivated_at: Some(_), .. }) => Err(OperatorError::Deactivated),
        Some(account) => Ok(account),
    }
}

fn listed(app: &App, account: Account) -> User {
    User {
        user_id: localpart::user_id(&account.localpart, &app.server_name).to_string(),
        localpart: account.localpart,
        admin: account.admin,
        locked: account.locked,
        suspended: account.suspended,
        deactivated: account.deactivated_at.is_some(),
        created_at: account.created_at.0,
    }
}
