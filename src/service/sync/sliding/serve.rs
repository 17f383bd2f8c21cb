//! Answers a request: at once if a connection begins or there is something to tell, else when there is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use super::{
    answer::{Answer, Head, List},
    connection::{Choice, DIRECT, Pos, TYPED, TYPING, Told, ToldRoom, ToldRooms, UnknownPos},
    extensions::{News, Shown, extensions},
    filters::Facts,
    request::{Ask, Shape},
    room::{Rooms, Subject},
    rooms::{Candidates, Chosen, Wish, choose},
};
use crate::{
    base::{
        ids::{Position, RoomNumber},
        limits,
        ordered::Ordered,
    },
    service::{
        App,
        heard::Span,
        notifying::Allowance,
        presence::{self, State},
        sessions::SessionError,
        sync::{
            damage::whole,
            v3::new_receipts,
            wait::{Look, Seen, admit, until_news},
        },
        to_device,
        turn::Turn,
        typing::TypingNews,
        unread::{self, Counted},
    },
    store::{Receipt, StoreError, Topic, View},
};

/// Why a request isn't answered.
#[derive(Debug, thiserror::Error)]
pub enum SlidingError {
    #[error(transparent)]
    UnknownPos(#[from] UnknownPos),
    #[error("the lists and subscriptions come together in too many ways")]
    TooManyUnions,
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Answers a request from where the client is, at once without `timeout`. While it waits, the turn is not held. Meanwhile
/// the user is shown to be there as `state` has it.
///
/// # Errors
/// The position is none of the connection's, the device was logged out or the account locked, perhaps while it waited; or
/// the store failed.
pub async fn serve(
    app: &App,
    turn: &Turn,
    ask: Ask,
    (pos, timeout): (Option<Pos>, Duration),
    state: State,
) -> Result<Answer, SlidingError> {
    let (user, device) = (ask.onlooker.user, ask.onlooker.device);
    if pos.is_some() {
        app.recall_connection((user, device), &ask.connection).await.map_err(SessionError::from)?;
    }
    let request = app.sliding.begin((user, device), ask.connection.clone(), pos)?;
    let _there = presence::begin(app, user, device, state);
    if let Some(wanted) = &ask.extensions.to_device {
        let until = wanted.since;
        let has = app.store.read(move |view| view.has_to_device(device, until));
        if until > Position(0) && has.await.map_err(SessionError::from)? {
            to_device::acknowledge(app, device, until).await;
        }
    }
    let had = request.had.clone();
    let timeout = Some(timeout).filter(|timeout| had.is_some() && !timeout.is_zero());
    let mut looking = Looking { app, ask: Arc::new(ask), had, found: None };
    until_news(app, turn, timeout, &mut looking).await?;
    let Found { answer, told, .. } =
        looking.found.expect("whoever looked found something").ok_or(SlidingError::TooManyUnions)?;
    if app.sliding.offer(&request, told) {
        return Ok(answer);
    }
    // The client asked something else since, and won't look at this.
    pos.map(Answer::nothing).ok_or(UnknownPos.into())
}

/// Looks for news of a connection.
struct Looking<'a> {
    app: &'a App,
    ask: Arc<Ask>,
    had: Option<Arc<Told>>,
    /// None in it: the request can't be answered.
    found: Option<Option<Found>>,
}

/// What was found.
struct Found {
    answer: Answer,
    told: Arc<Told>,
    seen: Seen,
    counted: Vec<Counted>,
}

impl Look for Looking<'_> {
    fn look(&mut self) -> Pin<Box<dyn Future<Output = Result<Seen, SessionError>> + Send + '_>> {
        Box::pin(async {
            let (app, ask) = (self.app.clone(), self.ask.clone());
            let (user, had) = (ask.onlooker.user, self.had.clone().unwrap_or_default());
            let span = app.heard.since(self.had.as_ref().map(|had| had.heard));
            let typing = app.typing.news(span);
            let read = move |view: &View<'_>| {
                admit(view, ask.onlooker.device)?;
                Ok::<_, SessionError>(find(&app, view, &ask, (&had, span), typing)?)
            };
            let mut found = self.app.store.read(read).await?;
            let mut seen = Seen { topics: Vec::new(), is_empty: false, has_echo: false };
            if let Some(found) = &mut found {
                unread::keep(self.app, user, mem::take(&mut found.counted));
                mem::swap(&mut seen, &mut found.seen);
            }
            self.found = Some(found);
            Ok(seen)
        })
    }
}

