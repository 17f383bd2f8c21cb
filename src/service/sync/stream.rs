//! The event stream of before `/sync`: what happens in one room, or in all of the user's, in the order of the log.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3events>

use std::{future::Future, pin::Pin, time::Duration};

use ruma::OwnedRoomId;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::wait::{Look, Seen, admit, until_news};
use crate::{
    base::{ids::Position, limits},
    service::{
        App,
        ignored::ignored,
        invite_permission::InvitePermission,
        read::{
            access::{Access, ReadError, Span},
            reader::{Onlooker, Reader},
        },
        sessions::SessionError,
        turn::Turn,
    },
    store::{
        StoreError, Topic, View,
        events::{Logged, Membership, Standing},
    },
};

/// What a client asks.
#[derive(Clone)]
pub struct Asked {
    pub onlooker: Onlooker,
    /// What it was told up to; none: what happens from now on.
    pub from: Option<Position>,
    /// The room; none: all that the user is in. They need not be in one that the world may read.
    pub room_id: Option<OwnedRoomId>,
}

/// What happened.
pub struct Told {
    pub start: Position,
    /// Up to where this is all, though perhaps not all that there is.
    pub end: Position,
    /// As JSON, the oldest first.
    pub events: Vec<Box<RawValue>>,
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Tells what happened, once something did, or after `timeout`. While it waits, the turn is not held.
///
/// # Errors
/// The user may not see the room, or was logged out meanwhile; or the store failed.
pub async fn events(app: &App, turn: &Turn, asked: Asked, timeout: Duration) -> Result<Told, StreamError> {
    let mut looking = Looking { app, asked, start: None, told: None };
    let timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
    until_news(app, turn, timeout, &mut looking).await?;
    Ok(looking.told.expect("whoever looked was told something")?)
}

struct Looking<'a> {
    app: &'a App,
    asked: Asked,
    start: Option<Position>,
    told: Option<Result<Told, ReadError>>,
}

impl Look for Looking<'_> {
    fn look(&mut self) -> Pin<Box<dyn Future<Output = Result<Seen, SessionError>> + Send + '_>> {
        Box::pin(async {
            let asked = self.asked.clone();
            let read = move |view: &View<'_>| {
                admit(view, asked.onlooker.device)?;
                Ok::<_, SessionError>(read(view, &asked))
            };
            let (told, seen) = match self.app.store.read(read).await? {
                Err(error) => {
                    let seen = Seen { topics: Vec::new(), is_empty: false, has_echo: false };
                    (Err(error), seen)
                }
                Ok((mut told, seen)) => {
                    // The next look begins where this one ended.
                    self.asked.from = Some(told.end);
                    told.start = *self.start.get_or_insert(told.start);
                    (Ok(told), seen)
                }
            };
            self.told = Some(told);
            Ok(seen)
        })
    }
}

fn read(view: &View<'_>, asked: &Asked) -> Result<(Told, Seen), ReadError> {
    let user = asked.onlooker.user;
    let start = asked.from.unwrap_or(view.position());
    let mut topics = vec![Topic::User(user)];
    let room = match &asked.room_id {
        Some(room_id) => {
            let access = Access::of(view, room_id, user)?;
            topics.push(Topic::Events(access.room));
            Some(access)
        }
        None => {
            for room in view.joined_rooms(user) {
                topics.push(Topic::Events(room?));
            }
            None
        }
    };
    let mut told = Told { start, end: start, events: Vec::new() };
    let (mut steps, mut bytes, mut has_echo) = (0, 0, false);
    'log: while told.end < view.position() && steps < limits::EVENT_STREAM_STEPS {
        let (entries, next) = view.news_after(told.end, limits::EVENT_STREAM_STEP)?;
        for entry in entries {
            if told.events.len() == limits::EVENT_STREAM || bytes >= limits::PAGE_BYTES {
                told.end = Position(entry.position.0 - 1);
                break 'log;
            }
            if let Some((event, is_echo)) = shown(view, &asked.onlooker, room.as_ref(), &entry)? {
                bytes += event.get().len();
                has_echo |= is_echo;
                told.events.push(event);
            }
        }
        told.end = next;
        steps += limits::EVENT_STREAM_STEP;
    }
    let is_empty = told.events.is_empty() && told.end >= view.position();
    Ok((told, Seen { topics, is_empty, has_echo }))
}

/// An entry of the log as JSON, if the user is to be told of it, and whether their own device sent it.
fn shown(
    view: &View<'_>,
    onlooker: &Onlooker,
    room: Option<&Access>,
    entry: &Logged,
) -> Result<Option<(Box<RawValue>, bool)>, StoreError> {
    let Logged { position, number, header } = entry;
    let mut own = false;
    let access = match room {
        Some(access) if access.room == header.room => access.clone(),
        Some(_) => return Ok(None),
        None => {
            let Some(stay) = view.stay(onlooker.user, header.room)? else { return Ok(None) };
            own = stay.event == *number;
            let span = match Span::of(stay) {
                // What was there before them they page back to.
                Some(Span::Joined) if *position < stay.since => return Ok(None),
                Some(span) => span,
                None if own => Span::World,
                None => return Ok(None),
            };
            if own && stay.membership == Membership::Invite && is_unwanted(view, onlooker, entry)? {
                return Ok(None);
            }
            Access { room: header.room, record: view.room(header.room)?, span }
        }
    };
    let graph = view.graph(access.room);
    let reader = Reader::new(view, &graph, &access, onlooker);
    let event = match header.standing {
        // What they are to a room is theirs to know, whatever they may see of it.
        _ if own => reader.own_membership(*number)?,
        Standing::Live => reader.visible(*number)?,
        _ => None,
    };
    let Some(event) = event else { return Ok(None) };
    let json = reader.write::<IgnoredAny>(&event)?.into_json();
    Ok(Some((json, reader.wrote_echo())))
}

fn is_unwanted(view: &View<'_>, onlooker: &Onlooker, invite: &Logged) -> Result<bool, StoreError> {
    let sender = view.user_id(invite.header.sender)?;
    let is_hidden = InvitePermission::of(view, onlooker.user)?.hides(&sender);
    Ok(is_hidden || ignored(view, onlooker.user)?.contains(&sender))
}
