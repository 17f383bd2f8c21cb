//! An event of the midst of a gap, for whoever asks what was said at a time: other servers are asked which one that is.
//!
//! It gets a place between both ends of the gap, together with what leads up to it, and so there are two gaps then. Its place
//! is by its depth, and what it says of its time counts only if it is nearer than what is known here.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>

use std::{cmp::Reverse, collections::BTreeMap, future::ready, ops::Bound, time::Duration};

use ruma::{OwnedEventId, OwnedServerName, api::Direction};
use tokio::{task::JoinSet, time::timeout};

use super::{Batch, Gap, asked, fill_by_any, in_its_share};
use crate::{
    base::{clock::Timestamp, ids::Position, limits},
    room::pdu::Pdu,
    service::{App, federation::fetch::Source},
    store::{
        StoreError, View,
        events::{Item, Place},
    },
};

/// A time, and what is known that is nearest to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Nearest {
    pub time: Timestamp,
    pub direction: Direction,
    pub known: Option<Timestamp>,
}

impl Nearest {
    /// How far from the time something is that is nearer than what is known.
    fn distance(&self, sent: Timestamp) -> Option<Duration> {
        let distance = |sent: Timestamp| match self.direction {
            Direction::Forward if sent >= self.time => Some(sent.since(self.time)),
            Direction::Backward if sent <= self.time => Some(self.time.since(sent)),
            _ => None,
        };
        let known = self.known.and_then(distance);
        distance(sent).filter(|distance| known.is_none_or(|known| *distance < known))
    }
}

/// Fetches an event of a gap that is nearer to a time than what is known, and waits so long for it; tells whether there is
/// one now.
pub(in crate::service) async fn jump(app: &App, gap: Gap, nearest: Nearest, wait: Duration) -> bool {
    if !app.config.federation.enabled {
        return false;
    }
    let shared = app.clone();
    let work = |()| async move {
        let jumped = match Box::pin(timeout(limits::FETCH_TIME, jump_by_any(&shared, gap, nearest))).await {
            Ok(Ok(jumped)) => jumped,
            Ok(Err(error)) => {
                tracing::warn!(%error, "an event of another time is not fetched");
                false
            }
            Err(_) => false,
        };
        (jumped, Duration::ZERO)
    };
    timeout(wait, app.fills.jumps.get_begun(&gap, || ready(()), work)).await.unwrap_or(false)
}

async fn jump_by_any(app: &App, gap: Gap, nearest: Nearest) -> Result<bool, StoreError> {
    let own = app.server_name.clone();
    let (room, servers) = app.store.read(move |view| asked(view, &own, gap)).await?;
    let mut asking = JoinSet::new();
    for server in &servers {
        let source = Source::new(app, server.clone(), &room);
        asking.spawn(async move {
            let at = (nearest.time, nearest.direction);
            let told = timeout(limits::JUMP_TIME, source.event_at(at)).await;
            (source, told)
        });
    }
    let mut told: BTreeMap<OwnedEventId, (Duration, Vec<Source>)> = BTreeMap::new();
    while let Some(answer) = asking.join_next().await {
        let Ok((source, Ok(Ok((event_id, sent))))) = answer else { continue };
        if let Some(distance) = nearest.distance(sent) {
            told.entry(event_id).or_insert_with(|| (distance, Vec::new())).1.push(source);
        }
    }
    // What several name is likelier to be part of the room as others see it than what is nearest by the word of one.
    let mut told: Vec<_> = told.into_iter().collect();
    told.sort_by_key(|(_, (distance, sources))| (Reverse(sources.len()), *distance));
    for (event_id, (_, sources)) in told {
        for source in sources {
            let name = source.server.clone();
            let placing = Box::pin(place(source, &servers, gap, (&event_id, nearest)));
            if in_its_share(&name, placing).await? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Gives an event that a server named, and what it tells of its past, places in a gap.
async fn place(
    source: Source,
    servers: &[OwnedServerName],
    gap: Gap,
    (event_id, nearest): (&OwnedEventId, Nearest),
) -> Result<bool, StoreError> {
    let (app, id) = (source.app.clone(), event_id.clone());
    if app.store.read(move |view| is_known(view, gap, &id)).await? {
        return Ok(false);
    }
    let told = match source.past(vec![event_id.clone()], limits::BACKFILLED).await {
        Ok(told) => source.verified(told).await,
        Err(error) => {
            tracing::debug!(server = %source.server, %error, "a server tells no past events");
            return Ok(false);
        }
    };
    let Some(event) = told.iter().find(|pdu| pdu.event_id() == event_id) else { return Ok(false) };
    if nearest.distance(event.origin_server_ts().into()).is_none() {
        return Ok(false);
    }
    let event = event.clone();
    match app.store.read(move |view| between(view, gap, &event)).await? {
        Between::Free(anchor) => {
            let missing = [event_id.clone()];
            Batch::new(source, servers.to_vec(), &missing, told).place(anchor).await
        }
        // It is reached step by step.
        Between::Narrow => fill_by_any(&app, gap.0, gap.1).await,
        Between::Elsewhere => Ok(false),
    }
}

fn is_known(view: &View<'_>, (room, _): Gap, id: &OwnedEventId) -> Result<bool, StoreError> {
    let Some(number) = view.event_number(room, id)? else { return Ok(false) };
    Ok(view.header(room, number)?.state_before.is_some())
}

/// Where an event of a gap may stand.
enum Between {
    /// At an anchor that nothing in the room has.
    Free(Position),
    /// There is none.
    Narrow,
    /// The gap is no more, or the event is no part of it.
    Elsewhere,
}

fn between(view: &View<'_>, (room, anchor): Gap, event: &Pdu) -> Result<Between, StoreError> {
    if view.gap(room, anchor)?.is_none() {
        return Ok(Between::Elsewhere);
    }
    let gap = Place { anchor, sub: i32::MIN };
    let depth = |item: Option<(Place, Item)>| match item {
        Some((_, Item::Event(number))) => view.header(room, number).map(|header| Some(header.depth)),
        _ => Ok(None),
    };
    let before = view.timeline(room, ..gap).next_back().transpose()?;
    let low = before.as_ref().map_or(Position(0), |(place, _)| place.anchor);
    let after = view.timeline(room, (Bound::Excluded(gap), Bound::Unbounded)).next().transpose()?;
    let (low_depth, high_depth) = (depth(before)?, depth(after)?);
    let is_between = low_depth.is_none_or(|low| low <= event.depth())
        && high_depth.is_none_or(|high| event.depth() <= high);
    if !is_between {
        return Ok(Between::Elsewhere);
    }
    let middle = Position(low.0 + anchor.0.saturating_sub(low.0) / 2);
    Ok(if middle > low && middle < anchor { Between::Free(middle) } else { Between::Narrow })
}