/// Finds what a client is to be told; none if it asks for too much.
fn find(
    app: &App,
    view: &View<'_>,
    ask: &Ask,
    (had, span): (&Told, Span),
    typing: TypingNews,
) -> Result<Option<Found>, StoreError> {
    let Candidates { candidates, damaged } = Candidates::of(view, ask, had)?;
    let facts = Facts::of(view, ask, &candidates, &app.sliding.traits)?;
    let Chosen { counts, wishes, mut topics } = choose(view, ask, &candidates, &facts)?;
    topics.extend(damaged.iter().map(|room| Topic::Events(*room)));
    let receipts = new_receipts(view, ask.onlooker.user, Some(had.pos.seen).filter(|seen| seen.0 > 0))?;
    let Some(choices) = Choices::of(had, &wishes) else { return Ok(None) };
    let pos = Pos { seen: view.position(), serial: app.sliding.serial() };
    let Told { e2ee, account_data, threads, .. } = *had;
    let mut next = Told { pos, heard: span.until, e2ee, account_data, threads, ..Told::default() };
    let mut rooms = Rooms {
        view,
        ask,
        had,
        json: Vec::new(),
        rest: None,
        allowance: Allowance::default(),
        counted: Vec::new(),
        members: Vec::new(),
        anew: BTreeSet::new(),
        has_echo: false,
    };
    let (mut shown, mut told_now) = (Vec::new(), vec![None; candidates.len()]);
    for (place, wish) in &wishes {
        let candidate = &candidates[*place];
        let told = candidate.told;
        let is_full = rooms.rest.is_some() || rooms.json.len() >= limits::SYNC_BYTES;
        let is_direct = facts.is_direct(*place);
        let may_be_read = ask.shape == Shape::Experimental && candidate.is_joined();
        let is_read = match told.filter(|_| may_be_read) {
            Some(told) => whole(is_read(view, ask, had, told, &receipts), candidate.room.0)?,
            None => Some(false),
        };
        let Some(is_read) = is_read else { continue };
        let choice = told.and_then(|told| had.choices.get(usize::from(told.choice)));
        let subject = Subject {
            candidate,
            wish,
            choice: choice.and_then(|choice| choice.state.as_deref()).unwrap_or_default(),
            is_chosen_anew: choice.is_none_or(|choice| choice.name != wish.choice),
            is_direct,
            is_read,
        };
        // What has no place comes with the next answer.
        if is_full && subject.has_news() {
            continue;
        }
        let timeline = match rooms.tell(&subject) {
            Ok(timeline) => timeline,
            Err(error) => {
                tracing::error!(%error, room = %candidate.room.0, "a room is not told; it will be tried again");
                continue;
            }
        };
        let entry = ToldRoom {
            room: candidate.room,
            timeline,
            choice: choices.place(wish.choice),
            flags: told.map_or(0, |told| told.flags & TYPED) | if is_direct { DIRECT } else { 0 },
            until: pos.seen,
        };
        told_now[*place] = Some(entry);
        if candidate.is_joined() {
            let told = told.filter(|told| candidate.stay.since <= told.until);
            shown.push(Shown { place: *place, room: candidate.room, wish, told, flags: entry.flags });
        }
    }
    let news = News { receipts, typing };
    let extensions = extensions(app, view, ask, (had, &mut next), (&mut shown, news))?;
    for room in shown {
        if let Some(entry) = &mut told_now[room.place] {
            entry.flags = room.flags;
        }
    }
    let kept = |told: ToldRoom| {
        let (choice, flags) = (choices.moved(told.choice), told.flags & !TYPING);
        Some(ToldRoom { choice, flags, ..told })
    };
    let mut is_wished = vec![false; candidates.len()];
    for (place, _) in &wishes {
        is_wished[*place] = true;
    }
    let mut told: Vec<_> = damaged.into_iter().filter_map(|room| kept(had.room(room)?)).collect();
    told.reserve(candidates.len());
    for ((candidate, now), is_wished) in candidates.iter().zip(told_now).zip(is_wished) {
        let before = candidate.told.filter(|_| !candidate.is_over() || is_wished);
        told.extend(now.or_else(|| kept(before?)));
    }
    told.sort_unstable_by_key(|told| told.room);
    next.rooms = ToldRooms::of(told, pos.seen);
    if next.rooms == had.rooms {
        // While nothing happens, the two take the room of one.
        next.rooms = had.rooms.clone();
    }
    next.choices = Arc::new(choices.all);
    next.members = rooms.members_told();
    let head = Head {
        pos: pos.to_string(),
        txn_id: ask.transaction.as_deref(),
        lists: counts.into_iter().map(|(name, count)| (name, List { count })).into_map(),
        extensions,
    };
    let is_empty = rooms.json.is_empty() && !head.extensions.has_news();
    let seen = Seen { topics, is_empty, has_echo: rooms.has_echo || rooms.rest.is_some() };
    let Rooms { json, rest, counted, .. } = rooms;
    Ok(Some(Found { answer: Answer::new(&head, json, rest), told: Arc::new(next), seen, counted }))
}

