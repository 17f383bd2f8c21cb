//! Events that relate to another. <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, api::Direction, events::AnyMessageLikeEvent, serde::Raw};

use super::{
    access::ReadError,
    look::{Look, look_at},
    reader::Onlooker,
    token::PageToken,
};
use crate::{
    base::{ids::EventNumber, limits},
    service::{App, ignored::ignored},
    store::{
        StoreError,
        events::{Place, Relation},
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
    /// Whether what relates to an event that relates counts, too.
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
    let user = onlooker.user;
    look_at(app, onlooker, (room_id, event_id.clone()), move |look, _| {
        let ignored = ignored(look.view, user)?;
        let limit = wanted.limit.clamp(1, limits::PAGE_EVENTS);
        let mut related = Related { events: Vec::new(), next: None };
        let mut last = None;
        for (place, number) in places(look, &event_id, (from, to), &wanted)? {
            if related.events.len() == limit {
                related.next = last.map(|last| after(last, wanted.direction).to_string());
                break;
            }
            last = Some(place);
            let Some(event) = look.reader.visible(number)? else { continue };
            let pdu = event.pdu();
            let fits = Relation::of(pdu).is_some_and(|relation| {
                wanted.rel_type.as_ref().is_none_or(|wanted| *wanted == relation.rel_type)
                    && (wanted.recurse || relation.parent == event_id)
            });
            let kind = pdu.kind().to_string();
            if fits
                && wanted.event_type.as_ref().is_none_or(|wanted| *wanted == kind)
                && !ignored.contains(pdu.sender())
            {
                related.events.push(look.reader.write(&event)?);
            }
        }
        Ok(related)
    })
    .await
}

/// Where the candidates stand, in the order that is wanted.
fn places(
    look: &Look<'_>,
    event_id: &EventId,
    (from, to): (Option<PageToken>, Option<PageToken>),
    wanted: &Wanted,
) -> Result<Vec<(Place, EventNumber)>, StoreError> {
    // A token is a gap, by the place that follows it.
    let (first, end) = match wanted.direction {
        Direction::Forward => (from, to),
        Direction::Backward => (to, from),
    };
    let until = Place::live(look.access.until());
    let start = first.map_or(Bound::Unbounded, |PageToken(place)| Bound::Included(place));
    let end = end.map_or(Bound::Included(until), |PageToken(place)| Bound::Excluded(place));
    let mut found = BTreeMap::new();
    let (mut parents, mut seen) = (vec![event_id.to_owned()], HashSet::from([event_id.to_owned()]));
    for _ in 0..if wanted.recurse { limits::RELATION_HOPS } else { 1 } {
        let mut children = Vec::new();
        for parent in parents {
            // Children of any place may have children in the places that are wanted.
            for entry in look.view.relations(look.room(), &parent, ..=until) {
                let (place, number) = entry?;
                if found.len() >= limits::RELATIONS {
                    break;
                }
                if wanted.recurse {
                    let id = look.view.event(look.room(), number)?.pdu.event_id().to_owned();
                    if seen.insert(id.clone()) {
                        children.push(id);
                    }
                }
                found.insert(place, number);
            }
        }
        parents = children;
    }
    let found = found.range((start, end)).map(|(place, number)| (*place, *number));
    Ok(match wanted.direction {
        Direction::Forward => found.collect(),
        Direction::Backward => found.rev().collect(),
    })
}

/// The gap behind a place, as seen in a direction.
fn after(place: Place, direction: Direction) -> PageToken {
    match direction {
        Direction::Forward => PageToken::after(place),
        Direction::Backward => PageToken(place),
    }
}
