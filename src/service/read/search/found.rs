//! What was found, as clients are told.

use std::collections::{BTreeMap, HashSet};

use ruma::{OwnedEventId, OwnedRoomId, events::AnyTimelineEvent, serde::Raw};
use serde::{Deserialize, Serialize};

use super::{
    Ask, GroupBy, Surroundings,
    token::{SearchToken, Tag},
};
use crate::{
    base::{ids::RoomNumber, limits},
    room::visibility::VisibleEvent,
    service::{
        read::{
            history::moment,
            listing::{Listing, Source, Wanted},
            look::Look,
            page,
        },
        search::words::Term,
    },
    store::{Match, StoreError},
};

/// A page of what was found.
#[derive(Default)]
pub struct Found {
    /// How many there are, as far as this was looked for.
    pub count: u64,
    /// The words that were looked for.
    pub words: Vec<String>,
    pub hits: Vec<Hit>,
    /// For each kind of groups that was asked for the groups, by their names.
    pub groups: Vec<(GroupBy, BTreeMap<String, Group>)>,
    /// Where to go on; none if there is no more.
    pub next: Option<String>,
    /// The state of each room of the events.
    pub states: Vec<(OwnedRoomId, Listing)>,
}

/// An event that was found.
#[derive(Serialize)]
pub struct Hit {
    rank: f64,
    result: Raw<AnyTimelineEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Around>,
}

/// What stands around an event.
#[derive(Serialize)]
pub struct Around {
    start: String,
    end: String,
    events_before: Vec<Raw<AnyTimelineEvent>>,
    events_after: Vec<Raw<AnyTimelineEvent>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_info: Option<BTreeMap<String, Profile>>,
}

#[derive(Default, Deserialize, Serialize)]
struct Profile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

/// Events of one page that have something in common.
#[derive(Serialize)]
pub struct Group {
    /// Of the groups, by their first events.
    order: usize,
    results: Vec<OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip)]
    tag: Tag,
}

/// A page that is being filled.
pub(super) struct Page<'a> {
    pub(super) count: u64,
    ask: &'a Ask,
    term: &'a Term,
    found: Found,
    limit: usize,
    bytes: usize,
    /// Those whose state is told.
    rooms: HashSet<RoomNumber>,
}

impl<'a> Page<'a> {
    pub(super) fn new(ask: &'a Ask, term: &'a Term) -> Self {
        let limit = ask.filter.limit.map_or(limits::FOUND_DEFAULT as u64, u64::from);
        let groups = ask.groups.iter().map(|by| (*by, BTreeMap::new())).collect();
        let found = Found { words: term.typed.clone(), groups, ..Found::default() };
        let limit = limit.clamp(1, limits::FOUND_EVENTS as u64) as usize;
        Self { count: 0, ask, term, found, limit, bytes: 0, rooms: HashSet::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.hits.len() >= self.limit || self.bytes >= limits::PAGE_BYTES
    }

    /// Adds an event that the user is to find.
    pub(super) fn add(&mut self, look: &mut Look<'_>, found: &Match) -> Result<(), StoreError> {
        let Some(event) = look.reader.visible(found.number)? else { return Ok(()) };
        let (id, sender) = (event.pdu().event_id().to_owned(), event.pdu().sender().to_string());
        let sender_number = look.view.header(look.room(), found.number)?.sender;
        let room_id = look.view.room_id(look.room())?;
        for (by, groups) in &mut self.found.groups {
            let (name, tag) = match by {
                GroupBy::Room => (room_id.to_string(), Tag::Room(look.room())),
                GroupBy::Sender => (sender.clone(), Tag::Sender(sender_number)),
            };
            let order = groups.len() + 1;
            let group = Group { order, results: Vec::new(), next_batch: None, tag };
            groups.entry(name).or_insert(group).results.push(id.clone());
        }
        if self.ask.state
            && self.rooms.insert(look.room())
            && let Some((root, right)) = look.reader.state(look.access.until())?
        {
            let source = Source::State { right, root, after: None, wanted: Wanted::All };
            self.found.states.push((room_id, Listing::later(look, source)));
        }
        let result = look.reader.write(&event)?;
        let context = match &self.ask.context {
            Some(surroundings) => Some(around(look, event, surroundings)?),
            None => None,
        };
        let around =
            context.iter().flat_map(|around| around.events_before.iter().chain(&around.events_after));
        self.bytes += around.chain([&result]).map(|event| event.json().get().len()).sum::<usize>();
        let rank = (self.term.words as f64 / found.words.max(1) as f64).min(1.0);
        self.found.hits.push(Hit { rank, result, context });
        Ok(())
    }

    /// Ends the page, behind which a token goes on. A group goes on that still has something among what was found, or may
    /// have in what was not looked at yet.
    pub(super) fn end(mut self, next: Option<SearchToken>, rest: &[Tag], is_more: bool) -> Found {
        if let Some(next) = next {
            let groups = self.found.groups.iter_mut().flat_map(|(_, groups)| groups.values_mut());
            for group in groups.filter(|group| is_more || rest.contains(&group.tag)) {
                group.next_batch = Some(next.within(group.tag).to_string());
            }
        }
        Found { count: self.count, next: next.map(|next| next.to_string()), ..self.found }
    }
}

fn around(
    look: &mut Look<'_>,
    event: VisibleEvent,
    surroundings: &Surroundings,
) -> Result<Around, StoreError> {
    let within = |limit: usize| limit.min(limits::FOUND_CONTEXT);
    let what = (event, within(surroundings.before), within(surroundings.after));
    // What is looked for is no reason to leave out what stands around it.
    let around = page::context(look.view, look.access, &mut look.reader, &Default::default(), what)?;
    let profile_info = if surroundings.profiles { Some(profiles(look, &around)?) } else { None };
    let write = |events: &[VisibleEvent]| -> Result<Vec<Raw<AnyTimelineEvent>>, StoreError> {
        events.iter().map(|event| look.reader.write(event)).collect()
    };
    Ok(Around {
        start: around.start.to_string(),
        end: around.end.to_string(),
        events_before: write(&around.before)?,
        events_after: write(&around.after)?,
        profile_info,
    })
}

/// How those are called who sent events, by the state at the last of these.
fn profiles(look: &Look<'_>, around: &page::Context) -> Result<BTreeMap<String, Profile>, StoreError> {
    let last = around.after.last().unwrap_or(&around.event);
    let place = look.view.header(look.room(), last.number())?.place;
    let moment = place.map_or(look.access.until(), moment);
    let Some((root, right)) = look.reader.state(moment)? else { return Ok(BTreeMap::new()) };
    let events = around.before.iter().chain([&around.event]).chain(&around.after);
    let mut profiles = BTreeMap::new();
    for number in look.reader.members_of(root, events)? {
        let member = look.reader.in_state(right, number)?;
        let profile = member.pdu().content_as().unwrap_or_default();
        profiles.insert(member.pdu().state_key().unwrap_or_default().to_owned(), profile);
    }
    Ok(profiles)
}
