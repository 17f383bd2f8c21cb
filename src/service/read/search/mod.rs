//! Looking for what was said. <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>
//!
//! The index ([`search`](crate::service::search)) gives events by their numbers, the newest first; the order that is asked
//! for is another one. So what is found is ordered tier by tier: as many matches as one request can hold, then as many before
//! those. Nearly every search has one tier. A token says where a tier begins and ends and how far it was told, so that pages
//! fit together whatever is said meanwhile; nothing of a search is kept.
//!
//! Nothing counts that the user can't see, so that a count tells nobody what is in an event.
//!
//! How well an event fits is the share of its words that were sought. It depends on nothing but the event: in an order that
//! changes with all that is said, as that by rare words does, nobody could turn a page.

mod found;
mod scope;
mod token;

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use ruma::api::client::filter::RoomEventFilter;

pub use self::found::{Around, Found, Group, Hit};
use self::{
    found::Page,
    scope::Scope,
    token::{At, SearchToken, Tag},
};
use super::{
    access::{Access, ReadError},
    look::Look,
    reader::{Onlooker, Reader},
};
use crate::{
    base::{clock::Clock, ids::EventNumber, limits},
    service::{
        App,
        search::{document::is_encrypted, words::Term},
    },
    store::{Match, Part, SearchIndex, StoreError, View},
};

/// What a client looks for.
pub struct Ask {
    pub term: String,
    /// All, if it doesn't say.
    pub parts: Option<Vec<Part>>,
    pub filter: RoomEventFilter,
    pub order: Order,
    /// What to tell of what stands around each event.
    pub context: Option<Surroundings>,
    /// Whether to tell the state of the rooms of the events.
    pub state: bool,
    pub groups: Vec<GroupBy>,
    /// Where a page before this one ended.
    pub from: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Rank,
    Recent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    Room,
    Sender,
}

pub struct Surroundings {
    pub before: usize,
    pub after: usize,
    /// Whether to tell how those who speak there were called then.
    pub profiles: bool,
}

/// How much of the index one request looks at.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Matches, those in others' rooms included.
    pub rows: usize,
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: limits::SEARCH_ROWS, time: limits::SEARCH_TIME }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The operator wants no index.
    #[error("nothing is searched on this server")]
    Off,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Looks for what a client asks for.
///
/// # Errors
/// There is no search here, the token is none of ours, there is not enough time, or the store failed.
pub async fn search(app: &App, onlooker: Onlooker, ask: Ask, bounds: Bounds) -> Result<Found, SearchError> {
    if !app.config.search.enabled {
        return Err(SearchError::Off);
    }
    let from: Option<SearchToken> = ask.from.as_deref().map(str::parse).transpose()?;
    let term = Term::of(&ask.term);
    if term.phrases.is_empty() {
        return Ok(Found::default());
    }
    let what = Arc::new((ask, term));
    let found = attempt(app, &onlooker, &what, (from, bounds)).await;
    if let Err(ReadError::Store(error)) = &found
        && error.is_damaged_index()
    {
        tracing::warn!(%error, "the search index is made anew");
        app.lose_search().await.map_err(ReadError::from)?;
        return Ok(Box::pin(attempt(app, &onlooker, &what, (from, bounds))).await?);
    }
    Ok(found?)
}

async fn attempt(
    app: &App,
    onlooker: &Onlooker,
    what: &Arc<(Ask, Term)>,
    (from, bounds): (Option<SearchToken>, Bounds),
) -> Result<Found, ReadError> {
    let (mut opened, _) = app.open_search(limits::SEARCH_STEPS).await?;
    let (onlooker, what, clock) = (onlooker.clone(), what.clone(), app.clock.clone());
    let read = move |view: &View<'_>| {
        let left = Left { rows: bounds.rows, clock: &clock, until: clock.monotonic() + bounds.time };
        let found = find(view, &mut opened.index, &onlooker, &what, (from, left, bounds.time))?;
        Ok::<_, ReadError>((opened, found))
    };
    let (opened, found) = app.store.read(read).await?;
    opened.close().await;
    Ok(found)
}

