//! What the filters of lists look at in rooms.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::RoomId;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    request::Ask,
    rooms::Candidate,
    traits::{Trait, Traits},
};
use crate::{
    base::{fold::fold, ids::RoomNumber, limits},
    service::{read::reader::Onlooker, sync::damage::whole},
    store::{
        StoreError, View,
        events::{Membership, RoomRecord},
    },
};

/// Which rooms a list has. What is absent lets all through.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Filters {
    is_dm: Option<bool>,
    is_encrypted: Option<bool>,
    #[serde(alias = "is_invited")]
    is_invite: Option<bool>,
    /// Rooms that are children of one of these.
    pub spaces: Option<Vec<String>>,
    room_types: Option<Vec<Option<String>>>,
    not_room_types: Vec<Option<String>>,
    /// What the room's name has in it, whatever its case.
    room_name_like: Option<String>,
    tags: Option<Vec<String>>,
    not_tags: Vec<String>,
}

impl Filters {
    /// Whether it names more than a request may have.
    pub fn is_long(&self) -> bool {
        let lists = [self.tags.as_ref().map_or(0, Vec::len), self.not_tags.len(), self.not_room_types.len()];
        lists
            .into_iter()
            .chain(self.room_types.as_ref().map(Vec::len))
            .any(|names| names > limits::SLIDING_LISTS)
            || self.room_name_like.as_ref().is_some_and(|like| like.len() > limits::SLIDING_NAME_BYTES)
    }

    /// Whether the state of rooms decides, which a room may not be in the list for as yet.
    pub(super) fn follows_state(&self) -> bool {
        self.asks_for_traits() || self.room_name_like.is_some() || self.spaces.is_some()
    }

    fn asks_for_traits(&self) -> bool {
        self.is_encrypted.is_some() || self.room_types.is_some() || !self.not_room_types.is_empty()
    }

    fn asks_for_tags(&self) -> bool {
        self.tags.is_some() || !self.not_tags.is_empty()
    }
}

/// What is known of candidates, as far as some filter asks for it; each by its place.
#[derive(Default)]
pub(super) struct Facts {
    direct: Vec<bool>,
    invited: Vec<bool>,
    /// None in these is of a room that can't be read. No filter that asks for it lets that through.
    traits: Vec<Option<Trait>>,
    names: Vec<Option<String>>,
    tags: Vec<Vec<String>>,
    children: HashMap<String, Vec<bool>>,
}

impl Facts {
    pub(super) fn of(
        view: &View<'_>,
        ask: &Ask,
        candidates: &[Candidate],
        traits: &Traits,
    ) -> Result<Self, StoreError> {
        let filters = || ask.lists.iter().map(|(_, list)| &list.filters);
        let direct = direct(view, &ask.onlooker)?;
        let mut facts = Self {
            direct: candidates.iter().map(|candidate| direct.contains(&candidate.room)).collect(),
            invited: candidates.iter().map(|room| room.stay.membership == Membership::Invite).collect(),
            ..Self::default()
        };
        if filters().any(Filters::asks_for_traits) {
            for candidate in candidates {
                let found = trait_of(view, &ask.onlooker, candidate, traits);
                facts.traits.push(whole(found, candidate.room.0)?);
            }
        }
        if filters().any(|filters| filters.room_name_like.is_some()) {
            for candidate in candidates {
                let name = whole(name_of(view, candidate), candidate.room.0)?;
                facts.names.push(name.map(|name| fold(&name.unwrap_or_default())));
            }
        }
        if filters().any(Filters::asks_for_tags) {
            let mut tags = tags(view, &ask.onlooker)?;
            facts.tags = candidates.iter().map(|room| tags.remove(&room.room).unwrap_or_default()).collect();
        }
        for space in filters().flat_map(|filters| filters.spaces.iter().flatten()) {
            if !facts.children.contains_key(space) {
                let children = children(view, space, candidates)?;
                facts.children.insert(space.clone(), children);
            }
        }
        Ok(facts)
    }

    pub(super) fn is_direct(&self, place: usize) -> bool {
        self.direct[place]
    }

    /// Whether a filter lets a candidate through.
    pub(super) fn admit(&self, filters: &Filters, place: usize) -> bool {
        let is = |wanted: Option<bool>, found: bool| wanted.is_none_or(|wanted| wanted == found);
        is(filters.is_dm, self.direct[place])
            && is(filters.is_invite, self.invited[place])
            && (!filters.asks_for_traits()
                || self.traits[place].as_ref().is_some_and(|found| filters.admit_trait(found)))
            && filters
                .room_name_like
                .as_ref()
                .is_none_or(|like| self.names[place].as_ref().is_some_and(|name| name.contains(&fold(like))))
            && (!filters.asks_for_tags() || filters.admit_tags(&self.tags[place]))
            && filters.spaces.as_ref().is_none_or(|spaces| {
                spaces.iter().any(|space| self.children.get(space).is_some_and(|is_child| is_child[place]))
            })
    }
}

