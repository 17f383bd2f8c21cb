//! Events that relate to another. <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use std::{
    collections::{BTreeMap, HashSet},
    iter,
    ops::Bound,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, api::Direction, events::AnyMessageLikeEvent, serde::Raw};

use super::{
    access::ReadError,
    look::{Look, look_beside},
    reader::Onlooker,
    token::PageToken,
};
use crate::{
    base::{ids::KeyNumber, limits},
    service::App,
    store::{
        StoreError,
        events::{Child, Place, Relation, RelationKind},
    },
};

/// Which relations to tell.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// None: of any type.
    pub rel_type: Option<String>,
    /// The type of the events that relate; none: of any type.
    pub event_type: Option<String>,
    pub direction: Direction,
    pub from: Option<String>,
    pub to: Option<String>,
    pub limit: usize,
    /// Whether what relates to an event that is wanted counts, too.
    pub recurse: bool,
}

/// A page of them.
#[derive(Debug)]
pub struct Related {
    pub events: Vec<Raw<AnyMessageLikeEvent>>,
    /// Where to go on; none if there is nothing more.
    pub next: Option<String>,
}

/// Tells the events that relate to one.
///
/// # Errors
/// There is no such event that the user may see, or a token is none of ours.
pub async fn relations(
    app: &App,
    onlooker: Onlooker,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    wanted: Wanted,
) -> Result<Related, ReadError> {
    let token = |text: &Option<String>| text.as_deref().map(str::parse::<PageToken>).transpose();
    let (from, to) = (token(&wanted.from)?, token(&wanted.to)?);
    look_beside(app, onlooker, (room_id, event_id.clone()), move |look| {
        let filter = Filter::of(look, &wanted)?;
        let mut related = Related { events: Vec::new(), next: None };
        let Some(places) = places(look, (from, to), wanted.direction) else { return Ok(related) };
        let limit = wanted.limit.clamp(1, limits::PAGE_EVENTS);
        let (mut last, mut bytes) = (None, 0);
        let mut tell = |child: Result<Child, StoreError>, steps: usize| {
            let child = child?;
            let is_full = related.events.len() == limit || bytes >= limits::PAGE_BYTES;
            if is_full || steps == limits::RELATIONS {
                related.next = last.map(|last| after(last, wanted.direction).to_string());
                return Ok::<_, ReadError>(false);
            }
            last = Some(child.place);
            if filter.admits(look, &child)?
                && look.reader.would_see(&child)?
                && let Some(event) = look.reader.visible(child.number)?
            {
                let event: Raw<AnyMessageLikeEvent> = look.reader.write(&event)?;
                bytes += event.json().get().len();
                related.events.push(event);
            }
            Ok(true)
        };
        if wanted.recurse {
            let found = descendants(look, &event_id, &filter)?;
            let found = found.range(places).map(|(_, child)| Ok(child.clone()));
            match wanted.direction {
                Direction::Forward => tell_all(found, &mut tell)?,
                Direction::Backward => tell_all(found.rev(), &mut tell)?,
            }
        } else {
            tell_all(children(look, &event_id, &filter, places, wanted.direction), &mut tell)?;
        }
        Ok(related)
    })
    .await
}

type Places = (Bound<Place>, Bound<Place>);

fn tell_all(
    children: impl Iterator<Item = Result<Child, StoreError>>,
    tell: &mut impl FnMut(Result<Child, StoreError>, usize) -> Result<bool, ReadError>,
) -> Result<(), ReadError> {
    for (steps, child) in children.enumerate() {
        if !tell(child, steps)? {
            break;
        }
    }
    Ok(())
}

/// What a request narrows, as the index of relations knows it.
struct Filter {
    kinds: Vec<RelationKind>,
    /// A type of relation that the index does not tell apart.
    rel_type: Option<String>,
    /// The type of the events, and its number if the room has an event of it that is no state event.
    event_type: Option<(String, Option<KeyNumber>)>,
}

