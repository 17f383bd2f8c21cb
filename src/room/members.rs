//! Who is what in a state of a room: memberships and power.
//!
//! Reads a state; judges nothing. Whether an event may stand is [`auth`](super::auth)'s business.
//! <https://spec.matrix.org/v1.19/client-server-api/#permissions>

use std::{collections::HashSet, sync::Arc};

use ruma::{
    Int, OwnedUserId, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{member::MembershipState, power_levels::UserPowerLevel},
    },
    state_res::events::{
        RoomCreateEvent, RoomMemberEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField as Action,
    },
};

use super::{
    graph::{Graph, State},
    pdu::Pdu,
    version::Version,
};

/// A user's membership in a state; who never had one has left.
pub fn membership<G: Graph>(user: &UserId, state: &State, graph: &G) -> Result<MembershipState, G::Error> {
    let Some(number) = state.entry(graph, &StateEventType::RoomMember, user.as_str())? else {
        return Ok(MembershipState::Leave);
    };
    Ok(membership_set(&*graph.event(number)?).unwrap_or(MembershipState::Leave))
}

/// The membership that a member event sets; none if it is not a member event.
pub fn membership_set(event: &Pdu) -> Option<MembershipState> {
    (*event.kind() == TimelineEventType::RoomMember)
        .then(|| RoomMemberEvent::new(event).membership().ok())
        .flatten()
}

/// The power levels of one state.
#[derive(Debug)]
pub struct Power {
    version: Version,
    creators: HashSet<OwnedUserId>,
    levels: Option<RoomPowerLevelsEvent<Arc<Pdu>>>,
}

impl Power {
    /// The power levels in a state; none where no room was created yet.
    pub fn of<G: Graph>(state: &State, graph: &G, version: Version) -> Result<Option<Self>, G::Error> {
        let Some(create) = state.entry(graph, &StateEventType::RoomCreate, "")? else { return Ok(None) };
        let create = RoomCreateEvent::new(graph.event(create)?);
        let levels = match state.entry(graph, &StateEventType::RoomPowerLevels, "")? {
            Some(number) => Some(RoomPowerLevelsEvent::new(graph.event(number)?)),
            None => None,
        };
        let creators = create.creators(version.auth()).unwrap_or_default();
        Ok(Some(Self { version, creators, levels }))
    }

    /// Who created the room.
    pub fn creators(&self) -> impl Iterator<Item = &UserId> {
        self.creators.iter().map(|creator| &**creator)
    }

    /// The power of a user. Since version 12 that of a room's creators is infinite.
    pub fn of_user(&self, user: &UserId) -> UserPowerLevel {
        let rules = self.version.auth();
        let creator = self.creators.contains(user);
        if creator && rules.explicitly_privilege_room_creators {
            return UserPowerLevel::Infinite;
        }
        let level = match &self.levels {
            Some(levels) => levels.user_power_level(user, rules).unwrap_or_default(),
            None if creator => CREATOR_LEVEL.into(),
            None => Int::default(),
        };
        UserPowerLevel::Int(level)
    }

    /// The level that an action needs.
    pub fn needed(&self, action: Action) -> Int {
        let rules = self.version.auth();
        let set = self.levels.as_ref().and_then(|levels| levels.get_as_int(action, rules).ok().flatten());
        set.unwrap_or_else(|| action.default_value())
    }

    /// The level that sending an event of this type needs.
    pub fn needed_to_send(&self, kind: &TimelineEventType, state_key: Option<&str>) -> Int {
        let rules = self.version.auth();
        let default = if state_key.is_some() { Action::StateDefault } else { Action::EventsDefault };
        match &self.levels {
            Some(levels) => {
                levels.event_power_level(kind, state_key, rules).unwrap_or_else(|_| self.needed(default))
            }
            None => default.default_value(),
        }
    }

    /// Whether a user may notify everybody in a way: each has a level of its own.
    /// <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>
    pub fn may_notify(&self, user: &UserId, kind: &str) -> bool {
        let levels = self.levels.as_ref();
        let notifications =
            levels.and_then(|levels| levels.notifications(self.version.auth()).ok().flatten());
        let needed = notifications.and_then(|notifications| notifications.get(kind).copied());
        self.of_user(user) >= needed.unwrap_or_else(|| NOTIFICATION_LEVEL.into())
    }

    /// Whether a user has the level that an action needs.
    pub fn may(&self, user: &UserId, action: Action) -> bool {
        self.of_user(user) >= self.needed(action)
    }
}

/// The level that notifying everybody takes where none was set.
const NOTIFICATION_LEVEL: i32 = 50;

