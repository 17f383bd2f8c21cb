//! What is answered, in the shapes in which it is written, but for what is written piece by piece.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedUserId, events::room::member::MembershipState};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{connection::Pos, request::Shape};
use crate::{
    base::ids::Position,
    service::{keys, read::listing::Listing, sync::device_lists::DeviceLists},
};

/// An answer, part by part.
pub struct Answer(pub Vec<Part>);

/// A part of an answer.
pub enum Part {
    Json(Vec<u8>),
    List(Listing),
}

/// What begins an answer.
#[derive(Serialize)]
pub(super) struct Head<'a> {
    pub(super) pos: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lists: BTreeMap<&'a str, List>,
    #[serde(skip_serializing_if = "Extensions::is_empty")]
    pub(super) extensions: Extensions,
}

#[derive(Serialize)]
pub(super) struct List {
    pub(super) count: u64,
}

impl Answer {
    /// Tells nothing, and that the next request goes on where this one did.
    pub(super) fn nothing(pos: Pos) -> Self {
        Self(vec![Part::Json(format!("{{\"pos\":\"{pos}\"}}").into_bytes())])
    }

    /// Puts an answer together; `rooms` are members of an object, and what is left of the last.
    pub(super) fn new(head: &Head<'_>, mut rooms: Vec<u8>, rest: Option<(Listing, Vec<u8>)>) -> Self {
        let mut json = serde_json::to_vec(head).expect("an answer has a JSON text");
        if rooms.is_empty() {
            return Self(vec![Part::Json(json)]);
        }
        json.pop();
        json.extend_from_slice(br#","rooms":{"#);
        json.append(&mut rooms);
        let mut parts = Vec::new();
        if let Some((list, end)) = rest {
            parts.push(Part::Json(std::mem::replace(&mut json, end)));
            parts.push(Part::List(list));
        }
        json.extend_from_slice(b"}}");
        parts.push(Part::Json(json));
        Self(parts)
    }
}

/// A room but for its state.
#[derive(Default, Serialize)]
pub(super) struct Room {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) avatar: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heroes: Option<Vec<Hero>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_dm: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) initial: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) expanded_timeline: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) unstable_expanded_timeline: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) timeline: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_batch: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) num_live: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) joined_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invited_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) highlight_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub(super) bump_stamp: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<MembershipState>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lists: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invite_state: Option<Vec<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stripped_state: Option<Vec<Box<RawValue>>>,
}

/// Somebody to name a room by.
#[derive(Serialize)]
pub(super) struct Hero {
    pub(super) user_id: OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) avatar_url: Option<String>,
}

impl Room {
    /// Whether nothing of it is news, as far as that is known before its timeline is written.
    pub(super) fn is_empty(&self) -> bool {
        !self.initial
            && self.name.is_none()
            && self.avatar.is_none()
            && self.heroes.is_none()
            && self.is_dm.is_none()
            && self.joined_count.is_none()
            && self.bump_stamp.is_none()
    }

    /// Says whether its timeline has events that were told before.
    pub(super) fn expand(&mut self, shape: Shape, is_expanded: bool) {
        match shape {
            Shape::Experimental => self.unstable_expanded_timeline = is_expanded,
            Shape::Accepted => self.expanded_timeline = is_expanded,
        }
    }
}

/// What is told beside rooms; each only if the client wants it.
#[derive(Default, Serialize)]
pub(super) struct Extensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_device: Option<ToDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) e2ee: Option<E2ee>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account_data: Option<AccountData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipts: Option<OfRooms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) typing: Option<OfRooms>,
    /// Left out without news.
    #[serde(rename = "io.element.msc4308.thread_subscriptions", skip_serializing_if = "Option::is_none")]
    pub(super) threads: Option<Value>,
}

#[derive(Serialize)]
pub(super) struct ToDevice {
    pub(super) next_batch: String,
    pub(super) events: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
pub(super) struct E2ee {
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub(super) device_lists: DeviceLists,
    pub(super) device_one_time_keys_count: keys::Counts,
    pub(super) device_unused_fallback_key_types: Vec<String>,
}

#[derive(Default, Serialize)]
pub(super) struct AccountData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) global: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rooms: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>,
}

/// An event of each room.
#[derive(Default, Serialize)]
pub(super) struct OfRooms {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rooms: BTreeMap<OwnedRoomId, Box<RawValue>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.to_device.is_none()
            && self.e2ee.is_none()
            && self.account_data.is_none()
            && self.receipts.is_none()
            && self.typing.is_none()
            && self.threads.is_none()
    }

    /// Whether there is something in them that is worth an answer by itself.
    pub(super) fn has_news(&self) -> bool {
        self.to_device.as_ref().is_some_and(|told| !told.events.is_empty())
            || self.e2ee.as_ref().is_some_and(|told| !told.device_lists.is_empty())
            || self.account_data.as_ref().is_some_and(|told| !told.is_empty())
            || self.threads.is_some()
            || [&self.receipts, &self.typing].into_iter().flatten().any(|told| !told.rooms.is_empty())
    }
}

impl AccountData {
    pub(super) fn is_empty(&self) -> bool {
        self.global.is_empty() && self.rooms.is_empty()
    }
}

fn is_false(is: &bool) -> bool {
    !is
}

fn position<S: serde::Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(position.unwrap_or_default().0)
}
