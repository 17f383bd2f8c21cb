//! What those who aren't in a room may be told of it, by its current state.
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use std::sync::Arc;

use ruma::{
    OwnedMxcUri, OwnedRoomAliasId,
    events::{
        StateEventType,
        room::{guest_access::GuestAccess, history_visibility::HistoryVisibility},
    },
    room::{JoinRuleKind, RoomType},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::pdu::Pdu;

/// How a room presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical_alias: Option<OwnedRoomAliasId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_aliases: Vec<OwnedRoomAliasId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<OwnedMxcUri>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_type: Option<RoomType>,
    pub join_rule: JoinRuleKind,
    pub world_readable: bool,
    pub guest_can_join: bool,
    /// Whether users of other servers can be in it.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub federated: bool,
}

impl Listing {
    /// The listing of a room of which `entry` gives the state events with an empty state key, as they are shown. An
    /// event that says something else than it should counts as none.
    ///
    /// # Errors
    /// What `entry` fails with.
    pub fn of<E>(mut entry: impl FnMut(StateEventType) -> Result<Option<Arc<Pdu>>, E>) -> Result<Self, E> {
        let create: Create = content(entry(StateEventType::RoomCreate)?);
        let name: Name = content(entry(StateEventType::RoomName)?);
        let topic: Topic = content(entry(StateEventType::RoomTopic)?);
        let aliases: Aliases = content(entry(StateEventType::RoomCanonicalAlias)?);
        let avatar: Avatar = content(entry(StateEventType::RoomAvatar)?);
        let rule: Rule = content(entry(StateEventType::RoomJoinRules)?);
        let history: History = content(entry(StateEventType::RoomHistoryVisibility)?);
        let guests: Guests = content(entry(StateEventType::RoomGuestAccess)?);
        Ok(Self {
            name: name.name.filter(|name| !name.is_empty()),
            topic: topic.topic.filter(|topic| !topic.is_empty()),
            canonical_alias: aliases.alias,
            alt_aliases: aliases.alt_aliases,
            avatar_url: avatar.url.filter(|url| !url.as_str().is_empty()),
            room_type: create.room_type,
            join_rule: rule.join_rule.unwrap_or(JoinRuleKind::Invite),
            world_readable: history.history_visibility == Some(HistoryVisibility::WorldReadable),
            guest_can_join: guests.guest_access == Some(GuestAccess::CanJoin),
            federated: create.federate.unwrap_or(true),
        })
    }

    /// Whether this event of a state is one of those that make a listing.
    pub fn tells(kind: &StateEventType) -> bool {
        matches!(kind, StateEventType::RoomName | StateEventType::RoomTopic)
            || matches!(kind, StateEventType::RoomCanonicalAlias | StateEventType::RoomAvatar)
            || matches!(kind, StateEventType::RoomCreate | StateEventType::RoomGuestAccess)
            || Self::opens(kind)
    }

    /// Whether this event of a state is one of those that say whether everybody may join or read the room.
    pub fn opens(kind: &StateEventType) -> bool {
        matches!(kind, StateEventType::RoomJoinRules | StateEventType::RoomHistoryVisibility)
    }

    /// Whether everybody may join or read the room: its members can be found by everybody.
    /// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch>
    pub fn is_open(&self) -> bool {
        self.join_rule == JoinRuleKind::Public || self.world_readable
    }
}

fn yes() -> bool {
    true
}

fn content<T: Default + DeserializeOwned>(event: Option<Arc<Pdu>>) -> T {
    event.and_then(|event| event.content_as()).unwrap_or_default()
}

#[derive(Default, Deserialize)]
struct Create {
    #[serde(rename = "type")]
    room_type: Option<RoomType>,
    #[serde(rename = "m.federate")]
    federate: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Name {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Topic {
    topic: Option<String>,
}

#[derive(Default, Deserialize)]
struct Aliases {
    alias: Option<OwnedRoomAliasId>,
    #[serde(default)]
    alt_aliases: Vec<OwnedRoomAliasId>,
}

#[derive(Default, Deserialize)]
struct Avatar {
    url: Option<OwnedMxcUri>,
}

#[derive(Default, Deserialize)]
struct Rule {
    join_rule: Option<JoinRuleKind>,
}

#[derive(Default, Deserialize)]
struct History {
    history_visibility: Option<HistoryVisibility>,
}

#[derive(Default, Deserialize)]
struct Guests {
    guest_access: Option<GuestAccess>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::room::{
        fixture::{ALICE, World},
        graph::Graph,
    };

    fn listing(state: &[(&str, Value)]) -> Listing {
        let (mut world, mut last) = World::new("11");
        for (kind, content) in state {
            last = world.accept(ALICE, &[&last], kind, Some(""), content.clone());
        }
        let entry = |kind: StateEventType| match world.current.entry(&world, &kind, "")? {
            Some(number) => world.event(number).map(Some),
            None => Ok(None),
        };
        Listing::of(entry).unwrap()
    }

    #[test]
    fn a_room_tells_what_it_says_of_itself() {
        let whole = listing(&[
            ("m.room.name", json!({"name": "Tea"})),
            ("m.room.topic", json!({"topic": "Leaves", "m.topic": {"m.text": [{"body": "Leaves"}]}})),
            (
                "m.room.canonical_alias",
                json!({"alias": "#tea:one.example", "alt_aliases": ["#t:one.example"]}),
            ),
            ("m.room.avatar", json!({"url": "mxc://one.example/tea"})),
            ("m.room.join_rules", json!({"join_rule": "knock_restricted"})),
            ("m.room.history_visibility", json!({"history_visibility": "world_readable"})),
            ("m.room.guest_access", json!({"guest_access": "can_join"})),
        ]);
        let written = serde_json::to_value(&whole).unwrap();
        let expected = json!({
            "name": "Tea", "topic": "Leaves", "canonical_alias": "#tea:one.example",
            "alt_aliases": ["#t:one.example"], "avatar_url": "mxc://one.example/tea",
            "join_rule": "knock_restricted", "world_readable": true, "guest_can_join": true,
        });
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Listing>(written).unwrap(), whole);
    }

    #[test]
    fn what_is_no_name_is_none() {
        for content in [json!({}), json!({"name": ""}), json!({"name": 1}), json!({"name": null})] {
            assert_eq!(listing(&[("m.room.name", content)]).name, None);
        }
        let aliases = json!({"alias": "tea", "alt_aliases": []});
        assert_eq!(listing(&[("m.room.canonical_alias", aliases)]).canonical_alias, None);
    }

    #[test]
    fn a_room_is_open_by_its_join_rule_or_its_history() {
        let open = |rule: &str, history: &str| {
            let listing = listing(&[
                ("m.room.join_rules", json!({"join_rule": rule})),
                ("m.room.history_visibility", json!({"history_visibility": history})),
            ]);
            listing.is_open()
        };
        assert!(open("public", "joined") && open("invite", "world_readable"));
        assert!(!open("invite", "shared") && !open("knock", "shared") && !open("org.example", "invited"));
        assert!(Listing::opens(&"m.room.join_rules".into()) && !Listing::opens(&"m.room.name".into()));
    }
}
