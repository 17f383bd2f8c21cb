//! Restricted rooms: whoever is in a room that the join rule names may join, if a member who may invite vouches.
//! <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use ruma::{
    OwnedRoomId, OwnedUserId, ServerName, UserId, room::JoinRuleKind,
    state_res::events::RoomPowerLevelsIntField as Level,
};
use serde::Deserialize;
use serde_json::Value;

use super::append::WriteError;
use crate::{
    base::ids::RoomNumber,
    room::{graph::State, members::Power},
    store::{StoreError, View, events::Membership},
};

/// What a room's join rule says of a user whom nobody invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Restriction {
    /// It asks for nobody to vouch.
    None,
    /// The user meets a condition, and this member of `server` vouches.
    Vouched(OwnedUserId),
    /// The user meets a condition, and no member of `server` can vouch.
    Unvouched,
    /// The user meets none of the conditions that this server knows, which are not all.
    Unknown,
    /// The user meets none.
    Unmet,
}

/// The local member who vouches for a user's join; none if the join rule asks for nobody, or if nobody can.
///
/// Without one the room's rules refuse the join, and say why.
pub(super) fn voucher(
    view: &View<'_>,
    room: RoomNumber,
    user: &UserId,
    server: &ServerName,
) -> Result<Option<OwnedUserId>, WriteError> {
    Ok(match restriction(view, room, user, server)? {
        Restriction::Vouched(member) => Some(member),
        _ => None,
    })
}

/// What a room's join rule says of a user's join through a server, this one.
pub(in crate::service) fn restriction(
    view: &View<'_>,
    room: RoomNumber,
    user: &UserId,
    server: &ServerName,
) -> Result<Restriction, StoreError> {
    let record = view.room(room)?;
    let Some(rules) = view.state_event(room, record.state, "m.room.join_rules", "")? else {
        return Ok(Restriction::None);
    };
    let rules = view.event(room, rules)?.pdu.content_as::<JoinRules>().unwrap_or_default();
    if !matches!(rules.join_rule, Some(JoinRuleKind::Restricted | JoinRuleKind::KnockRestricted)) {
        return Ok(Restriction::None);
    }
    if let Some(unmet) = unmet(view, user, server, &rules.conditions())? {
        return Ok(unmet);
    }
    let graph = view.graph(room);
    let Some(power) = Power::of(&State::stored(record.state), &graph, record.version)? else {
        return Ok(Restriction::Unvouched);
    };
    let Some(server) = view.server_number(server)? else { return Ok(Restriction::Unvouched) };
    for member in view.members_of_server(room, server, Membership::Join) {
        let member = view.user_id(member?)?;
        if power.may(&member, Level::Invite) {
            return Ok(Restriction::Vouched(member));
        }
    }
    Ok(Restriction::Unvouched)
}

/// Why a user meets no condition; none if they meet one. Of a room that this server is not in it knows nothing.
fn unmet(
    view: &View<'_>,
    user: &UserId,
    server: &ServerName,
    conditions: &[Condition],
) -> Result<Option<Restriction>, StoreError> {
    let user = view.user_number(user)?;
    let mut unmet = Restriction::Unmet;
    for condition in conditions.iter().filter(|condition| condition.kind == "m.room_membership") {
        let Some(room) = &condition.room_id else { continue };
        let known = match view.room_number(room)? {
            Some(room) if view.is_server_joined(room, server)? => room,
            _ => {
                unmet = Restriction::Unknown;
                continue;
            }
        };
        let stay = user.map(|user| view.stay(user, known)).transpose()?.flatten();
        if stay.is_some_and(|stay| stay.membership == Membership::Join) {
            return Ok(None);
        }
    }
    Ok(Some(unmet))
}

#[derive(Default, Deserialize)]
struct JoinRules {
    join_rule: Option<JoinRuleKind>,
    #[serde(default)]
    allow: Value,
}

impl JoinRules {
    /// What is no condition that can be read is none that anybody meets.
    fn conditions(&self) -> Vec<Condition> {
        let entries = self.allow.as_array().into_iter().flatten();
        entries.filter_map(|entry| Condition::deserialize(entry).ok()).collect()
    }
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type", default)]
    kind: String,
    room_id: Option<OwnedRoomId>,
}
