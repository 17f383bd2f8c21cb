//! The use cases of the server, without HTTP types. What a handler may call, and what a worker shares with it.

pub mod account_data;
pub mod accounts;
pub mod aliases;
pub mod app;
pub mod devices;
pub mod filters;
pub mod ignored;
pub mod key_backup;
pub mod keys;
pub mod localpart;
pub mod media;
pub mod moderation;
pub mod openid;
pub mod operator;
pub mod passwords;
pub mod profile;
pub mod push_rules;
pub mod read;
pub mod receipts;
pub mod registration_tokens;
pub mod rooms;
mod rounds;
pub mod sessions;
mod settings;
pub mod shared_secret;
pub mod signer;
pub mod sync;
pub mod to_device;
pub mod turn;
pub mod typing;
pub mod uia;
pub mod unread;
pub mod upgrade;
mod verify;
pub mod write;

pub use app::App;
