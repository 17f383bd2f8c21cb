//! The power levels of a room that is replaced by another, and of the one that replaces it. Pure.
//!
//! They stay what they are, apart from what the versions make of creators: since version 12 those are above all levels
//! and must not be named among the users, before it they are users like others. Since version 10 they are integers, where
//! they could be texts before.

use std::collections::BTreeSet;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId, int, serde::deserialize_v1_powerlevel,
};
use serde::de::{IntoDeserializer, value::Error};

use super::super::plan::{ADMIN, TOMBSTONE, above_state_default, level};
use crate::{base::ordered::Ordered, room::version::Version};

/// The creators of a room and the content of its `m.room.power_levels` event, if it has one.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    pub(super) version: Version,
    pub(super) creators: BTreeSet<OwnedUserId>,
    pub(super) content: Option<CanonicalJsonObject>,
}

impl Levels {
    /// The levels of the room that replaces this one. Who created this one and not that one has all the power there
    /// that a level can give.
    pub(super) fn replaced(self, version: Version, creators: &BTreeSet<OwnedUserId>) -> CanonicalJsonObject {
        let mut content = self.written_out();
        if self.above_all() {
            let highest = CanonicalJsonValue::from(highest(&content));
            let former = self.creators.into_iter().map(|user| (user.to_string(), highest.clone()));
            object_in(&mut content, "users").extend(former);
        }
        if version.auth().explicitly_privilege_room_creators {
            object_in(&mut content, "users")
                .retain(|user, _| !creators.iter().any(|creator| creator == user));
            let above = above_state_default(&content);
            let default = integer(&content, "state_default").unwrap_or(int!(50));
            let events = object_in(&mut content, "events");
            if integer(events, TOMBSTONE).is_none_or(|tombstone| tombstone <= default) {
                events.insert(TOMBSTONE.to_owned(), above.into());
            }
        }
        content
    }

    /// The levels of this room once it is replaced: only those with some power speak there and invite.
    pub(super) fn closed(self) -> CanonicalJsonObject {
        let mut content = self.written_out();
        let users_default = integer(&content, "users_default").unwrap_or_default();
        let least = users_default.saturating_add(int!(1)).max(int!(50));
        for field in ["events_default", "invite"] {
            let level = integer(&content, field).unwrap_or_default().max(least);
            content.insert(field.to_owned(), level.into());
        }
        content
    }

    /// The content in integers, or what is meant where there is none.
    fn written_out(&self) -> CanonicalJsonObject {
        if let Some(mut content) = self.content.clone() {
            if !self.version.auth().integer_power_levels {
                texts_to_integers(&mut content);
            }
            return content;
        }
        let mut content = CanonicalJsonObject::new();
        if !self.above_all() {
            let creators = self.creators.iter().map(|user| (user.to_string(), level(ADMIN)));
            content.insert("users".to_owned(), creators.into_map().into());
        }
        content
    }

    fn above_all(&self) -> bool {
        self.version.auth().explicitly_privilege_room_creators
    }
}

/// Puts the integers that texts count as in their places. What counts as none is left out.
/// <https://spec.matrix.org/v1.19/rooms/v9/#mroompower_levels-events-accept-values-as-strings>
fn texts_to_integers(content: &mut CanonicalJsonObject) {
    let counted = |value: &mut CanonicalJsonValue| {
        let CanonicalJsonValue::String(text) = value else { return true };
        let level = deserialize_v1_powerlevel(IntoDeserializer::<Error>::into_deserializer(&**text));
        level.map(|level| *value = level.into()).is_ok()
    };
    content.retain(|field, value| !SINGLE.contains(&&**field) || counted(value));
    for field in ["users", "events", "notifications"] {
        if let Some(levels) = content.get_mut(field).and_then(CanonicalJsonValue::as_object_mut) {
            levels.retain(|_, level| counted(level));
        }
    }
}

/// The fields that are one level each.
const SINGLE: [&str; 7] =
    ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"];

/// The highest level that stands anywhere, or [`ADMIN`].
fn highest(content: &CanonicalJsonObject) -> Int {
    let integers = |value: &CanonicalJsonValue| match value {
        CanonicalJsonValue::Integer(level) => vec![*level],
        CanonicalJsonValue::Object(levels) => {
            levels.values().filter_map(CanonicalJsonValue::as_integer).collect()
        }
        _ => Vec::new(),
    };
    content.values().flat_map(integers).fold(ADMIN.into(), Int::max)
}

fn integer(object: &CanonicalJsonObject, field: &str) -> Option<Int> {
    object.get(field).and_then(CanonicalJsonValue::as_integer)
}

