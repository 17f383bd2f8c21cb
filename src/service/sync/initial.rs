//! What a client of before `/sync` asks for at first: a room, or all of the user's, as they stand, each with the newest that
//! was said there. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync>
//!
//! Rooms are read one by one while they are sent, each as of the moment when it is read. So what happens meanwhile may be
//! told twice, here and by the event stream that goes on from the token, and nothing is left out.

use std::{mem, vec};

use ruma::{
    OwnedRoomId,
    api::{
        Direction,
        client::filter::{FilterDefinition, RoomEventFilter},
    },
    serde::Raw,
};
use serde::{Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    data::{Data, account_data, add_push_rules},
    plan::{Change, Kind, Plan, Query, StateAs, plan},
    presence,
    unlogged::Unlogged,
};
use crate::{
    base::{
        ids::{Position, UserNumber},
        limits,
    },
    service::{
        App,
        ignored::ignored,
        invite_permission::InvitePermission,
        read::{
            access::ReadError,
            listing::{Listing, Source, Wanted},
            look::{Look, look},
            page::{Walk, walk},
            reader::{Onlooker, Reader},
            token::SyncToken,
        },
    },
    store::{StoreError, View, events::Membership},
};

/// A room as JSON: its beginning, and the lists that follow if there is something to see of it. `messages` are in the order
/// in which they were sent, and behind them stands [`Room::BETWEEN`]; `state` is the last, and behind it [`Room::END`].
pub struct Room {
    pub head: Vec<u8>,
    pub lists: Option<(Listing, Listing)>,
}

/// All of a user's rooms, which are still to be read.
pub struct Rooms {
    onlooker: Onlooker,
    /// Messages of each.
    limit: usize,
    changes: vec::IntoIter<Change>,
    is_begun: bool,
}

#[derive(Serialize)]
struct Head<'a> {
    room_id: OwnedRoomId,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<Raw<IgnoredAny>>,
    visibility: &'a str,
    account_data: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Messages {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    end: String,
}

impl Room {
    pub const BETWEEN: &'static str = "]},\"state\":[";
    pub const END: &'static str = "]}";
}

/// One room, as a user may see it: also one that they left, or that the world may read.
///
/// # Errors
/// They may not see it.
pub async fn room(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    limit: usize,
) -> Result<Room, ReadError> {
    let user = onlooker.user;
    look(app, onlooker, room_id, move |look| {
        let stay = look.view.stay(user, look.room())?.filter(|stay| !stay.forgotten);
        Ok(snapshot(look, user, stay.map(|stay| stay.membership), limit)?)
    })
    .await
}

/// All of a user's rooms, those that they left as well if `archived`, and what stands before them.
///
/// # Errors
/// The store failed.
pub async fn all(
    app: &App,
    onlooker: Onlooker,
    archived: bool,
    limit: usize,
) -> Result<(Vec<u8>, Rooms), StoreError> {
    #[derive(Serialize)]
    struct Start {
        end: String,
        presence: Vec<Box<RawValue>>,
        account_data: Vec<Box<RawValue>>,
    }
    let mut filter = FilterDefinition::default();
    filter.room.include_leave = archived;
    let query = Query {
        onlooker,
        since: None,
        to_device: Position::default(),
        heard: None,
        lost: false,
        filter,
        full_state: false,
        state: StateAs::After,
    };
    let unlogged = Unlogged::of(app, &query);
    let read = move |view: &View<'_>| {
        let user = query.onlooker.user;
        let Plan { mut changes, company, .. } = plan(view, &query, &Default::default(), false)?;
        let (ignored, permission) = (ignored(view, user)?, InvitePermission::of(view, user)?);
        let mut wanted = Vec::with_capacity(changes.len());
        for change in changes.drain(..) {
            if let Kind::Pending(stay) = change.kind {
                // Who knocks is in none of these rooms yet.
                if stay.membership != Membership::Invite {
                    continue;
                }
                let sender = view.user_id(view.header(change.access.room, stay.event)?.sender)?;
                if ignored.contains(&sender) || permission.hides(&sender) {
                    continue;
                }
            }
            wanted.push(change);
        }
        let mut global = account_data(view, user, Position::default())?.remove(&None).unwrap_or_default();
        add_push_rules(view, &query.onlooker, &mut global)?;
        let presence = presence::tell(view, &query, &unlogged.presence, (&company, &[]), &ignored)?;
        let start = Start {
            end: SyncToken::at(view.position()).to_string(),
            presence: presence.events,
            account_data: global.into_iter().map(Data::write).collect(),
        };
        let mut json = text(&start);
        json.pop();
        json.extend_from_slice(b",\"rooms\":[");
        let changes = wanted.into_iter();
        Ok::<_, StoreError>((json, Rooms { onlooker: query.onlooker, limit, changes, is_begun: false }))
    };
    app.store.read(read).await
}

