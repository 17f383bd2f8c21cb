//! Replacing a room by one of another version: what the new room takes from the old one, and what ends the old one.
//!
//! The steps are jobs of their own, and their order leaves nothing broken wherever they stop: the new room is whole
//! before the old one, in one job, says where it went. Until then a half-made room is known to its maker alone; after
//! it only aliases remain that still lead to the old room, which leads on.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

mod levels;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, ServerName,
    UserId,
};

use self::levels::Levels;
use super::{
    append::{WriteError, append},
    create::begin,
    member::Profile,
    membership::{self, Action},
    plan::{TOMBSTONE, create_content, object, state},
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber, UserNumber},
        limits,
        ordered::Ordered,
    },
    room::{build::Draft, graph::State, members::Power, version::Version},
    service::{settings, signer::Signer},
    store::{
        StoreError, Transaction, View,
        events::{Membership, RoomRecord},
    },
};

/// An upgrade under way: who replaces which room by which.
#[derive(Clone, Debug)]
pub struct Upgrade {
    user: OwnedUserId,
    old: RoomNumber,
    new: RoomNumber,
    new_id: OwnedRoomId,
    /// What ended the old room before, if it was replaced once already.
    ended: Option<EventNumber>,
}

/// What a room that replaces another has from it when it begins, and after those who were banned.
pub const FIRST: &[&str] = &[
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
];
/// The same after those who were banned: nobody may join before. The levels come last, since they may bind the maker,
/// who without them may do everything.
pub const LAST: &[&str] = &[CANONICAL_ALIAS, "m.room.join_rules", LEVELS];

/// Makes the room that is to replace another: its create event, and its maker in it.
///
/// `room_id` is taken where the room version does not derive the id from the create event.
///
/// # Errors
/// The user may not end the old room.
pub fn found(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    old: RoomNumber,
    user: &UserId,
    (version, room_id): (Version, OwnedRoomId),
    additional_creators: &[OwnedUserId],
) -> Result<Upgrade, WriteError> {
    let record = transaction.room(old)?;
    if !may_end(transaction, old, &record, user)? {
        return Err(WriteError::forbidden("you may not replace this room"));
    }
    let mut content = CanonicalJsonObject::new();
    let created = current(transaction, old, "m.room.create")?.unwrap_or_default();
    content.extend(created.into_iter().filter(|(field, _)| matches!(&field[..], "type" | "m.federate")));
    content.insert("predecessor".to_owned(), predecessor(transaction, old, &record)?.into());
    let creators: BTreeSet<_> = additional_creators.iter().filter(|creator| *creator != user).into_set();
    if version.auth().additional_room_creators && !creators.is_empty() {
        let creators = creators.into_iter().map(|creator| creator.as_str().into()).collect();
        content.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(creators));
    }
    let member = Profile::of(transaction, user)?.content("join");
    let drafts = vec![
        state("m.room.create", create_content(version, user, content)),
        Draft { state_key: Some(user.to_string()), ..state("m.room.member", member) },
    ];
    let ended = transaction.state_event(old, record.state, TOMBSTONE, "")?;
    let new = begin(transaction, signer, user, (version, room_id), None, drafts)?;
    Ok(Upgrade { user: user.to_owned(), old, new, new_id: transaction.room_id(new)?, ended })
}

/// Where the old room stood, for the create event of the new one.
fn predecessor(
    view: &View<'_>,
    old: RoomNumber,
    record: &RoomRecord,
) -> Result<CanonicalJsonObject, StoreError> {
    let mut predecessor = object([("room_id", view.room_id(old)?.as_str().into())]);
    if let Some(last) = record.extremities.last() {
        let last = view.event(old, *last)?;
        predecessor.insert("event_id".to_owned(), last.pdu.event_id().as_str().into());
    }
    Ok(predecessor)
}

/// Whether a user may say in a room's state that another replaces it.
fn may_end(
    view: &View<'_>,
    room: RoomNumber,
    record: &RoomRecord,
    user: &UserId,
) -> Result<bool, StoreError> {
    let Some(number) = view.user_number(user)? else { return Ok(false) };
    if view.stay(number, room)?.is_none_or(|stay| stay.membership != Membership::Join) {
        return Ok(false);
    }
    let power = Power::of(&State::stored(record.state), &view.graph(room), record.version)?;
    Ok(power.is_some_and(|power| power.of_user(user) >= power.needed_to_send(&TOMBSTONE.into(), Some(""))))
}

impl Upgrade {
    /// The id of the room that replaces the other.
    pub fn replacement(&self) -> &RoomId {
        &self.new_id
    }

