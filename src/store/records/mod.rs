//! The record store: what is not a room event, in SQLite. Migrations are numbered SQL; one file a subject reads and writes
//! its tables, as methods of `View` and `Transaction`.

pub(in crate::store) mod connection;
pub(in crate::store) mod migrations;

mod account_data;
mod check;
mod connections;
mod dehydrated_devices;
mod delayed_events;
mod devices;
mod filters;
mod identities;
mod key_backups;
mod keys;
mod listed_rooms;
mod loads;
mod media;
mod oauth;
mod out_of_band;
mod own_keys;
mod profiles;
mod pushers;
mod receipts;
mod redacted;
mod registration_tokens;
mod remote_keys;
mod reports;
mod sending;
mod server_keys;
mod server_name;
mod tasks;
mod thread_subscriptions;
mod to_device;
mod tokens;
mod unread;
mod user_words;
mod users;
mod values;
mod waiting_events;

pub use self::{
    account_data::AccountData,
    check::RecordFinding,
    dehydrated_devices::DehydratedDevice,
    delayed_events::{DelayedEvent, EndOfDelay},
    devices::Device,
    identities::Identity,
    key_backups::{BackedUpKey, BackupScope, BackupState, KeyBackup},
    keys::{CrossSigningKey, DeviceKeys, KeySignature, OneTimeKey},
    listed_rooms::{ListedRoom, Rank, RoomPage, RoomSearch},
    loads::RoomLoad,
    media::{ContentHash, Media, MediaPart, MediaUsage, NewMedia, StoredContent},
    oauth::{OAuthSession, SignedIn},
    out_of_band::OutOfBand,
    own_keys::OwnKey,
    pushers::{Pusher, PusherSettings, PusherStand},
    receipts::Receipt,
    registration_tokens::RegistrationToken,
    remote_keys::RemoteUser,
    reports::Report,
    sending::{Destination, DeviceChange, OutgoingMessage},
    server_keys::{KeyDocument, StoredServerKey},
    tasks::Task,
    thread_subscriptions::{FollowedThread, Subscription},
    to_device::ToDeviceMessage,
    tokens::Bearer,
    unread::{Counts, CountsByThread, Unread},
    users::Account,
    waiting_events::{WaitingEvent, WaitingRoom},
};