impl Rooms {
    /// The next room, behind a comma if it is not the first; none at the end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self, app: &App) -> Result<Option<Room>, StoreError> {
        let Some(change) = self.changes.next() else { return Ok(None) };
        let (onlooker, limit) = (self.onlooker.clone(), self.limit);
        let read = move |view: &View<'_>| {
            let Change { access, kind } = &change;
            let graph = view.graph(access.room);
            let reader = Reader::new(view, &graph, access, &onlooker);
            let mut look = Look { view, access, reader };
            match kind {
                Kind::Pending(stay) => {
                    let event = look.reader.own_membership(stay.event)?;
                    let invite = event.map(|event| look.reader.write(&event)).transpose()?;
                    let head = Head { invite, ..Head::of(&look, onlooker.user, Some(stay.membership))? };
                    Ok(Room { head: text(&head), lists: None })
                }
                Kind::Joined { .. } => snapshot(&mut look, onlooker.user, Some(Membership::Join), limit),
                Kind::Left { .. } => {
                    let stay = view.stay(onlooker.user, access.room)?;
                    snapshot(&mut look, onlooker.user, stay.map(|stay| stay.membership), limit)
                }
            }
        };
        let mut room: Room = app.store.read(read).await?;
        if mem::replace(&mut self.is_begun, true) {
            room.head.insert(0, b',');
        }
        Ok(Some(room))
    }

    /// About how many bytes it holds of what is still to be read.
    pub fn held(&self) -> usize {
        self.changes.len() * size_of::<Change>()
    }
}

/// A room as it stands for a user: as it stood when they left it, if they did.
fn snapshot(
    look: &mut Look<'_>,
    user: UserNumber,
    membership: Option<Membership>,
    limit: usize,
) -> Result<Room, StoreError> {
    let limit = limit.min(limits::PAGE_EVENTS);
    let steps = Walk { direction: Direction::Backward, from: None, to: None, limit, stops: true };
    let mut page = walk(look.view, look.access, &mut look.reader, &RoomEventFilter::default(), steps)?;
    page.events.reverse();
    let messages = Messages { start: page.end.map(|start| start.to_string()), end: page.start.to_string() };
    let mut head = text(&Head::of(look, user, membership)?);
    head.pop();
    head.extend_from_slice(b",\"messages\":");
    head.append(&mut text(&messages));
    head.pop();
    head.extend_from_slice(b",\"chunk\":[");
    let events: Vec<_> = page.events.into_iter().map(|(_, event)| event).collect();
    let events = Listing::of(look, Source::Events(events.into_iter()))?;
    let state = match look.reader.state(look.access.until())? {
        None => Listing::default(),
        Some((root, right)) => {
            Listing::of(look, Source::State { right, root, after: None, wanted: Wanted::All })?
        }
    };
    Ok(Room { head, lists: Some((events, state)) })
}

impl Head<'_> {
    fn of(look: &Look<'_>, user: UserNumber, membership: Option<Membership>) -> Result<Self, StoreError> {
        let room_id = look.view.room_id(look.room())?;
        let data = look.view.account_data_of_room(user, room_id.as_str())?;
        let data = data.into_iter().map(|data| Ok(Data::of(data)?.write()));
        Ok(Self {
            membership: membership.map(name),
            invite: None,
            visibility: if look.view.is_published(look.room())? { "public" } else { "private" },
            account_data: data.collect::<Result<_, StoreError>>()?,
            room_id,
        })
    }
}

fn name(membership: Membership) -> &'static str {
    match membership {
        Membership::Invite => "invite",
        Membership::Join => "join",
        Membership::Knock => "knock",
        Membership::Leave => "leave",
        Membership::Ban => "ban",
    }
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what an answer is made of has a JSON text")
}