    /// Copies state of these types, as much of it as one job may, and gives how many types it was.
    pub fn copy(
        &self,
        transaction: &mut Transaction<'_>,
        signer: Signer<'_>,
        kinds: &[&str],
    ) -> Result<usize, WriteError> {
        let mut bytes = 0;
        for (done, kind) in kinds.iter().enumerate() {
            let content = self.inherited(transaction, signer.server_name, kind)?;
            let Some(content) = content.filter(|content| !content.is_empty()) else { continue };
            bytes += size(&content);
            if done > 0 && bytes > limits::EVENT_BYTES {
                return Ok(done);
            }
            append(transaction, signer, self.new, &self.user, state(kind, content), None)?;
        }
        Ok(kinds.len())
    }

    /// What the new room says of a type of state.
    fn inherited(
        &self,
        view: &View<'_>,
        server: &ServerName,
        kind: &str,
    ) -> Result<Option<CanonicalJsonObject>, StoreError> {
        let content = current(view, self.old, kind)?;
        Ok(match kind {
            LEVELS => {
                let new = view.room(self.new)?;
                let creators = creators(view, self.new, &new)?;
                Some(self.levels(view)?.replaced(new.version, &creators))
            }
            CANONICAL_ALIAS => match content {
                Some(content) => Some(self.parted(view, server, content)?.0),
                None => None,
            },
            _ => content,
        })
    }

    /// The levels of the old room.
    fn levels(&self, view: &View<'_>) -> Result<Levels, StoreError> {
        let record = view.room(self.old)?;
        let creators = creators(view, self.old, &record)?;
        Ok(Levels { version: record.version, creators, content: current(view, self.old, LEVELS)? })
    }

    /// Bans whom the old room bans, a few behind one of them, and gives the last of these; none if there are no more.
    ///
    /// The specification leaves memberships behind, since no server can speak for the users of others. A ban speaks for
    /// nobody but its sender, and without it whoever was thrown out would be back.
    pub fn ban(
        &self,
        transaction: &mut Transaction<'_>,
        signer: Signer<'_>,
        after: UserNumber,
    ) -> Result<Option<UserNumber>, WriteError> {
        let banned = transaction.members_after(self.old, Membership::Ban, after);
        let banned: Vec<UserNumber> = banned.take(limits::JOB_EVENTS).collect::<Result<_, _>>()?;
        let mut bytes = 0;
        let mut last = None;
        for number in banned {
            let user = transaction.user_id(number)?;
            let mut content = object([("membership", "ban".into())]);
            let reason = current_at(transaction, self.old, "m.room.member", user.as_str())?
                .and_then(|mut content| content.remove("reason"));
            content.extend(reason.map(|reason| ("reason".to_owned(), reason)));
            bytes += size(&content);
            if last.is_some() && bytes > limits::EVENT_BYTES {
                break;
            }
            last = Some(number);
            let draft = Draft { state_key: Some(user.to_string()), ..state("m.room.member", content) };
            if_allowed(append(transaction, signer, self.new, &self.user, draft, None).map(drop))?;
        }
        Ok(last)
    }

    /// Ends the old room: it says by which room it is replaced, and only those with some power speak there still. What is
    /// the maker's own, and the first of the aliases, go along.
    ///
    /// If somebody was faster, the maker leaves the room that was made here, and theirs is given.
    ///
    /// # Errors
    /// The user may not end the old room any more.
    pub fn end(
        &self,
        transaction: &mut Transaction<'_>,
        signer: Signer<'_>,
    ) -> Result<Option<OwnedRoomId>, WriteError> {
        let Self { user, old, new, .. } = self;
        let now = transaction.room(*old)?.state;
        if transaction.state_event(*old, now, TOMBSTONE, "")? != self.ended
            && let Some(room_id) = replacement(transaction, *old)?
        {
            membership::act(transaction, signer, *new, user, &Action::Leave, None)?;
            membership::forget(transaction, *new, user)?;
            return Ok(Some(room_id));
        }
        let tombstone = object([("body", TOLD.into()), ("replacement_room", self.new_id.as_str().into())]);
        append(transaction, signer, *old, user, state(TOMBSTONE, tombstone), None)?;
        let levels = self.levels(transaction)?;
        let closed = levels.clone().closed();
        if levels.content.as_ref() != Some(&closed) {
            if_allowed(append(transaction, signer, *old, user, state(LEVELS, closed), None).map(drop))?;
        }
        self.move_aliases(transaction)?;
        if transaction.is_published(*old)? {
            transaction.set_published(*old, false)?;
            transaction.set_published(*new, true)?;
        }
        settings::follow(transaction, user, *new)?;
        Ok(None)
    }

