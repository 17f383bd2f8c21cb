//! Rooms that this server can't see: what it signs there is what it was asked for and nothing else.
//!
//! Another server says where in such a room an event of this server's user would stand, or brings an invitation for one.
//! Whether the room's rules allow it only that server knows. So nothing of what it says is signed but in the places where
//! it belongs, and an invitation only as one to a user of this server by one of that server.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>,
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::collections::BTreeSet;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedUserId, RoomId,
    ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    signatures::PublicKeyMap,
};

use super::{
    build::{Draft, Place, put_together},
    members::membership_set,
    pdu::{FormatError, Pdu},
    receive::{Dropped, verify},
    sign::{CheckedEvent, check_of},
    version::Version,
};
use crate::base::{json::Object, limits};

/// What a user of this server is to become to a room.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    pub room_id: &'a RoomId,
    pub user: &'a UserId,
    pub membership: MembershipState,
    /// What else is to be said with it.
    pub content: CanonicalJsonObject,
}

/// Why an event from another server is not signed.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    /// It is not what was asked for.
    #[error("`{0}` is not as it should be")]
    Field(&'static str),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Dropped(#[from] Dropped),
}

/// The event by which a wish comes true, of the template that a server in the room made of it. Of that nothing is taken
/// but where the event stands, and who vouches for the user.
///
/// # Errors
/// The template is for something else.
pub fn adopt(
    template: &Object,
    wish: Wish<'_>,
    now: MilliSecondsSinceUnixEpoch,
    version: Version,
) -> Result<CheckedEvent, Unsigned> {
    let text = |field: &str| template.get(field).and_then(CanonicalJsonValue::as_str);
    let theirs = template.get("content").and_then(CanonicalJsonValue::as_object);
    let theirs = theirs.ok_or(Unsigned::Field("content"))?;
    let membership = theirs.get("membership").and_then(CanonicalJsonValue::as_str);
    for (field, is_right) in [
        ("type", text("type") == Some("m.room.member")),
        ("room_id", text("room_id") == Some(wish.room_id.as_str())),
        ("sender", text("sender") == Some(wish.user.as_str())),
        ("state_key", text("state_key") == Some(wish.user.as_str())),
        ("membership", membership == Some(wish.membership.as_str())),
    ] {
        if !is_right {
            return Err(Unsigned::Field(field));
        }
    }
    let mut content = wish.content;
    content.insert("membership".to_owned(), wish.membership.as_str().into());
    if wish.membership == MembershipState::Join
        && let Some(voucher) = theirs.get(VOUCHER)
    {
        let voucher = voucher.as_str().and_then(|id| OwnedUserId::try_from(id).ok());
        let voucher = voucher.ok_or(Unsigned::Field(VOUCHER))?;
        content.insert(VOUCHER.to_owned(), voucher.as_str().into());
    }
    let list = |field: &'static str| match template.get(field) {
        Some(CanonicalJsonValue::Array(list)) => Ok(list.clone()),
        _ => Err(Unsigned::Field(field)),
    };
    let depth = template.integer("depth").and_then(|depth| u64::try_from(depth).ok());
    let place = Place {
        prev_events: list("prev_events").and_then(|list| match list.len() {
            1..=limits::PREV_EVENTS => Ok(list),
            _ => Err(Unsigned::Field("prev_events")),
        })?,
        auth_events: list("auth_events")?,
        depth: depth.ok_or(Unsigned::Field("depth"))?,
    };
    let draft = Draft {
        kind: TimelineEventType::RoomMember,
        state_key: Some(wish.user.to_string()),
        content: content.into(),
        redacts: None,
    };
    let pdu = put_together(draft, (wish.user.to_owned(), now), Some(wish.room_id), place, version)?;
    pdu.check_counts()?;
    Ok(CheckedEvent::seen_through(pdu, version))
}

