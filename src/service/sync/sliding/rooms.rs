//! Which rooms a request means. Reads one small record a room, and of its state only what a filter asks for.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use ruma::OwnedUserId;

use super::{
    connection::{Told, ToldRoom},
    filters::Facts,
    request::{Ask, Scope, Selection},
};
use crate::{
    base::ids::{Position, RoomNumber, UserNumber},
    service::{ignored::ignored, invite_permission::InvitePermission, sync::damage::whole},
    store::{
        StoreError, Topic, View,
        events::{Membership, RoomRecord, Stay},
    },
};

/// A room that a request may mean.
pub(super) struct Candidate {
    pub(super) room: RoomNumber,
    pub(super) stay: Stay,
    /// The room as it is, if the user is in it.
    pub(super) record: Option<RoomRecord>,
    /// What was told of it before.
    pub(super) told: Option<ToldRoom>,
    /// When something happened there last, as far as the user follows it.
    pub(super) newest: Position,
    /// Whether lists have it. Other rooms are found by those who name them.
    is_listed: bool,
}

/// The rooms that a request may mean, in the order of their numbers.
pub(super) struct Candidates {
    pub(super) candidates: Vec<Candidate>,
    /// Those that can't be read, in no order: they are told once they can.
    pub(super) damaged: Vec<RoomNumber>,
}

/// What a request wants of a room.
#[derive(Default)]
pub(super) struct Wish<'a> {
    /// The lists that have it in one of their ranges.
    pub(super) lists: Vec<&'a str>,
    pub(super) subscribed: bool,
    pub(super) timeline: u16,
    /// Without duplicates, sorted.
    pub(super) state: Vec<Arc<Selection>>,
    /// A hash of that.
    pub(super) choice: u64,
}

