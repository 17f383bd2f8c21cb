//! Paging through a room's past. <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, RoomId,
    api::{Direction, client::filter::RoomEventFilter},
    events::AnyTimelineEvent,
    serde::Raw,
};

use super::{
    access::{self, ReadError},
    listing::{Listing, Source, Wanted},
    look::{Look, look, look_at},
    page::{self, Walk, walk},
    reader::Onlooker,
    token::PageToken,
};
use crate::service::{App, federation::backfill};
use crate::{
    base::{
        ids::{Position, RoomNumber},
        limits,
    },
    room::{filter, visibility::VisibleEvent},
    store::events::Place,
};

/// What part of a room's past to tell.
#[derive(Clone, Debug)]
pub struct Span {
    pub direction: Direction,
    pub from: Option<String>,
    pub to: Option<String>,
    pub limit: usize,
    pub filter: RoomEventFilter,
}

/// A part of a room's past.
#[derive(Debug)]
pub struct Chunk {
    pub start: String,
    /// Where to go on; none if there is nothing more.
    pub end: Option<String>,
    pub events: Listing,
    /// Member events of those who sent them, if members are loaded lazily.
    pub state: Listing,
}

/// Tells a part of a room's past.
///
/// # Errors
/// The user may not see the room, or a token is none of ours.
pub async fn messages(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    span: Span,
) -> Result<Chunk, ReadError> {
    let token = |text: &Option<String>| text.as_deref().map(str::parse::<PageToken>).transpose();
    let (from, to) = (token(&span.from)?, token(&span.to)?);
    let limit = span.limit.clamp(1, limits::PAGE_EVENTS);
    let steps = Walk { direction: span.direction, from, to, limit, stops: false };
    let (mut chunk, mut gap) = part(app, &onlooker, &room_id, steps, &span.filter).await?;
    let deadline = app.clock.monotonic() + limits::BACKFILL_TIME;
    for _ in 0..FILLS {
        let left = deadline.saturating_sub(app.clock.monotonic());
        let Some((room, anchor)) = gap.filter(|_| !left.is_zero()) else { break };
        let stops = backfill::fill(app, room, anchor, left).await;
        (chunk, gap) = part(app, &onlooker, &room_id, Walk { stops, ..steps }, &span.filter).await?;
        if !stops {
            break;
        }
    }
    Ok(chunk)
}

/// What is here of a part of a room's past; and the first event in it before which some are missing, if the user is in
/// the room.
async fn part(
    app: &App,
    onlooker: &Onlooker,
    room_id: &RoomId,
    steps: Walk,
    filter: &RoomEventFilter,
) -> Result<(Chunk, Option<(RoomNumber, Position)>), ReadError> {
    let filter = filter.clone();
    look(app, onlooker.clone(), room_id.to_owned(), move |look| {
        let page = walk(look.view, look.access, &mut look.reader, &filter, steps)?;
        let moment = page.events.first().map_or(look.access.until(), |(place, _)| moment(*place));
        let events: Vec<VisibleEvent> = page.events.into_iter().map(|(_, event)| event).collect();
        let gap = page.gap.filter(|_| look.access.span == access::Span::Joined);
        let chunk = Chunk {
            start: page.start.to_string(),
            end: page.end.map(|end| end.to_string()),
            state: senders(look, &filter, moment, &events)?,
            events: Listing::of(look, Source::Events(events.into_iter()))?,
        };
        Ok((chunk, gap.map(|gap| (look.room(), gap))))
    })
    .await
}

/// An event with what stands around it.
#[derive(Debug)]
pub struct Context {
    pub event: Raw<AnyTimelineEvent>,
    /// The nearest first.
    pub before: Listing,
    /// The nearest first.
    pub after: Listing,
    pub start: String,
    pub end: String,
    /// The state at the last of the events.
    pub state: Listing,
}

/// Tells what stands around an event, at most `limit` events in all.
///
/// # Errors
/// There is no such event that the user may see.
pub async fn context(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    (event_id, limit, filter): (OwnedEventId, usize, RoomEventFilter),
) -> Result<Context, ReadError> {
    look_at(app, onlooker, (room_id, event_id), move |look, event| {
        let limit = limit.min(limits::PAGE_EVENTS);
        // Half on each side.
        let what = (event, limit / 2, limit - limit / 2);
        let around = page::context(look.view, look.access, &mut look.reader, &filter, what)?;
        let last = around.after.last().unwrap_or(&around.event);
        let place = look.view.header(look.room(), last.number())?.place;
        let moment = place.map_or(look.access.until(), moment);
        let lazy = filter::lazy_loads_members(&filter);
        let state = if lazy {
            let all: Vec<_> =
                around.before.iter().chain([&around.event]).chain(&around.after).cloned().collect();
            senders(look, &filter, moment, &all)?
        } else {
            whole_state(look, &filter, moment)?
        };
        Ok(Context {
            event: look.reader.write(&around.event)?,
            before: Listing::of(look, Source::Events(around.before.into_iter()))?,
            after: Listing::of(look, Source::Events(around.after.into_iter()))?,
            start: around.start.to_string(),
            end: around.end.to_string(),
            state,
        })
    })
    .await
}

/// When the event at a place had just come.
pub(super) fn moment(place: Place) -> Position {
    let Place { anchor: Position(anchor), sub } = place;
    Position(if sub == 0 { anchor } else { anchor.saturating_sub(1) })
}

fn senders(
    look: &Look<'_>,
    filter: &RoomEventFilter,
    moment: Position,
    events: &[VisibleEvent],
) -> Result<Listing, ReadError> {
    if !filter::lazy_loads_members(filter) {
        return Ok(Listing::default());
    }
    let Some((root, right)) = look.reader.state(moment)? else { return Ok(Listing::default()) };
    let members = look.reader.members_of(root, events.iter())?;
    Ok(Listing::of(look, Source::OfState(right, members.into_iter(), None))?)
}

fn whole_state(look: &Look<'_>, filter: &RoomEventFilter, moment: Position) -> Result<Listing, ReadError> {
    let Some((root, right)) = look.reader.state(moment)? else { return Ok(Listing::default()) };
    let wanted = Wanted::Filtered(Arc::new(filter.clone()));
    Ok(Listing::of(look, Source::State { right, root, after: None, wanted })?)
}

/// How often one request has missing events fetched.
const FILLS: usize = 3;
