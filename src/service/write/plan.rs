//! What a new room starts with: the events that a request to create one implies, in the specification's order.
//!
//! Pure: it writes drafts. Whether the creator may send each is judged as it is for any other event.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::collections::BTreeSet;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedRoomAliasId, OwnedUserId, UserId,
    events::TimelineEventType, int,
};

use super::member::Profile;
use crate::{
    base::{json::Object, ordered::Ordered},
    room::{build::Draft, pdu::FormatError, version::Version},
};

/// A room that somebody wants.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// Its version.
    pub version: Version,
    /// What the client wants in the create event; `creator` and `room_version` are the server's.
    pub creation_content: Object,
    /// Which events it starts with by default.
    pub preset: Preset,
    /// State events to set, in order; they take precedence over the preset's.
    pub initial_state: Vec<Draft>,
    /// Put over the default power levels, field by field.
    pub power_levels: Object,
    /// The alias to begin with, which becomes the canonical one.
    pub alias: Option<OwnedRoomAliasId>,
    /// The name.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// Whom to invite.
    pub invite: Vec<OwnedUserId>,
    /// Whether the invites are to a conversation of two.
    pub is_direct: bool,
    /// Whether the room is in the directory from the beginning.
    pub published: bool,
}

impl NewRoom {
    /// One of which nothing else is wanted.
    pub fn new(version: Version, preset: Preset) -> Self {
        Self {
            version,
            creation_content: Object::default(),
            preset,
            initial_state: Vec::new(),
            power_levels: Object::default(),
            alias: None,
            name: None,
            topic: None,
            invite: Vec::new(),
            is_direct: false,
            published: false,
        }
    }
}

/// What a room is like where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation.
    Private,
    /// By invitation, and those invited at once are the creator's equals.
    TrustedPrivate,
    /// For everybody.
    Public,
}

/// Why no room can be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Membership is not for clients to set by `initial_state`.
    #[error("`initial_state` must not hold events of type {0}")]
    Forbidden(TimelineEventType),
    /// `additional_creators` is no list of user ids.
    #[error("`additional_creators` must be a list of user ids")]
    Creators,
    /// A content is not what the room's version takes.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The drafts of a new room, all by its creator: the create event first, invitations last.
///
/// # Errors
/// The request holds what no room can start with.
pub fn plan(room: NewRoom, creator: &UserId, profile: &Profile) -> Result<Vec<Draft>, PlanError> {
    let NewRoom { preset, initial_state, name, topic, .. } = &room;
    if let Some(event) = initial_state
        .iter()
        .find(|event| matches!(event.kind, TimelineEventType::RoomCreate | TimelineEventType::RoomMember))
    {
        return Err(PlanError::Forbidden(event.kind.clone()));
    }
    let mut drafts = vec![
        state("m.room.create", created(&room, creator)?),
        Draft { state_key: Some(creator.to_string()), ..state("m.room.member", profile.content("join")) },
        state("m.room.power_levels", power_levels(&room, creator)),
    ];
    if let Some(alias) = &room.alias {
        drafts.push(state("m.room.canonical_alias", object([("alias", alias.as_str().into())])));
    }
    let given = |kind: &TimelineEventType| {
        initial_state.iter().any(|event| event.kind == *kind && event.state_key.as_deref() == Some(""))
    };
    drafts.extend(preset_events(*preset).into_iter().filter(|draft| !given(&draft.kind)));
    let stands = |event: &&Draft| match event.kind {
        TimelineEventType::RoomName => name.is_none(),
        TimelineEventType::RoomTopic => topic.is_none(),
        _ => true,
    };
    drafts.extend(initial_state.iter().filter(stands).cloned());
    if let Some(name) = name {
        drafts.push(state("m.room.name", object([("name", name.as_str().into())])));
    }
    if let Some(topic) = topic {
        drafts.push(state("m.room.topic", topic_content(topic)));
    }
    let mut invited = BTreeSet::from([creator]);
    for user in room.invite.iter().filter(|user| invited.insert(user)) {
        let mut content = object([("membership", "invite".into())]);
        if room.is_direct {
            content.insert("is_direct".to_owned(), true.into());
        }
        drafts.push(Draft { state_key: Some(user.to_string()), ..state("m.room.member", content) });
    }
    if room.version.strict_json() && drafts.iter().any(|draft| draft.content.canonical().is_none()) {
        return Err(FormatError::Number.into());
    }
    Ok(drafts)
}

/// The content of a create event, with what the server writes itself.
pub(super) fn create_content(version: Version, creator: &UserId, content: impl Into<Object>) -> Object {
    let mut content = content.into();
    content.insert("room_version", version.id().as_str().into());
    content.remove("creator");
    if !version.auth().use_room_create_sender {
        content.insert("creator", creator.as_str().into());
    }
    content
}

