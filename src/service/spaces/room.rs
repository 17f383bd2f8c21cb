//! A room as those are told who might come in, and the children of one that is a space, whether this server knows it or
//! another one tells it.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, events::StateEventType,
    room_version_rules::AuthorizationRules,
};
use serde_json::{Map, Value, json};

use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    room::version::Version,
    store::{
        StoreError, View,
        events::{Membership, RoomRecord},
    },
};

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    /// What is told of it, `room_id` first of all.
    pub summary: Map<String, Value>,
    /// If it is a space, in their order.
    pub children: Vec<Child>,
}

/// That a room is part of a space.
#[derive(Debug)]
pub(super) struct Child {
    pub room_id: OwnedRoomId,
    /// Servers by which it may be found.
    pub via: Vec<OwnedServerName>,
    /// The event that says so, stripped.
    event: Map<String, Value>,
}

impl Room {
    /// A room that this server is in, without children.
    pub(super) fn known(view: &View<'_>, room: RoomNumber, record: &RoomRecord) -> Result<Self, StoreError> {
        let listing = serde_json::to_value(view.listing(room, record)?).unwrap_or_default();
        let mut summary = match listing {
            Value::Object(summary) => summary,
            _ => Map::new(),
        };
        summary.insert("room_id".to_owned(), json!(view.room_id(room)?));
        summary.insert("num_joined_members".to_owned(), json!(record.joined));
        summary.insert("room_version".to_owned(), json!(record.version.id()));
        let content = |kind: StateEventType| -> Result<Value, StoreError> {
            let event = view.state_event(room, record.state, &kind.to_string(), "")?;
            let event = event.map(|event| view.event(room, event)).transpose()?;
            let content = event.and_then(|event| event.shown(record.version).content_as());
            Ok(content.unwrap_or_default())
        };
        let encryption = content(StateEventType::RoomEncryption)?;
        summary.insert("encryption".to_owned(), encryption["algorithm"].clone());
        if matches!(summary.get("join_rule").and_then(Value::as_str), Some("restricted" | "knock_restricted"))
        {
            let rules = content(StateEventType::RoomJoinRules)?;
            let allowed = rules["allow"].as_array().into_iter().flatten();
            let allowed = allowed.filter(|condition| condition["type"] == "m.room_membership");
            let allowed: Vec<_> = allowed.map(|condition| condition["room_id"].clone()).collect();
            summary.insert("allowed_room_ids".to_owned(), allowed.into());
        }
        Ok(Self { summary: proper(summary), children: Vec::new() })
    }

    /// The same with its children, if it is a space.
    pub(super) fn known_space(
        view: &View<'_>,
        room: RoomNumber,
        record: &RoomRecord,
        suggested_only: bool,
    ) -> Result<Self, StoreError> {
        let (mut space, mut children) = (Self::known(view, room, record)?, Vec::new());
        if space.is_space() {
            for entry in view.state(room, record.state).take(limits::SPACE_ENTRIES) {
                let (key, event) = entry?;
                if view.key_name(room, key)?.kind == CHILD {
                    let event = view.event(room, event)?.shown(record.version);
                    children.extend(serde_json::from_str(event.json()).ok());
                }
            }
        }
        space.children = Child::all(children, suggested_only);
        Ok(space)
    }

    /// A room as another server tells it; none if that is no room.
    pub(super) fn told(json: &str, suggested_only: bool) -> Option<Self> {
        let mut summary: Map<String, Value> = serde_json::from_str(json).ok()?;
        let children = match summary.remove("children_state") {
            Some(Value::Array(children)) if is_space(&summary) => children,
            _ => Vec::new(),
        };
        let children = children.into_iter().filter_map(|child| match child {
            Value::Object(child) => Some(child),
            _ => None,
        });
        let children = Child::all(children.collect(), suggested_only);
        let room = Self { summary: proper(summary), children };
        <&RoomId>::try_from(room.text("room_id")).is_ok().then_some(room)
    }

    /// What is told of it, with its children.
    pub(super) fn with_children(self) -> Value {
        let Self { mut summary, children } = self;
        let children: Vec<_> = children.into_iter().map(|child| Value::Object(child.event)).collect();
        summary.insert("children_state".to_owned(), children.into());
        summary.into()
    }

    /// Whether it is a space.
    pub(super) fn is_space(&self) -> bool {
        is_space(&self.summary)
    }