/// The object in a field; an empty one is put where there is none.
fn object_in<'o>(content: &'o mut CanonicalJsonObject, field: &str) -> &'o mut CanonicalJsonObject {
    let value = content.entry(field.to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
    if value.as_object().is_none() {
        *value = CanonicalJsonObject::new().into();
    }
    value.as_object_mut().expect("it was made one")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALICE: &str = "@alice:one.example";
    const BOB: &str = "@bob:one.example";
    const CAROL: &str = "@carol:two.example";

    fn version(id: &str) -> Version {
        Version::of(&id.try_into().unwrap()).unwrap()
    }

    fn users<const N: usize>(users: [&str; N]) -> BTreeSet<OwnedUserId> {
        users.map(|user| user.try_into().unwrap()).into()
    }

    fn levels<const N: usize>(id: &str, creators: [&str; N], content: Value) -> Levels {
        let content = CanonicalJsonValue::try_from(content).unwrap();
        Levels { version: version(id), creators: users(creators), content: content.as_object().cloned() }
    }

    fn replaced<const N: usize>(old: Levels, id: &str, creators: [&str; N]) -> Value {
        serde_json::to_value(old.replaced(version(id), &users(creators))).unwrap()
    }

    #[test]
    fn levels_stay_where_creators_are_users() {
        let content = json!({
            "users": { ALICE: 100, BOB: 250 }, "users_default": 5, "events": { "m.room.name": 70 }, "kick": 20,
            "org.example.other": "kept",
        });
        for (from, to) in [("10", "10"), ("10", "11"), ("11", "10")] {
            assert_eq!(replaced(levels(from, [ALICE], content.clone()), to, [BOB]), content);
        }
    }

    #[test]
    fn texts_become_integers() {
        let content = json!({
            "users": { ALICE: "100", BOB: " +050 ", CAROL: "much" }, "kick": "-5", "ban": "", "redact": 70,
            "events": { "m.room.name": "70" }, "notifications": { "room": "1.5" }, "org.example.other": "7",
        });
        let expected = json!({
            "users": { ALICE: 100, BOB: 50 }, "kick": -5, "redact": 70, "events": { "m.room.name": 70 },
            "notifications": {}, "org.example.other": "7",
        });
        for from in ["1", "9"] {
            assert_eq!(replaced(levels(from, [ALICE], content.clone()), "10", [ALICE]), expected);
        }
        assert_eq!(replaced(levels("10", [ALICE], content.clone()), "11", [ALICE]), content);
    }

    #[test]
    fn creators_leave_the_users_where_they_are_above_all_levels() {
        let content = json!({ "users": { ALICE: 100, BOB: 50, CAROL: 20 } });
        for from in ["10", "11", "12"] {
            let old = levels(from, [], content.clone());
            let expected = json!({ "users": { CAROL: 20 }, "events": { "m.room.tombstone": 150 } });
            assert_eq!(replaced(old, "12", [ALICE, BOB]), expected);
        }
    }

    #[test]
    fn ending_a_room_takes_more_than_state_does() {
        let tombstone = |content: Value| {
            replaced(levels("11", [ALICE], content), "12", [ALICE])["events"]["m.room.tombstone"].clone()
        };
        assert_eq!(tombstone(json!({})), 150);
        assert_eq!(tombstone(json!({ "events": { "m.room.tombstone": 50 } })), 150);
        assert_eq!(tombstone(json!({ "events": { "m.room.tombstone": 51 } })), 51);
        assert_eq!(tombstone(json!({ "state_default": 200, "events": { "m.room.tombstone": 200 } })), 201);
    }

    #[test]
    fn creators_become_users_with_the_highest_level() {
        let content = json!({ "users": { BOB: 30 }, "events": { "m.room.tombstone": 150 } });
        let old = levels("12", [ALICE, CAROL], content.clone());
        let expected = json!({
            "users": { ALICE: 150, BOB: 30, CAROL: 150 }, "events": { "m.room.tombstone": 150 },
        });
        assert_eq!(replaced(old.clone(), "11", [ALICE]), expected);
        let expected = json!({ "users": { BOB: 30, CAROL: 150 }, "events": { "m.room.tombstone": 150 } });
        assert_eq!(replaced(old, "12", [ALICE]), expected);
        assert_eq!(
            replaced(levels("12", [ALICE], json!({ "users": { BOB: 30 } })), "10", [BOB])["users"],
            json!({ ALICE: 100, BOB: 30 }),
        );
    }

    #[test]
    fn a_room_without_levels_gets_those_that_are_meant() {
        let none = |id| Levels { content: None, ..levels(id, [ALICE], json!({})) };
        assert_eq!(replaced(none("11"), "11", [BOB]), json!({ "users": { ALICE: 100 } }));
        assert_eq!(replaced(none("12"), "11", [BOB]), json!({ "users": { ALICE: 100 } }));
        let closed = |id| serde_json::to_value(none(id).closed()).unwrap();
        assert_eq!(closed("11"), json!({ "users": { ALICE: 100 }, "events_default": 50, "invite": 50 }));
        assert_eq!(closed("12"), json!({ "events_default": 50, "invite": 50 }));
    }

    #[test]
    fn who_has_no_power_is_silent_in_a_closed_room() {
        let cases = [
            (json!({}), 50, 50),
            (json!({ "users_default": 49 }), 50, 50),
            (json!({ "users_default": 50 }), 51, 51),
            (json!({ "users_default": 99, "invite": 120 }), 100, 120),
            (json!({ "events_default": 60, "invite": 10 }), 60, 50),
        ];
        for (content, events_default, invite) in cases {
            let closed = levels("11", [ALICE], content.clone()).closed();
            let found = ["events_default", "invite"].map(|field| integer(&closed, field));
            assert_eq!(found, [Some(events_default.into()), Some(invite.into())], "{content}");
        }
    }
}
