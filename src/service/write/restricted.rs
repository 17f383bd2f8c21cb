//! Restricted rooms: whoever is in a room that the join rule names may join, if a member who may invite vouches.
//! <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use ruma::{
    OwnedRoomId, OwnedUserId, ServerName, UserId, room::JoinRuleKind,
    state_res::events::RoomPowerLevelsIntField as Level,
};
use serde::Deserialize;

use super::append::WriteError;
use crate::{
    base::ids::RoomNumber,
    room::{graph::State, members::Power},
    store::{StoreError, View, events::Membership},
};

/// The local member who vouches for a user's join; none if the join rule asks for nobody, or if nobody can.
///
/// Without one the room's rules refuse the join, and say why.
pub(super) fn voucher(
    view: &View<'_>,
    room: RoomNumber,
    user: &UserId,
    server: &ServerName,
) -> Result<Option<OwnedUserId>, WriteError> {
    let record = view.room(room)?;
    let Some(rules) = view.state_event(room, record.state, "m.room.join_rules", "")? else { return Ok(None) };
    let rules = view.event(room, rules)?.pdu.content_as::<JoinRules>().unwrap_or_default();
    let restricted =
        matches!(rules.join_rule, Some(JoinRuleKind::Restricted | JoinRuleKind::KnockRestricted));
    if !restricted || !is_in_any(view, user, &rules.allow)? {
        return Ok(None);
    }
    let graph = view.graph(room);
    let Some(power) = Power::of(&State::stored(record.state), &graph, record.version)? else {
        return Ok(None);
    };
    for member in view.members(room, Membership::Join) {
        let member = view.user_id(member?)?;
        if member.server_name() == server && power.may(&member, Level::Invite) {
            return Ok(Some(member));
        }
    }
    Ok(None)
}

fn is_in_any(view: &View<'_>, user: &UserId, conditions: &[Condition]) -> Result<bool, StoreError> {
    let Some(user) = view.user_number(user)? else { return Ok(false) };
    for condition in conditions.iter().filter(|condition| condition.kind == "m.room_membership") {
        if let Some(room) = &condition.room_id
            && let Some(room) = view.room_number(room)?
            && view.stay(user, room)?.is_some_and(|stay| stay.membership == Membership::Join)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Default, Deserialize)]
struct JoinRules {
    join_rule: Option<JoinRuleKind>,
    #[serde(default)]
    allow: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type", default)]
    kind: String,
    room_id: Option<OwnedRoomId>,
}