/// The event by which a user is rid of what another event made of them, in a room that nobody tells of any more. It is
/// for this server alone.
///
/// # Errors
/// It would be too large.
pub fn forsaken(
    pending: &Pdu,
    (user, now): (&UserId, MilliSecondsSinceUnixEpoch),
    mut content: CanonicalJsonObject,
    version: Version,
) -> Result<CheckedEvent, FormatError> {
    content.insert("membership".to_owned(), MembershipState::Leave.as_str().into());
    let draft = Draft {
        kind: TimelineEventType::RoomMember,
        state_key: Some(user.to_string()),
        content: content.into(),
        redacts: None,
    };
    let reference = pending.reference(version)?;
    let place = Place {
        prev_events: vec![reference.clone()],
        auth_events: vec![reference],
        depth: pending.depth().saturating_add(1),
    };
    let pdu = put_together(draft, (user.to_owned(), now), Some(pending.room_id()), place, version)?;
    Ok(CheckedEvent::seen_through(pdu, version))
}

/// An invitation that another server brings for a user of this one.
#[derive(Clone, Debug)]
pub struct Invitation<'a> {
    pub room_id: &'a RoomId,
    pub event_id: &'a EventId,
    /// The server that brings it.
    pub by: &'a ServerName,
    /// This server.
    pub to: &'a ServerName,
}

/// Checks that an event is that invitation and nothing else; `keys` are those of the server that brings it.
///
/// # Errors
/// It is something else.
pub fn invited(
    mut object: Object,
    invitation: &Invitation<'_>,
    keys: &PublicKeyMap,
    version: Version,
) -> Result<CheckedEvent, Unsigned> {
    object.edit(|fields| fields.remove("unsigned"));
    let by_third_party = object
        .get("content")
        .and_then(CanonicalJsonValue::as_object)
        .is_some_and(|content| content.contains_key("third_party_invite"));
    let whole = object.text();
    let pdu = verify(object, keys, version)?;
    let target = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
    for (field, is_right) in [
        ("event_id", pdu.event_id() == invitation.event_id),
        ("room_id", pdu.room_id() == invitation.room_id),
        ("type", *pdu.kind() == TimelineEventType::RoomMember),
        ("membership", membership_set(&pdu) == Some(MembershipState::Invite)),
        ("sender", pdu.sender().server_name() == invitation.by),
        ("state_key", target.is_some_and(|user| user.server_name() == invitation.to)),
        // Its sender's server would not have to sign it.
        ("third_party_invite", !by_third_party),
        // What is left of one that was tampered with is not what was brought.
        ("hashes", pdu.json() == whole),
    ] {
        if !is_right {
            return Err(Unsigned::Field(field));
        }
    }
    Ok(CheckedEvent::seen_through(pdu, version))
}

/// An event of ours with the signature that another server put to it, which is all that is taken of what it gives back.
///
/// # Errors
/// It gives back something else, or no signature.
pub fn countersigned(ours: &Pdu, mut theirs: Object, by: &ServerName) -> Result<Object, Unsigned> {
    theirs.edit(|fields| fields.remove("unsigned"));
    let mut own = ours.object();
    let theirs_signed = theirs.edit(|fields| fields.remove("signatures"));
    let own_signed = own.edit(|fields| fields.remove("signatures"));
    if own.text() != theirs.text() {
        return Err(Unsigned::Field("event"));
    }
    let signature = theirs_signed.as_ref().and_then(|signed| signed.as_object()?.get(by.as_str()).cloned());
    let signature = signature.ok_or(Unsigned::Field("signatures"))?;
    let Some(CanonicalJsonValue::Object(mut signatures)) = own_signed else {
        return Err(Unsigned::Field("signatures"));
    };
    match (signatures.get_mut(by.as_str()), signature) {
        // What that server signed for the room stays.
        (Some(CanonicalJsonValue::Object(known)), CanonicalJsonValue::Object(signature)) => {
            known.extend(signature)
        }
        (_, signature) => _ = signatures.insert(by.to_string(), signature),
    }
    own.insert("signatures", CanonicalJsonValue::Object(signatures));
    Ok(own)
}

