//! Walking a room's timeline: what a user may see of it, as far as their filter lets it through.
//! <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use ruma::api::{Direction, client::filter::RoomEventFilter};
use serde::Deserialize;

use super::{access::Access, reader::Reader, token::PageToken};
use crate::{
    base::{ids::Position, limits},
    room::{
        filter::{self, Subject},
        pdu::Pdu,
        visibility::VisibleEvent,
    },
    store::{
        StoreError, View,
        events::{Item, Place},
    },
};

/// Which part of a timeline to walk.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Which way.
    pub direction: Direction,
    /// From which gap; none means the end where the direction begins.
    pub from: Option<PageToken>,
    /// No further than this gap.
    pub to: Option<PageToken>,
    /// How many events at most.
    pub limit: usize,
    /// Whether it ends, backwards, where events are missing that this server may still get.
    pub stops: bool,
}

/// What a walk met.
#[derive(Clone, Debug)]
pub struct Page {
    /// Events in the order in which they were met.
    pub events: Vec<(Place, VisibleEvent)>,
    /// Where the walk began.
    pub start: PageToken,
    /// Where to go on; none if there is nothing more.
    pub end: Option<PageToken>,
    /// The first event, on the way backwards, before which some are missing.
    pub gap: Option<Position>,
}

/// Walks a room's timeline. What the user may not see or did not ask for is passed over.
pub fn walk(
    view: &View<'_>,
    access: &Access,
    reader: &mut Reader<'_>,
    filter: &RoomEventFilter,
    walk: Walk,
) -> Result<Page, StoreError> {
    let backward = walk.direction == Direction::Backward;
    let first = PageToken(Place { anchor: Position(0), sub: i32::MIN });
    let last = PageToken::after(Place::live(access.until()));
    let start = walk.from.unwrap_or(if backward { last } else { first });
    let (low, high) = match backward {
        true => (walk.to.unwrap_or(first), start.min_of(last)),
        false => (start, walk.to.map_or(last, |to| to.min_of(last))),
    };
    let mut page = Page { events: Vec::new(), start, end: None, gap: None };
    if low.0 >= high.0 {
        return Ok(page);
    }
    let mut items = view.timeline(access.room, low.0..high.0);
    let (mut steps, mut bytes) = (0, 0);
    while let Some(item) = if backward { items.next_back() } else { items.next() } {
        let (place, item) = item?;
        let is_full = page.events.len() >= walk.limit || bytes >= limits::PAGE_BYTES;
        if is_full || steps >= limits::WALK_STEPS {
            page.end = Some(match backward {
                true => PageToken::after(place),
                false => PageToken(place),
            });
            break;
        }
        steps += 1;
        let Item::Event(number) = item else {
            if backward && page.gap.is_none() {
                page.gap = Some(place.anchor);
                if walk.stops {
                    page.end = Some(PageToken::after(place));
                    break;
                }
            }
            continue;
        };
        if let Some(event) = reader.visible(number)?
            && admits(filter, event.pdu())
        {
            bytes += event.pdu().json().len();
            page.events.push((place, event));
        }
    }
    Ok(page)
}

impl PageToken {
    fn min_of(self, other: Self) -> Self {
        if self.0 <= other.0 { self } else { other }
    }
}

/// Tells whether a filter lets an event through.
pub fn admits(filter: &RoomEventFilter, event: &Pdu) -> bool {
    let kind = event.kind().to_string();
    let has_url = filter.url_filter.is_some() && has_url(event);
    filter::admits_event(filter, Subject { event_type: &kind, sender: Some(event.sender()), has_url })
}

/// Everything around one event, for showing it in its place.
#[derive(Clone, Debug)]
pub struct Context {
    /// The event.
    pub event: VisibleEvent,
    /// Those before it, the nearest first.
    pub before: Vec<VisibleEvent>,
    /// Those after it, the nearest first.
    pub after: Vec<VisibleEvent>,
    /// Where to go on backwards.
    pub start: PageToken,
    /// Where to go on forwards.
    pub end: PageToken,
}

/// Finds what stands around an event that the user may see, so many events before and after it.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>
pub fn context(
    view: &View<'_>,
    access: &Access,
    reader: &mut Reader<'_>,
    filter: &RoomEventFilter,
    (event, before, after): (VisibleEvent, usize, usize),
) -> Result<Context, StoreError> {
    let place = view.header(access.room, event.number())?.place.unwrap_or(Place::live(access.record.newest));
    let (here, beyond) = (PageToken(place), PageToken::after(place));
    let side = |direction, from, limit| Walk { direction, from: Some(from), to: None, limit, stops: false };
    let before = walk(view, access, reader, filter, side(Direction::Backward, here, before))?;
    let after = walk(view, access, reader, filter, side(Direction::Forward, beyond, after))?;
    Ok(Context {
        event,
        start: before.end.or(before.events.last().map(|(place, _)| PageToken(*place))).unwrap_or(here),
        end: after.end.or(after.events.last().map(|(place, _)| PageToken::after(*place))).unwrap_or(beyond),
        before: before.events.into_iter().map(|(_, event)| event).collect(),
        after: after.events.into_iter().map(|(_, event)| event).collect(),
    })
}

fn has_url(event: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<serde::de::IgnoredAny>,
    }
    event.content_as::<Content>().is_some_and(|content| content.url.is_some())
}
