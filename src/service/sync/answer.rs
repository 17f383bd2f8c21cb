//! What `/sync` answers, in the shape in which it is written, but for the lists of events in rooms.
//!
//! The events of a room's `state` and `timeline` are there also where there are none: the specification leaves
//! that open, and clients count on it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::collections::BTreeMap;

use ruma::api::client::sync::sync_events::v3::RoomSummary;
use serde::Serialize;
use serde_json::value::RawValue;

use super::device_lists::DeviceLists;
use crate::{service::keys, store::Counts};

/// The answer without its rooms.
#[derive(Debug, Default, Serialize)]
pub struct Response {
    /// Where the next request goes on.
    pub next_batch: String,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub presence: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub to_device: Events,
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    /// By algorithm.
    pub device_one_time_keys_count: keys::Counts,
    /// Algorithms; there also if there are none, because clients tell by that whether a server knows such keys.
    pub device_unused_fallback_key_types: Vec<String>,
}

/// A room in which the user is, without its state and its timeline.
#[derive(Debug, Default, Serialize)]
pub struct JoinedRoom {
    #[serde(skip_serializing_if = "RoomSummary::is_empty")]
    pub summary: RoomSummary,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub ephemeral: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
    pub unread_notifications: UnreadCounts,
    /// By the roots of threads, if the client wants them apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, UnreadCounts>,
}

/// How many events the user is to be notified of.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct UnreadCounts {
    pub notification_count: u64,
    pub highlight_count: u64,
}

impl From<Counts> for UnreadCounts {
    fn from(counts: Counts) -> Self {
        Self { notification_count: counts.notifications, highlight_count: counts.highlights }
    }
}

/// A room that the user left, without its state and its timeline.
#[derive(Debug, Serialize)]
pub struct LeftRoom {
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
}

/// A room that the user is asked to join.
#[derive(Debug, Serialize)]
pub struct InvitedRoom {
    pub invite_state: Events,
}

/// A room that the user asks to join.
#[derive(Debug, Serialize)]
pub struct KnockedRoom {
    pub knock_state: Events,
}

/// What happened in a room, without the events.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    /// Whether events before these are left out.
    pub limited: bool,
    /// Where `/messages` finds what came before these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
}

/// Events of any kind, each as it is written.
#[derive(Debug, Default, Serialize)]
pub struct Events {
    pub events: Vec<Box<RawValue>>,
}

impl Response {
    /// Whether there is nothing to tell, presence aside.
    pub fn is_empty(&self) -> bool {
        self.account_data.is_empty() && self.to_device.is_empty() && self.device_lists.is_empty()
    }
}

impl JoinedRoom {
    /// Whether there is nothing to tell of the room.
    pub fn is_empty(&self) -> bool {
        self.summary.is_empty() && self.ephemeral.is_empty() && self.account_data.is_empty()
    }
}

impl Events {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
