//! What `/sync` answers, in the shape in which it is written.
//!
//! The events of a room's `state` and `timeline` are there also where there are none: the specification leaves
//! that open, and clients count on it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, api::client::sync::sync_events::v3::RoomSummary};
use serde::Serialize;
use serde_json::value::RawValue;

use super::device_lists::DeviceLists;
use crate::{service::keys, store::Counts};

/// The whole answer.
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
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub rooms: Rooms,
}

/// Rooms with news, by what the user is to them.
#[derive(Debug, Default, Serialize)]
pub struct Rooms {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, JoinedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, LeftRoom>,
}

/// A room in which the user is.
#[derive(Debug, Serialize)]
pub struct JoinedRoom {
    #[serde(skip_serializing_if = "RoomSummary::is_empty")]
    pub summary: RoomSummary,
    #[serde(flatten)]
    pub state: State,
    pub timeline: Timeline,
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

/// A room that the user left.
#[derive(Debug, Serialize)]
pub struct LeftRoom {
    #[serde(flatten)]
    pub state: State,
    pub timeline: Timeline,
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

/// A room's state, by the name of the moment that it is of.
#[derive(Debug, Serialize)]
pub enum State {
    /// Where the timeline starts.
    #[serde(rename = "state")]
    Before(Events),
    /// Where the timeline ends.
    #[serde(rename = "state_after")]
    After(Events),
    /// The same, by the name of
    /// [MSC4222](https://github.com/matrix-org/matrix-spec-proposals/pull/4222), where clients still know no other.
    #[serde(rename = "org.matrix.msc4222.state_after")]
    AfterByOlderName(Events),
}

/// What happened in a room.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    pub events: Vec<Box<RawValue>>,
    /// Whether events before these are left out.
    pub limited: bool,
    /// Where `/messages` finds what came before these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    /// Whether the device that syncs sent one of them.
    #[serde(skip)]
    pub has_echo: bool,
}

/// Events of any kind, each as it is written.
#[derive(Debug, Default, Serialize)]
pub struct Events {
    pub events: Vec<Box<RawValue>>,
}

impl Rooms {
    pub fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

impl JoinedRoom {
    /// Whether there is nothing to tell of the room.
    pub fn is_empty(&self) -> bool {
        self.summary.is_empty()
            && self.state.is_empty()
            && self.timeline.is_empty()
            && self.ephemeral.is_empty()
            && self.account_data.is_empty()
    }
}

impl State {
    fn is_empty(&self) -> bool {
        let (Self::Before(events) | Self::After(events) | Self::AfterByOlderName(events)) = self;
        events.is_empty()
    }
}

impl Timeline {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.limited
    }
}

impl Events {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