/// The event with that signature, if it is right: a wrong one would have others drop the event.
///
/// # Errors
/// It is not.
pub fn checked_countersignature(
    object: &Object,
    keys: &PublicKeyMap,
    by: &ServerName,
    version: Version,
) -> Result<Pdu, Unsigned> {
    check_of(object, keys, version, BTreeSet::from([by.to_owned()]))?;
    Ok(Pdu::parse(object, version)?)
}

const VOUCHER: &str = "join_authorised_via_users_server";

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::room::{
        fixture::{key_pair, versions},
        sign::sign,
    };

    fn adopted(template: &Value, version: Version) -> Result<CheckedEvent, Unsigned> {
        let content = CanonicalJsonObject::from([("displayname".to_owned(), "Anna".into())]);
        let (room_id, user) = (room_id!("!r:far.example"), user_id!("@anna:one.example"));
        let wish = Wish { room_id, user, membership: MembershipState::Join, content };
        let template = Object::parse(&template.to_string()).unwrap();
        adopt(&template, wish, MilliSecondsSinceUnixEpoch(ruma::uint!(7)), version)
    }

    fn template(version: Version) -> Value {
        let reference = |id: &str| match version.references_are_pairs() {
            true => json!([id, {"sha256": "x"}]),
            false => json!(id),
        };
        json!({
            "type": "m.room.member", "room_id": "!r:far.example", "depth": 7, "origin": "far.example",
            "sender": "@anna:one.example", "state_key": "@anna:one.example", "origin_server_ts": 1,
            "content": {"membership": "join", "displayname": "Mallory", "evil": 1},
            "prev_events": [reference("$a:x")], "auth_events": [reference("$b:x")], "redacts": "$c:x",
            "signatures": {"far.example": {}}, "unsigned": {"a": 1}, "evil": true,
        })
    }

    // RULES R18
    #[test]
    fn of_a_template_nothing_is_signed_but_where_the_event_stands() {
        for version in versions() {
            let version = Version::of(&version.try_into().unwrap()).unwrap();
            let event = adopted(&template(version), version).unwrap();
            let signed = sign(event, ruma::server_name!("one.example"), &key_pair("one.example")).unwrap();
            let event: Value = serde_json::from_str(signed.json()).unwrap();
            assert_eq!(event["content"], json!({"membership": "join", "displayname": "Anna"}));
            assert_eq!((&event["depth"], &event["origin_server_ts"]), (&json!(7), &json!(7)));
            for field in ["evil", "redacts", "unsigned", "origin"] {
                assert!(event.get(field).is_none(), "{field}");
            }
            assert_eq!(event["signatures"].as_object().unwrap().keys().collect::<Vec<_>>(), ["one.example"]);
            assert_eq!(event["prev_events"], template(version)["prev_events"]);
        }
    }

    // RULES R18
    #[test]
    fn a_template_of_something_else_is_not_signed() {
        let version = Version::of(&ruma::RoomVersionId::V11).unwrap();
        for (field, value) in [
            ("type", json!("m.room.power_levels")),
            ("room_id", json!("!other:far.example")),
            ("sender", json!("@ben:one.example")),
            ("state_key", json!("@ben:one.example")),
            ("content", json!({"membership": "leave"})),
            ("content", json!({"membership": "join", "join_authorised_via_users_server": 1})),
            ("content", json!("join")),
            ("prev_events", json!([])),
            ("prev_events", json!(vec!["$a"; limits::PREV_EVENTS + 1])),
            ("prev_events", json!([1])),
            ("auth_events", json!(vec!["$a"; limits::AUTH_EVENTS + 1])),
            ("depth", json!(-1)),
            ("depth", Value::Null),
        ] {
            let mut template = template(version);
            template[field] = value;
            assert!(adopted(&template, version).is_err(), "{template}");
        }
        let mut vouched = template(version);
        vouched["content"]["join_authorised_via_users_server"] = json!("@ben:far.example");
        let event = adopted(&vouched, version).unwrap();
        assert!(event.pdu().json().contains("@ben:far.example"));
    }
}