    /// Makes some more of the old room's aliases lead to the new one, and gives whether there were any.
    pub fn move_aliases(&self, transaction: &mut Transaction<'_>) -> Result<bool, StoreError> {
        let aliases: Vec<_> =
            transaction.aliases(self.old).take(limits::JOB_ALIASES).collect::<Result<_, _>>()?;
        for alias in &aliases {
            if let Some((_, maker)) = transaction.alias(alias)? {
                transaction.set_alias(alias, self.new, maker)?;
            }
        }
        Ok(!aliases.is_empty())
    }

    /// Makes the old room call itself no more by aliases that lead to the new one.
    pub fn give_up_aliases(
        &self,
        transaction: &mut Transaction<'_>,
        signer: Signer<'_>,
    ) -> Result<(), WriteError> {
        let Some(before) = current(transaction, self.old, CANONICAL_ALIAS)? else { return Ok(()) };
        let (_, kept) = self.parted(transaction, signer.server_name, before.clone())?;
        if kept == before {
            return Ok(());
        }
        let draft = state(CANONICAL_ALIAS, kept);
        if_allowed(append(transaction, signer, self.old, &self.user, draft, None).map(drop))
    }

    /// The content of an `m.room.canonical_alias` event in two: the aliases of this server that lead to either room, and
    /// what else it says.
    fn parted(
        &self,
        view: &View<'_>,
        server: &ServerName,
        mut content: CanonicalJsonObject,
    ) -> Result<(CanonicalJsonObject, CanonicalJsonObject), StoreError> {
        let goes = |value: &CanonicalJsonValue| {
            let Some(alias) = value.as_str().and_then(|text| <&RoomAliasId>::try_from(text).ok()) else {
                return Ok::<_, StoreError>(false);
            };
            let room = view.alias(alias)?.map(|(room, _)| room);
            Ok(alias.server_name() == server && room.is_some_and(|room| room == self.old || room == self.new))
        };
        let mut going = CanonicalJsonObject::new();
        if let Some(alias) = content.get("alias")
            && goes(alias)?
        {
            going.extend(content.remove_entry("alias"));
        }
        if let Some(CanonicalJsonValue::Array(all)) = content.remove("alt_aliases") {
            let (mut go, mut stay) = (Vec::new(), Vec::new());
            for alias in all {
                if goes(&alias)? { go.push(alias) } else { stay.push(alias) }
            }
            for (content, aliases) in [(&mut going, go), (&mut content, stay)] {
                if !aliases.is_empty() {
                    content.insert("alt_aliases".to_owned(), CanonicalJsonValue::Array(aliases));
                }
            }
        }
        Ok((going, content))
    }
}

fn creators(
    view: &View<'_>,
    room: RoomNumber,
    record: &RoomRecord,
) -> Result<BTreeSet<OwnedUserId>, StoreError> {
    let power = Power::of(&State::stored(record.state), &view.graph(room), record.version)?;
    Ok(power.iter().flat_map(Power::creators).map(ToOwned::to_owned).collect())
}

/// The room that a room's state says replaces it.
pub fn replacement(view: &View<'_>, room: RoomNumber) -> Result<Option<OwnedRoomId>, StoreError> {
    let tombstone = current(view, room, TOMBSTONE)?;
    let named = tombstone.as_ref().and_then(|content| content.get("replacement_room")?.as_str());
    Ok(named.and_then(|id| id.try_into().ok()))
}

/// The content of a room's state event as it is shown, with the empty state key. In it are integers only, as every
/// room version has a place for them.
pub fn current(
    view: &View<'_>,
    room: RoomNumber,
    kind: &str,
) -> Result<Option<CanonicalJsonObject>, StoreError> {
    current_at(view, room, kind, "")
}

fn current_at(
    view: &View<'_>,
    room: RoomNumber,
    kind: &str,
    key: &str,
) -> Result<Option<CanonicalJsonObject>, StoreError> {
    let record = view.room(room)?;
    let Some(number) = view.state_event(room, record.state, kind, key)? else { return Ok(None) };
    Ok(Some(view.event(room, number)?.shown(record.version).content_in_integers()))
}

/// Lets what the room's rules forbid go undone.
fn if_allowed(done: Result<(), WriteError>) -> Result<(), WriteError> {
    match done {
        Err(WriteError::Denied(_)) => Ok(()),
        done => done,
    }
}

fn size(content: &CanonicalJsonObject) -> usize {
    serde_json::to_string(content).map_or(0, |content| content.len())
}

const CANONICAL_ALIAS: &str = "m.room.canonical_alias";
const LEVELS: &str = "m.room.power_levels";
/// What clients show that don't know what a tombstone is.
const TOLD: &str = "This room has been replaced";