/// A creator's level where no power levels were set.
const CREATOR_LEVEL: i32 = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        base::json::Object,
        room::{
            fixture::{ALICE, BOB, CAROL, Outcome, World},
            hash,
        },
    };

    fn user(id: &str) -> &UserId {
        <&UserId>::try_from(id).unwrap()
    }

    fn power(world: &World) -> Power {
        Power::of(&world.current, world, world.version).unwrap().unwrap()
    }

    #[test]
    fn levels_come_from_the_event_and_defaults_from_the_specification() {
        let (mut world, last) = World::new("11");
        let content = json!({
            "users": { ALICE: 100, BOB: 30 }, "users_default": 5, "kick": 20, "events": { "m.room.name": 70 },
        });
        world.accept(ALICE, &[&last], "m.room.power_levels", Some(""), content);
        let power = power(&world);
        assert_eq!(power.of_user(user(BOB)), UserPowerLevel::Int(ruma::int!(30)));
        assert_eq!(power.of_user(user(CAROL)), UserPowerLevel::Int(ruma::int!(5)));
        assert!(power.may(user(BOB), Action::Kick) && !power.may(user(BOB), Action::Ban));
        assert!(power.may(user(CAROL), Action::Invite));
        assert_eq!(power.needed_to_send(&"m.room.name".into(), Some("")), ruma::int!(70));
        assert_eq!(power.needed_to_send(&"m.room.topic".into(), Some("")), ruma::int!(50));
        assert_eq!(power.needed_to_send(&"m.room.message".into(), None), ruma::int!(0));
    }

    #[test]
    fn a_room_without_levels_has_one_powerful_member() {
        for version in Version::all() {
            let mut world = World::empty(version);
            let content = json!({ "room_version": version.id(), "creator": ALICE });
            world.accept(ALICE, &[], "m.room.create", Some(""), content);
            let power = power(&world);
            let expected = match version.auth().explicitly_privilege_room_creators {
                true => UserPowerLevel::Infinite,
                false => UserPowerLevel::Int(CREATOR_LEVEL.into()),
            };
            assert_eq!(power.of_user(user(ALICE)), expected);
            assert_eq!(power.of_user(user(BOB)), UserPowerLevel::Int(Int::default()));
        }
        let nothing = World::empty(Version::DEFAULT);
        assert!(Power::of(&State::default(), &nothing, Version::DEFAULT).unwrap().is_none());
    }

    #[test]
    fn additional_creators_count_as_creators_since_version_12() {
        for (version, infinite) in [("11", false), ("12", true)] {
            let mut world = World::empty(World::new(version).0.version);
            let content = json!({ "room_version": version, "additional_creators": [BOB] });
            world.accept(ALICE, &[], "m.room.create", Some(""), content);
            assert_eq!(power(&world).of_user(user(BOB)) == UserPowerLevel::Infinite, infinite);
        }
    }

    #[test]
    fn old_versions_take_texts_and_fractions_for_levels() {
        for (version, given, expected) in [
            ("1", json!("60"), Some(60)),
            ("5", json!(60.9), Some(60)),
            ("6", json!(60.9), None),
            ("9", json!(" +060 "), Some(60)),
            ("10", json!("60"), None),
        ] {
            let (mut world, last) = World::new(version);
            let content = json!({
                "users": { ALICE: 100, BOB: given }, "kick": given, "notifications": { "room": given },
                "events": { "m.room.name": given },
            });
            let levels = world.make(ALICE, &[&last], "m.room.topic", Some(""), json!({}));
            let mut levels = serde_json::to_value(levels).unwrap();
            levels["type"] = json!("m.room.power_levels");
            levels["content"] = content;
            levels["signatures"] = json!({});
            let mut levels = Object::parse(&levels.to_string()).unwrap();
            hash::add_content_hash(&mut levels).unwrap();
            world.sign(&mut levels, user(ALICE));
            let outcome = world.arrive(levels);
            let Some(expected) = expected else {
                assert!(!matches!(outcome, Outcome::Accepted), "version {version}: {outcome:?}");
                continue;
            };
            assert!(matches!(outcome, Outcome::Accepted), "version {version}: {outcome:?}");
            let power = power(&world);
            assert_eq!(power.of_user(user(BOB)), UserPowerLevel::Int(expected.into()));
            assert_eq!(power.needed(Action::Kick), Int::from(expected));
            assert_eq!(power.needed_to_send(&"m.room.name".into(), Some("")), Int::from(expected));
            assert!(power.may_notify(user(BOB), "room") && !power.may_notify(user(CAROL), "room"));
        }
    }

    #[test]
    fn who_never_was_a_member_has_left() {
        let (world, _) = World::new("12");
        let of = |id| membership(user(id), &world.current, &world).unwrap();
        assert_eq!(of(BOB), MembershipState::Join);
        assert_eq!(of("@nobody:one.example"), MembershipState::Leave);
    }
}