fn find(
    view: &View<'_>,
    index: &mut SearchIndex,
    onlooker: &Onlooker,
    (ask, term): &(Ask, Term),
    (from, mut left, time): (Option<SearchToken>, Left<'_>, Duration),
) -> Result<Found, ReadError> {
    let all = EventNumber(view.position().0 + 1);
    let mut from = from.unwrap_or(SearchToken { below: all, counted: 0, at: None, room: None, sender: None });
    from.below = from.below.min(all);
    let scope = Scope::of(view, onlooker, (ask, term), &from)?;
    let mut page = Page::new(ask, term);
    let mut is_first = true;
    loop {
        let tier = Tier::find(index, &scope, from, &mut left)?;
        let Some(Tier { matches, end }) = tier else {
            // Another request has more time for it, unless this one had all of it.
            let is_wrong_time = from.at.is_some() || !is_first;
            if !is_wrong_time && left.rows > 0 && left.is_nothing() {
                return Err(ReadError::TooLong);
            }
            return Ok(page.end(is_wrong_time.then_some(from), &[], true));
        };
        let accesses = accesses(view, &scope, &matches)?;
        let graphs: Vec<_> = accesses.iter().map(|access| view.graph(access.room)).collect();
        let readers = accesses.iter().zip(&graphs);
        let mut looks: Vec<Look<'_>> = readers
            .map(|(access, graph)| Look { view, access, reader: Reader::new(view, graph, access, onlooker) })
            .collect();
        let mut candidates = Vec::new();
        for found in matches {
            if let Ok(at) = looks.binary_search_by_key(&found.room, Look::room)
                && let Some(weight) = scope.weight(&looks[at], &found)?
            {
                candidates.push((weight, Reverse(found.number), at, found));
            }
        }
        candidates.sort_unstable_by_key(|(weight, number, ..)| (*weight, *number));
        page.count = from.counted + candidates.len() as u64;
        let told = |(weight, number, ..): &(u64, Reverse<EventNumber>, usize, Match)| {
            from.at.is_some_and(|at| (*weight, *number) <= (at.weight, Reverse(at.number)))
        };
        let first = candidates.partition_point(told);
        for (told, (weight, Reverse(number), at, found)) in candidates.iter().enumerate().skip(first) {
            page.add(&mut looks[*at], found)?;
            from.at = Some(At { end, weight: *weight, number: *number });
            let rest = &candidates[told + 1..];
            // What stands around what is found takes time as well, and others wait for the index.
            let is_late = left.clock.monotonic() >= left.until + time;
            if (page.is_full() || is_late) && !(rest.is_empty() && end == EventNumber(0)) {
                let rest: Vec<_> = rest.iter().map(|(.., found)| *found).collect();
                let tags = tags(view, &rest)?;
                return Ok(page.end(Some(from), &tags, end > EventNumber(0)));
            }
        }
        if end == EventNumber(0) {
            return Ok(page.end(None, &[], false));
        }
        from = SearchToken { below: end, counted: page.count, at: None, ..from };
        is_first = false;
        if left.is_nothing() {
            return Ok(page.end(Some(from), &[], true));
        }
    }
}

/// What is left of a request's bounds.
struct Left<'c> {
    rows: usize,
    clock: &'c Clock,
    until: Duration,
}

impl Left<'_> {
    fn is_nothing(&self) -> bool {
        self.rows == 0 || self.clock.monotonic() >= self.until
    }
}

/// Matches that are ordered at once.
struct Tier {
    matches: Vec<Match>,
    /// None is below it.
    end: EventNumber,
}

impl Tier {
    /// Finds the tier at a token, in the user's rooms; none if there is no time for all of one that was begun, or for any of
    /// another.
    fn find(
        index: &mut SearchIndex,
        scope: &Scope<'_>,
        SearchToken { below, at, .. }: SearchToken,
        left: &mut Left<'_>,
    ) -> Result<Option<Self>, StoreError> {
        let start = at.map_or(EventNumber(0), |at| at.end);
        let most = if at.is_some() { usize::MAX } else { limits::SEARCH_TIER };
        let (mut matches, mut last, rows) = (Vec::new(), below, &mut left.rows);
        let is_whole = index.find(&scope.sought, start..below, (left.clock, left.until), &mut |found| {
            last = found.number;
            *rows = rows.saturating_sub(1);
            if scope.rooms.contains_key(&found.room) {
                matches.push(found);
            }
            matches.len() < most && *rows > 0
        })?;
        // The last row that may be looked at can be the last one that there is.
        let is_whole = is_whole || at.is_some() && last == start;
        if !is_whole && (at.is_some() || last == below) {
            return Ok(None);
        }
        Ok(Some(Self { matches, end: if is_whole { start } else { last } }))
    }
}

/// The rooms of matches, in order, but for those that are encrypted.
fn accesses(view: &View<'_>, scope: &Scope<'_>, matches: &[Match]) -> Result<Vec<Access>, StoreError> {
    let mut rooms: Vec<_> = matches.iter().map(|found| found.room).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let mut accesses = Vec::with_capacity(rooms.len());
    for room in rooms {
        if !is_encrypted(view, room)? {
            accesses.push(Access { room, record: view.room(room)?, span: scope.rooms[&room] });
        }
    }
    Ok(accesses)
}

/// The groups that matches belong to.
fn tags(view: &View<'_>, matches: &[Match]) -> Result<Vec<Tag>, StoreError> {
    let (mut rooms, mut senders) = (HashSet::new(), HashSet::new());
    for found in matches {
        rooms.insert(found.room);
        senders.insert(view.header(found.room, found.number)?.sender);
    }
    Ok(rooms.into_iter().map(Tag::Room).chain(senders.into_iter().map(Tag::Sender)).collect())
}