fn created(room: &NewRoom, creator: &UserId) -> Result<Object, PlanError> {
    let rules = room.version.auth();
    let mut content = create_content(room.version, creator, room.creation_content.clone());
    if rules.additional_room_creators && room.preset == Preset::TrustedPrivate && !room.invite.is_empty() {
        let named = content.remove("additional_creators").unwrap_or(CanonicalJsonValue::Array(Vec::new()));
        let CanonicalJsonValue::Array(mut creators) = named else { return Err(PlanError::Creators) };
        for user in room.invite.iter().filter(|user| *user != creator) {
            let user = CanonicalJsonValue::from(user.as_str());
            if !creators.contains(&user) {
                creators.push(user);
            }
        }
        content.insert("additional_creators", CanonicalJsonValue::Array(creators));
    }
    Ok(content)
}

/// The specification's default levels, written out, and more for what can't be taken back.
fn power_levels(room: &NewRoom, creator: &UserId) -> Object {
    let explicit_creators = room.version.auth().explicitly_privilege_room_creators;
    let mut users = CanonicalJsonObject::new();
    if !explicit_creators {
        users.insert(creator.to_string(), level(ADMIN));
        if room.preset == Preset::TrustedPrivate {
            users.extend(room.invite.iter().map(|user| (user.to_string(), level(ADMIN))));
        }
    }
    let events =
        ["m.room.encryption", "m.room.history_visibility", "m.room.power_levels", "m.room.server_acl"];
    let mut events = object(events.map(|kind| (kind, level(ADMIN))));
    if !explicit_creators {
        events.insert(TOMBSTONE.to_owned(), level(ADMIN));
    }
    let mut levels = Object::from(object([
        ("ban", level(50)),
        ("events", events.into()),
        ("events_default", level(0)),
        ("invite", level(0)),
        ("kick", level(50)),
        ("redact", level(50)),
        ("state_default", level(50)),
        ("users", users.into()),
        ("users_default", level(0)),
    ]));
    levels.extend(room.power_levels.clone());
    if explicit_creators {
        let above = above_state_default(&levels);
        levels.edit(|levels| {
            if let Some(events) = levels.get_mut("events").and_then(CanonicalJsonValue::as_object_mut) {
                events.entry(TOMBSTONE.to_owned()).or_insert(above.into());
            }
        });
    }
    levels
}

/// The level that ending a room takes where creators are above all levels: more than any other state does by default.
pub(super) fn above_state_default(levels: &CanonicalJsonObject) -> Int {
    let default = levels.get("state_default").and_then(CanonicalJsonValue::as_integer).unwrap_or(int!(50));
    default.saturating_add(int!(1)).max(int!(150))
}

fn preset_events(preset: Preset) -> [Draft; 3] {
    let (join_rule, guests) = match preset {
        Preset::Private | Preset::TrustedPrivate => ("invite", "can_join"),
        Preset::Public => ("public", "forbidden"),
    };
    [
        state("m.room.join_rules", object([("join_rule", join_rule.into())])),
        state("m.room.history_visibility", object([("history_visibility", "shared".into())])),
        state("m.room.guest_access", object([("guest_access", guests.into())])),
    ]
}

fn topic_content(topic: &str) -> CanonicalJsonObject {
    let text = object([("body", topic.into()), ("mimetype", "text/plain".into())]);
    let block = object([("m.text", CanonicalJsonValue::Array(vec![text.into()]))]);
    object([("m.topic", block.into()), ("topic", topic.into())])
}

pub(super) fn state(kind: &str, content: impl Into<Object>) -> Draft {
    Draft { kind: kind.into(), state_key: Some(String::new()), content: content.into(), redacts: None }
}

pub(super) fn level(level: i32) -> CanonicalJsonValue {
    Int::from(level).into()
}

pub(super) fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonObject {
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).into_map()
}