    /// Whether somebody who is nothing to it may read it, or ask to come in.
    /// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>
    pub(super) fn is_open(&self) -> bool {
        let is_open = match self.text("join_rule") {
            "public" => true,
            "knock" => self.knows(|rules| rules.knocking),
            "knock_restricted" => self.knows(|rules| rules.knock_restricted_join_rule),
            _ => false,
        };
        is_open || self.is_readable()
    }

    /// The rooms of which one must be in to join it.
    pub(super) fn allowed(&self) -> impl Iterator<Item = &RoomId> {
        let allowed = match self.text("join_rule") {
            "restricted" | "knock_restricted" if self.knows(|rules| rules.restricted_join_rule) => {
                self.summary.get("allowed_room_ids").and_then(Value::as_array)
            }
            _ => None,
        };
        let ids = allowed.into_iter().flatten().take(limits::SPACE_CHILDREN);
        ids.filter_map(|id| <&RoomId>::try_from(id.as_str()?).ok())
    }

    /// Whether a user of this server may know of it, being what they are to it.
    pub(super) fn is_open_to(&self, view: &View<'_>, user: UserNumber) -> Result<bool, StoreError> {
        let is = |room_id: &RoomId| match view.room_number(room_id)? {
            Some(room) => Ok::<_, StoreError>(view.stay(user, room)?.map(|stay| stay.membership)),
            None => Ok(None),
        };
        let own = <&RoomId>::try_from(self.text("room_id")).ok().map(is).transpose()?.flatten();
        match own {
            Some(Membership::Join | Membership::Invite) => return Ok(true),
            Some(Membership::Ban) => return Ok(self.is_readable()),
            _ if self.is_open() => return Ok(true),
            _ => {}
        }
        for room_id in self.allowed() {
            if is(room_id)? == Some(Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether its version has a join rule. One that isn't told is taken for a newer one.
    fn knows(&self, has: fn(&AuthorizationRules) -> bool) -> bool {
        let version = RoomVersionId::try_from(self.text("room_version")).ok();
        version.and_then(|version| Version::of(&version)).is_none_or(|version| has(version.auth()))
    }

    fn is_readable(&self) -> bool {
        self.summary.get("world_readable") == Some(&Value::Bool(true))
    }

    fn text(&self, field: &str) -> &str {
        self.summary.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Child {
    /// The children that such events name, in their order.
    /// <https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space>
    fn all(events: Vec<Map<String, Value>>, suggested_only: bool) -> Vec<Self> {
        let mut children: Vec<_> =
            events.into_iter().filter_map(|event| Self::of(event, suggested_only)).collect();
        let sent = |child: &Self| child.event.get("origin_server_ts").and_then(Value::as_u64);
        children.sort_by(|(order, a), (other_order, b)| {
            let orders = (order.is_none(), order).cmp(&(other_order.is_none(), other_order));
            orders.then_with(|| (sent(a), &a.room_id).cmp(&(sent(b), &b.room_id)))
        });
        children.truncate(limits::SPACE_CHILDREN);
        children.into_iter().map(|(_, child)| child).collect()
    }

    /// The child that an event names, with its `order`; none if it names none, or not any more.
    fn of(mut event: Map<String, Value>, suggested_only: bool) -> Option<(Option<String>, Self)> {
        event.retain(|field, _| STRIPPED.contains(&&**field));
        let text = |field: &str| event.get(field).and_then(Value::as_str);
        let content = event.get("content")?;
        let via = content["via"].as_array()?.iter();
        let via = via.filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok());
        let via: Vec<_> = via.take(limits::SPACE_SERVERS).collect();
        let is_wanted = !suggested_only || content["suggested"] == true;
        if text("type") != Some(CHILD)
            || text("sender").is_none()
            || event.get("origin_server_ts").and_then(Value::as_u64).is_none()
            || via.is_empty()
            || !is_wanted
            || content.to_string().len() > limits::SPACE_CHILD_BYTES
        {
            return None;
        }
        let is_order =
            |order: &&str| order.len() <= 50 && order.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let order = content["order"].as_str().filter(is_order).map(str::to_owned);
        let room_id = OwnedRoomId::try_from(text("state_key")?).ok()?;
        Some((order, Self { room_id, via, event }))
    }
}

fn is_space(summary: &Map<String, Value>) -> bool {
    summary.get("room_type").is_some_and(|kind| kind == "m.space")
}

/// What of a summary is as the specification has it, and what must be there.
fn proper(mut summary: Map<String, Value>) -> Map<String, Value> {
    summary.retain(|field, value| match &**field {
        "room_id" | "canonical_alias" | "name" | "topic" | "avatar_url" | "room_type" | "join_rule"
        | "encryption" | "room_version" => value.is_string(),
        "world_readable" | "guest_can_join" => value.is_boolean(),
        "num_joined_members" => value.is_u64(),
        "allowed_room_ids" => value.as_array().is_some_and(|ids| ids.iter().all(Value::is_string)),
        _ => false,
    });
    for (field, value) in
        [("num_joined_members", json!(0)), ("world_readable", json!(false)), ("guest_can_join", json!(false))]
    {
        summary.entry(field).or_insert(value);
    }
    summary
}

const CHILD: &str = "m.space.child";
/// What stripped state has, and with it what a child has. <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
const STRIPPED: [&str; 5] = ["type", "state_key", "content", "sender", "origin_server_ts"];

#[cfg(test)]
mod tests {
    use super::*;

    fn child(id: &str, sent: u64, content: Value) -> Value {
        let sender = "@alice:example.org";
        json!({"type": CHILD, "state_key": id, "sender": sender, "origin_server_ts": sent, "content": content})
    }

    fn children(events: Vec<Value>, suggested_only: bool) -> Vec<String> {
        let room = json!({"room_id": "!space:example.org", "room_type": "m.space", "children_state": events});
        let room = Room::told(&room.to_string(), suggested_only).unwrap();
        room.children.into_iter().map(|child| child.room_id.to_string()).collect()
    }

    // The example of the specification, and what it says of others.
    #[test]
    fn children_have_an_order() {
        let with = |order: Value| json!({"via": ["example.org"], "order": order});
        let without = || json!({"via": ["example.org"]});
        let events = vec![
            child("!d", 1_640_741_000_000, without()),
            child("!e", 1_640_641_000_000, without()),
            child("!c", 1_640_841_000_000, with(json!("first"))),
            child("!h", 1_640_941_000_000, with(json!("x".repeat(51)))),
            child("!a", 1_640_141_000_000, with(json!("aaaa"))),
            child("!i", 1_640_941_000_001, with(json!("\u{7f}"))),
            child("!b", 1_640_341_000_000, with(json!(" "))),
            child("!g", 1_640_641_000_000, with(json!(1))),
            child("!f", 1_640_341_000_001, with(json!(" "))),
        ];
        assert_eq!(children(events, false), ["!b", "!f", "!a", "!c", "!e", "!g", "!d", "!h", "!i"]);
    }

    #[test]
    fn what_names_no_child_is_none() {
        let good = child("!a:example.org", 1, json!({"via": ["example.org"], "suggested": true}));
        let mut bad = Vec::new();
        for (field, value) in [
            ("type", json!("m.space.parent")),
            ("state_key", json!("a")),
            ("sender", json!(null)),
            ("origin_server_ts", json!("1")),
            ("content", json!({})),
            ("content", json!({"via": []})),
            ("content", json!({"via": "example.org"})),
            ("content", json!({"via": ["example.org"], "x": "x".repeat(limits::SPACE_CHILD_BYTES)})),
        ] {
            let mut event = good.clone();
            event[field] = value;
            bad.push(event);
        }
        assert!(children(bad, false).is_empty());
        let plain = child("!b:example.org", 1, json!({"via": ["example.org"]}));
        let events = vec![good, plain];
        assert_eq!(children(events.clone(), true), ["!a:example.org"]);
        assert_eq!(children(events, false).len(), 2);
        let many = 0..=limits::SPACE_CHILDREN as u64;
        let many = many.map(|at| child(&format!("!{at}"), at, json!({"via": ["example.org"]})));
        assert_eq!(children(many.collect(), false).len(), limits::SPACE_CHILDREN);
    }

    #[test]
    fn what_a_server_tells_is_taken_as_far_as_it_is_proper() {
        let told = json!({
            "room_id": "!a:example.org", "name": 1, "topic": "Tea", "world_readable": "yes",
            "num_joined_members": -1, "allowed_room_ids": [1], "else": "x", "join_rule": "knock",
            "children_state": [child("!b:example.org", 1, json!({"via": ["example.org"]}))],
        });
        let room = Room::told(&told.to_string(), false).unwrap();
        let expected = json!({
            "room_id": "!a:example.org", "topic": "Tea", "world_readable": false, "guest_can_join": false,
            "num_joined_members": 0, "join_rule": "knock", "children_state": [],
        });
        assert!(room.is_open());
        assert_eq!(room.with_children(), expected, "it is no space");
        for bad in ["{}", "[]", "", r#"{"room_id": "a"}"#] {
            assert!(Room::told(bad, false).is_none(), "{bad}");
        }
    }
}