/// What a request means.
pub(super) struct Chosen<'a> {
    /// How many rooms each list has, whatever its ranges.
    pub(super) counts: Vec<(&'a str, u64)>,
    /// The places of candidates with what is wanted of them: those that are subscribed to first, for somebody has them
    /// open, then the newest.
    pub(super) wishes: Vec<(usize, Wish<'a>)>,
    /// What would bring other rooms into the ranges, or news to those that are there.
    pub(super) topics: Vec<Topic>,
}

impl Candidate {
    pub(super) fn is_joined(&self) -> bool {
        self.stay.membership == Membership::Join
    }

    /// Whether the user has nothing more to do with the room: they left, or turned down an invitation.
    pub(super) fn is_over(&self) -> bool {
        !self.is_listed
    }
}

impl Candidates {
    pub(super) fn of(view: &View<'_>, ask: &Ask, had: &Told) -> Result<Self, StoreError> {
        let user = ask.onlooker.user;
        let unwanted = (ignored(view, user)?, InvitePermission::of(view, user)?);
        let (mut candidates, mut damaged, mut lost) = (Vec::new(), Vec::new(), false);
        let mut rooms = had.rooms().peekable();
        for stay in view.stays(user) {
            let Some((room, stay)) = whole(stay, "unknown")? else {
                lost = true;
                continue;
            };
            while rooms.next_if(|told| told.room < room).is_some() {}
            let told = rooms.next_if(|told| told.room == room);
            match whole(candidate(view, user, told, (room, stay), &unwanted), room.0)? {
                Some(found) => candidates.extend(found),
                None => damaged.push(room),
            }
        }
        if lost {
            let is_lost = |room: &RoomNumber| view.stay(user, *room).is_err();
            damaged.extend(had.rooms().map(|told| told.room).filter(is_lost));
        }
        Ok(Self { candidates, damaged })
    }
}

/// A room as a request may mean it, by what the user is to it.
fn candidate(
    view: &View<'_>,
    user: UserNumber,
    told: Option<ToldRoom>,
    (room, stay): (RoomNumber, Stay),
    unwanted: &(HashSet<OwnedUserId>, InvitePermission),
) -> Result<Option<Candidate>, StoreError> {
    let is_untold = told.is_some_and(|told| stay.since > told.until);
    // Whoever forgets a room right after leaving it has other devices that must hear that it was left.
    if stay.forgotten && !is_untold {
        return Ok(None);
    }
    let is_listed = match stay.membership {
        Membership::Join | Membership::Knock => true,
        Membership::Invite if is_unwanted(view, room, &stay, unwanted)? => return Ok(None),
        Membership::Invite => true,
        Membership::Leave => is_untold || was_kicked(view, user, room, &stay)?,
        Membership::Ban if stay.joined_until.is_none() && !is_untold => return Ok(None),
        Membership::Ban => true,
    };
    let record = match stay.membership {
        Membership::Join => Some(view.room(room)?),
        _ => None,
    };
    let newest = record.as_ref().map_or(stay.since, |record| record.newest);
    Ok(Some(Candidate { room, stay, record, told, newest, is_listed }))
}

/// Whether an invitation is of somebody whom the user ignores, or one that they don't want.
fn is_unwanted(
    view: &View<'_>,
    room: RoomNumber,
    stay: &Stay,
    (ignored, permission): &(HashSet<OwnedUserId>, InvitePermission),
) -> Result<bool, StoreError> {
    if ignored.is_empty() && permission.hides_none() {
        return Ok(false);
    }
    let sender = view.user_id(view.header(room, stay.event)?.sender)?;
    Ok(ignored.contains(&sender) || permission.hides(&sender))
}

/// Whether somebody else ended the user's stay in a room: they may not know it yet.
fn was_kicked(view: &View<'_>, user: UserNumber, room: RoomNumber, stay: &Stay) -> Result<bool, StoreError> {
    Ok(stay.joined_until.is_some() && view.header(room, stay.event)?.sender != user)
}

/// Finds the rooms that a request means among those that it may mean.
pub(super) fn choose<'a>(
    view: &View<'_>,
    ask: &'a Ask,
    candidates: &[Candidate],
    facts: &Facts,
) -> Result<Chosen<'a>, StoreError> {
    // The newest first, and of those the ones with the highest numbers.
    let mut order: Vec<_> =
        candidates.iter().enumerate().map(|(place, candidate)| Reverse((candidate.newest, place))).collect();
    order.sort_unstable();
    let mut wishes: Vec<Option<Wish<'a>>> = candidates.iter().map(|_| None).collect();
    let mut watched = vec![false; candidates.len()];
    let mut counts = Vec::with_capacity(ask.lists.len());
    for (name, list) in &ask.lists {
        let mut count = 0;
        for &Reverse((_, place)) in &order {
            if !candidates[place].is_listed || !facts.admit(&list.filters, place) {
                continue;
            }
            // Whatever happens there brings it to the front.
            watched[place] = true;
            let is_in = |ranges: &Vec<(u64, u64)>| {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&count))
            };
            if list.ranges.as_ref().is_none_or(is_in) {
                let wish = wishes[place].get_or_insert_default();
                wish.lists.push(name);
                wish.add(list.config.timeline, &list.config.state);
            }
            count += 1;
        }
        counts.push((name.as_str(), count));
    }
    for (room_id, config) in &ask.subscriptions {
        let Some(room) = whole(view.room_number(room_id), room_id)?.flatten() else { continue };
        let place = candidates.binary_search_by_key(&room, |candidate| candidate.room);
        let Ok(place) = place else { continue };
        watched[place] = true;
        let wish = wishes[place].get_or_insert_default();
        wish.subscribed = true;
        wish.add(config.timeline, &config.state);
    }
    let wished = order.iter().filter_map(|Reverse((_, place))| Some((*place, wishes[*place].take()?)));
    // Most rooms have the choice of the one before.
    let mut last = (Vec::new(), choice(&[]));
    let wishes = wished.map(|(place, mut wish)| {
        wish.state.sort_unstable();
        wish.state.dedup();
        if wish.state != last.0 {
            last = (wish.state.clone(), choice(&wish.state));
        }
        wish.choice = last.1;
        (place, wish)
    });
    let mut wishes: Vec<_> = wishes.collect();
    wishes.sort_by_key(|(_, wish)| !wish.subscribed);
    let mut topics = vec![Topic::User(ask.onlooker.user)];
    let follows_state = ask.lists.iter().any(|(_, list)| list.filters.follows_state());
    for (candidate, is_watched) in candidates.iter().zip(watched) {
        if candidate.is_joined() {
            topics.extend((is_watched || follows_state).then_some(Topic::Events(candidate.room)));
            topics.extend(ask.extensions.e2ee.then_some(Topic::Devices(candidate.room)));
        }
    }
    let beside = [&ask.extensions.receipts, &ask.extensions.typing];
    for (place, wish) in wishes.iter().filter(|(place, _)| candidates[*place].is_joined()) {
        let room = candidates[*place].room;
        let has = |scope: &Scope| scope.has(&wish.lists, wish.subscribed, || view.room_id(room));
        let mut scopes = beside.into_iter().flatten();
        let is_told = scopes.try_fold(false, |is_told, scope| Ok::<_, StoreError>(is_told || has(scope)?));
        topics.extend((whole(is_told, room.0)? == Some(true)).then_some(Topic::Beside(room)));
    }
    Ok(Chosen { counts, wishes, topics })
}

/// A hash of a choice of state.
fn choice(state: &[Arc<Selection>]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for selection in state {
        hasher.update(&selection.name);
    }
    let mut name = [0; 8];
    hasher.finalize_xof().fill(&mut name);
    u64::from_be_bytes(name)
}

impl Wish<'_> {
    fn add(&mut self, timeline: u16, state: &Arc<Selection>) {
        self.timeline = self.timeline.max(timeline);
        self.state.push(state.clone());
    }
}