pub(super) const ADMIN: i32 = 100;
pub(super) const TOMBSTONE: &str = "m.room.tombstone";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALICE: &str = "@alice:one.example";
    const BOB: &str = "@bob:one.example";

    fn content_of(value: Value) -> Object {
        Object::parse(&value.to_string()).unwrap()
    }

    fn room(version: &str, preset: Preset) -> NewRoom {
        NewRoom::new(Version::of(&version.try_into().unwrap()).unwrap(), preset)
    }

    fn planned(room: NewRoom) -> Vec<(String, String, Value)> {
        let alice = <&UserId>::try_from(ALICE).unwrap();
        let profile = Profile { display_name: Some("Alice".to_owned()), avatar_url: None };
        let drafts = plan(room, alice, &profile).unwrap().into_iter();
        drafts
            .map(|draft| {
                let content = serde_json::from_str(&draft.content.text()).unwrap();
                (draft.kind.to_string(), draft.state_key.unwrap(), content)
            })
            .collect()
    }

    fn content(drafts: &[(String, String, Value)], kind: &str) -> Value {
        drafts.iter().find(|(found, ..)| found == kind).unwrap().2.clone()
    }

    #[test]
    fn the_order_is_the_specifications() {
        let mut wanted = room("11", Preset::Private);
        wanted.alias = Some("#pub:one.example".try_into().unwrap());
        wanted.initial_state = vec![state("org.example.one", object([])), state("m.room.avatar", object([]))];
        wanted.name = Some("Pub".to_owned());
        wanted.topic = Some("Beer".to_owned());
        wanted.invite = [BOB, ALICE, BOB].map(|user| user.try_into().unwrap()).to_vec();
        wanted.is_direct = true;
        let drafts = planned(wanted);
        let kinds: Vec<_> =
            drafts.iter().map(|(kind, ..)| kind.strip_prefix("m.room.").unwrap_or(kind)).collect();
        assert_eq!(
            kinds,
            [
                "create",
                "member",
                "power_levels",
                "canonical_alias",
                "join_rules",
                "history_visibility",
                "guest_access",
                "org.example.one",
                "avatar",
                "name",
                "topic",
                "member",
            ],
        );
        assert_eq!(drafts[1].2, json!({ "membership": "join", "displayname": "Alice" }));
        let (_, key, invite) = drafts.last().unwrap();
        assert_eq!((key.as_str(), invite), (BOB, &json!({ "membership": "invite", "is_direct": true })));
    }

    #[test]
    fn presets_yield_to_initial_state_and_that_to_name_and_topic() {
        let mut wanted = room("12", Preset::Public);
        wanted.initial_state = vec![
            state("m.room.join_rules", content_of(json!({ "join_rule": "knock" }))),
            state("m.room.name", content_of(json!({ "name": "old" }))),
        ];
        wanted.name = Some("new".to_owned());
        let drafts = planned(wanted);
        assert_eq!(drafts.iter().filter(|(kind, ..)| kind == "m.room.join_rules").count(), 1);
        assert_eq!(content(&drafts, "m.room.join_rules"), json!({ "join_rule": "knock" }));
        assert_eq!(content(&drafts, "m.room.guest_access"), json!({ "guest_access": "forbidden" }));
        assert_eq!(content(&drafts, "m.room.name"), json!({ "name": "new" }));
        assert_eq!(drafts.iter().filter(|(kind, ..)| kind == "m.room.name").count(), 1);
    }

    #[test]
    fn the_server_writes_creator_and_version() {
        for (version, creator) in [("10", Some(ALICE)), ("11", None), ("12", None)] {
            let mut wanted = room(version, Preset::Private);
            wanted.creation_content =
                content_of(json!({ "creator": BOB, "room_version": "1", "m.federate": false }));
            let create = content(&planned(wanted), "m.room.create");
            let mut expected = json!({ "room_version": version, "m.federate": false });
            if let Some(creator) = creator {
                expected["creator"] = json!(creator);
            }
            assert_eq!(create, expected);
        }
    }

    #[test]
    fn trusted_invitees_are_the_creators_equals() {
        for version in ["11", "12"] {
            let mut wanted = room(version, Preset::TrustedPrivate);
            wanted.invite = vec![BOB.try_into().unwrap(), "@carol:one.example".try_into().unwrap()];
            wanted.creation_content = content_of(json!({ "additional_creators": [BOB] }));
            let drafts = planned(wanted);
            let users = content(&drafts, "m.room.power_levels")["users"].clone();
            let creators = content(&drafts, "m.room.create")["additional_creators"].clone();
            if version == "12" {
                assert_eq!((users, creators), (json!({}), json!([BOB, "@carol:one.example"])));
            } else {
                assert_eq!(users, json!({ ALICE: 100, BOB: 100, "@carol:one.example": 100 }));
            }
        }
        let mut wanted = room("12", Preset::TrustedPrivate);
        wanted.invite = vec![BOB.try_into().unwrap()];
        wanted.creation_content = content_of(json!({ "additional_creators": "x" }));
        let alice = <&UserId>::try_from(ALICE).unwrap();
        assert_eq!(plan(wanted, alice, &Profile::default()).unwrap_err(), PlanError::Creators);
    }

    #[test]
    fn since_version_12_a_tombstone_needs_more_than_state_default() {
        let tombstone = |over: Value| {
            let wanted = NewRoom { power_levels: content_of(over), ..room("12", Preset::Private) };
            content(&planned(wanted), "m.room.power_levels")["events"]["m.room.tombstone"].clone()
        };
        assert_eq!(tombstone(json!({})), 150);
        assert_eq!(tombstone(json!({ "state_default": 200 })), 201);
        assert_eq!(tombstone(json!({ "events": { "m.room.name": 7 } })), 150);
        assert_eq!(tombstone(json!({ "events": { "m.room.tombstone": 7 } })), 7);
    }

    #[test]
    fn overrides_replace_whole_fields() {
        let over = content_of(json!({ "users": { BOB: 1 }, "invite": 60 }));
        let levels = content(
            &planned(NewRoom { power_levels: over, ..room("11", Preset::Private) }),
            "m.room.power_levels",
        );
        assert_eq!((&levels["users"], &levels["invite"]), (&json!({ BOB: 1 }), &json!(60)));
        assert_eq!(levels["kick"], 50);
    }

    #[test]
    fn membership_is_not_for_initial_state() {
        let mut wanted = room("12", Preset::Private);
        wanted.initial_state = vec![state("m.room.member", object([("membership", "join".into())]))];
        let alice = <&UserId>::try_from(ALICE).unwrap();
        let error = plan(wanted, alice, &Profile::default()).unwrap_err();
        assert_eq!(error, PlanError::Forbidden(TimelineEventType::RoomMember));
    }
}