impl Filters {
    fn admit_trait(&self, found: &Trait) -> bool {
        let is_one =
            |kinds: &[Option<String>]| kinds.iter().any(|kind| kind.as_deref() == found.kind.as_deref());
        self.is_encrypted.is_none_or(|wanted| wanted == found.encrypted)
            && self.room_types.as_deref().is_none_or(is_one)
            && !is_one(&self.not_room_types)
    }

    fn admit_tags(&self, found: &[String]) -> bool {
        let has_one = |tags: &[String]| tags.iter().any(|tag| found.contains(tag));
        self.tags.as_deref().is_none_or(has_one) && !has_one(&self.not_tags)
    }
}

/// The rooms of two, as the user's clients keep it.
/// <https://spec.matrix.org/v1.19/client-server-api/#direct-messaging>
fn direct(view: &View<'_>, onlooker: &Onlooker) -> Result<HashSet<RoomNumber>, StoreError> {
    let content = view.account_data(onlooker.user, None, "m.direct")?;
    let content = content.and_then(|content| serde_json::from_str::<BTreeMap<String, Value>>(&content).ok());
    let mut rooms = HashSet::new();
    for room_id in content.iter().flat_map(BTreeMap::values).flat_map(|rooms| rooms.as_array()).flatten() {
        if let Some(Ok(room_id)) = room_id.as_str().map(<&RoomId>::try_from) {
            rooms.extend(whole(view.room_number(room_id), room_id)?.flatten());
        }
    }
    Ok(rooms)
}

/// The names of the user's tags, by room.
fn tags(view: &View<'_>, onlooker: &Onlooker) -> Result<HashMap<RoomNumber, Vec<String>>, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        tags: BTreeMap<String, IgnoredAny>,
    }
    let mut tags = HashMap::new();
    for data in view.account_data_of_type(onlooker.user, "m.tag")? {
        let room_id = data.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok());
        let content = serde_json::from_str::<Content>(&data.content);
        if let (Some(room_id), Ok(content)) = (room_id, content)
            && let Some(room) = whole(view.room_number(room_id), room_id)?.flatten()
        {
            tags.insert(room, content.tags.into_keys().collect());
        }
    }
    Ok(tags)
}

fn trait_of(
    view: &View<'_>,
    onlooker: &Onlooker,
    candidate: &Candidate,
    traits: &Traits,
) -> Result<Trait, StoreError> {
    let Candidate { room, stay, record, .. } = candidate;
    if let Some(record) = record {
        return traits.of(view, *room, record.state, record.version);
    }
    if let Some(shown) = view.out_of_band(onlooker.user, *room)? {
        return Ok(Trait::shown(&shown.state));
    }
    let root = view.header(*room, stay.event)?.state_before.unwrap_or_default();
    traits.of(view, *room, root, view.room(*room)?.version)
}

/// The name of a room that the user is in, by its name event alone.
fn name_of(view: &View<'_>, candidate: &Candidate) -> Result<Option<String>, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        name: String,
    }
    let Some(record) = &candidate.record else { return Ok(None) };
    let Some(event) = view.state_event(candidate.room, record.state, "m.room.name", "")? else {
        return Ok(None);
    };
    let content = view.event(candidate.room, event)?.shown(record.version).content_as::<Content>();
    Ok(content.map(|content| content.name))
}

/// Which candidates are children of a space, if the user is in that.
/// <https://spec.matrix.org/v1.19/client-server-api/#mspacechild>
fn children(view: &View<'_>, space: &str, candidates: &[Candidate]) -> Result<Vec<bool>, StoreError> {
    let mut children = vec![false; candidates.len()];
    let Ok(space) = <&RoomId>::try_from(space) else { return Ok(children) };
    let space = whole(view.room_number(space), space)?.flatten().and_then(|space| {
        let place = candidates.binary_search_by_key(&space, |candidate| candidate.room).ok()?;
        Some((space, candidates[place].record.as_ref()?))
    });
    let Some((space, record)) = space else { return Ok(children) };
    for (place, candidate) in candidates.iter().enumerate() {
        children[place] =
            whole(is_child(view, (space, record), candidate.room), candidate.room.0)?.unwrap_or_default();
    }
    Ok(children)
}

fn is_child(
    view: &View<'_>,
    (space, record): (RoomNumber, &RoomRecord),
    room: RoomNumber,
) -> Result<bool, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        via: Vec<IgnoredAny>,
    }
    let room_id = view.room_id(room)?;
    let event = view.state_event(space, record.state, "m.space.child", room_id.as_str())?;
    let Some(event) = event else { return Ok(false) };
    let content = view.event(space, event)?.shown(record.version).content_as::<Content>();
    Ok(content.is_some_and(|content| !content.via.is_empty()))
}