/// Whether the user read something in a room since it was told.
fn is_read(
    view: &View<'_>,
    ask: &Ask,
    had: &Told,
    told: ToldRoom,
    receipts: &HashMap<RoomNumber, Vec<Receipt>>,
) -> Result<bool, StoreError> {
    let user = ask.onlooker.user;
    if told.until < had.pos.seen {
        return view.has_receipt_since(user, told.room, told.until);
    }
    Ok(receipts.get(&told.room).is_some_and(|new| new.iter().any(|receipt| receipt.user == user)))
}

/// The choices that are remembered: those of a request, and some of those before.
struct Choices {
    all: Vec<Choice>,
    /// Where those before are now.
    moved: Vec<u8>,
}

impl Choices {
    /// None if there are too many.
    fn of(had: &Told, wishes: &[(usize, Wish<'_>)]) -> Option<Self> {
        let unions: BTreeMap<_, _> = wishes.iter().map(|(_, wish)| (wish.choice, &wish.state)).into_map();
        if unions.len() > limits::SLIDING_UNIONS {
            return None;
        }
        let unions = unions.into_iter();
        let mut all: Vec<Choice> =
            unions.map(|(name, state)| Choice { name, state: Some(state.as_slice().into()) }).collect();
        let most = all.len() + limits::SLIDING_CHOICES;
        let mut used = [false; NOT_REMEMBERED as usize + 1];
        for told in had.rooms() {
            used[usize::from(told.choice)] = true;
        }
        let mut moved = Vec::with_capacity(had.choices.len());
        for (choice, is_used) in had.choices.iter().zip(used) {
            let place = match all.iter().position(|known| known.name == choice.name) {
                Some(place) => place as u8,
                None if is_used && all.len() < most => {
                    all.push(choice.clone());
                    all.len() as u8 - 1
                }
                None => NOT_REMEMBERED,
            };
            moved.push(place);
        }
        Some(Self { all, moved })
    }

    fn place(&self, name: u64) -> u8 {
        let place = self.all.iter().position(|known| known.name == name);
        place.map_or(NOT_REMEMBERED, |place| place as u8)
    }

    fn moved(&self, choice: u8) -> u8 {
        self.moved.get(usize::from(choice)).copied().unwrap_or(NOT_REMEMBERED)
    }
}

const NOT_REMEMBERED: u8 = u8::MAX;
const _: () = assert!(limits::SLIDING_UNIONS + limits::SLIDING_CHOICES < NOT_REMEMBERED as usize);