impl Filter {
    fn of(look: &Look<'_>, wanted: &Wanted) -> Result<Self, StoreError> {
        let kind = wanted.rel_type.as_deref().map(RelationKind::of);
        let event_type = match &wanted.event_type {
            Some(name) => Some((name.clone(), look.view.key_number(look.room(), name, None)?)),
            None => None,
        };
        let rel_type = wanted.rel_type.clone().filter(|_| kind == Some(RelationKind::Other));
        let kinds = kind.map_or(RelationKind::ALL.to_vec(), |kind| vec![kind]);
        Ok(Self { kinds, rel_type, event_type })
    }

    fn admits(&self, look: &Look<'_>, child: &Child) -> Result<bool, StoreError> {
        let is_type = match &self.event_type {
            None => true,
            Some((name, _)) if child.is_state => look.view.key_name(look.room(), child.key)?.kind == *name,
            Some((_, number)) => *number == Some(child.key),
        };
        let Some(rel_type) = self.rel_type.as_ref().filter(|_| is_type) else { return Ok(is_type) };
        let relation = Relation::of(&look.view.event(look.room(), child.number)?.pdu);
        Ok(relation.is_some_and(|relation| relation.rel_type == *rel_type))
    }
}

/// The places between two gaps, each by the place that follows it; none if there is nothing between.
fn places(
    look: &Look<'_>,
    (from, to): (Option<PageToken>, Option<PageToken>),
    direction: Direction,
) -> Option<Places> {
    let (first, end) = match direction {
        Direction::Forward => (from, to),
        Direction::Backward => (to, from),
    };
    let PageToken(until) = PageToken::after(Place::live(look.access.until()));
    let start = first.map_or(Place::FIRST, |PageToken(place)| place);
    let end = end.map_or(until, |PageToken(place)| place.min(until));
    (start < end).then_some((Bound::Included(start), Bound::Excluded(end)))
}

/// What relates to an event and stands in these places, in the order that is wanted.
fn children<'v>(
    look: &Look<'v>,
    event_id: &EventId,
    filter: &Filter,
    places: Places,
    direction: Direction,
) -> impl Iterator<Item = Result<Child, StoreError>> + use<'v> {
    let (view, parent) = (look.view, look.view.parent(look.room(), event_id));
    let of_kind = |kind: &RelationKind| -> Box<dyn Iterator<Item = _> + 'v> {
        let children = view.children(parent, *kind, places);
        match direction {
            Direction::Forward => Box::new(children),
            Direction::Backward => Box::new(children.rev()),
        }
    };
    let mut sources: Vec<_> = filter.kinds.iter().map(|kind| of_kind(kind).peekable()).collect();
    iter::from_fn(move || {
        let place = |child: &Result<Child, StoreError>| child.as_ref().ok().map(|child| child.place);
        let fronts = sources.iter_mut().enumerate();
        let fronts = fronts.filter_map(|(at, source)| source.peek().map(|child| (place(child), at)));
        let next = match direction {
            Direction::Forward => fronts.min(),
            Direction::Backward => fronts.max(),
        };
        next.and_then(|(_, at)| sources[at].next())
    })
}

/// What relates to an event, and what relates to that, as far as all on the way is wanted.
fn descendants(
    look: &Look<'_>,
    event_id: &EventId,
    filter: &Filter,
) -> Result<BTreeMap<Place, Child>, StoreError> {
    // Children of any place may have children in the places that are wanted.
    let all = (Bound::Included(Place::FIRST), Bound::Included(Place::live(look.access.until())));
    let mut found = BTreeMap::new();
    let (mut parents, mut seen) = (vec![event_id.to_owned()], HashSet::from([event_id.to_owned()]));
    let mut left = limits::RELATIONS;
    for _ in 0..limits::RELATION_HOPS {
        let mut below = Vec::new();
        for parent in parents {
            for child in children(look, &parent, filter, all, Direction::Backward).take(left) {
                let child = child?;
                left -= 1;
                if !filter.admits(look, &child)? {
                    continue;
                }
                let id = look.view.event_id(look.room(), child.number)?;
                if seen.insert(id.clone()) {
                    below.push(id);
                    found.insert(child.place, child);
                }
            }
        }
        parents = below;
    }
    Ok(found)
}

/// The gap behind a place, as seen in a direction.
fn after(place: Place, direction: Direction) -> PageToken {
    match direction {
        Direction::Forward => PageToken::after(place),
        Direction::Backward => PageToken(place),
    }
}
