//! Spaces, told as trees of rooms to those who may come in; and single rooms, told in the same way.
//! <https://spec.matrix.org/v1.19/client-server-api/#discovering-rooms-within-spaces>
//!
//! A tree is walked depth first, each room of it once, so that loops end. What is still to be walked behind a page is kept
//! in memory for as long as somebody may come back for it.

mod federated;
mod remote;
mod room;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, events::room::member::MembershipState};
use serde_json::{Map, Value, value::RawValue};

pub use self::federated::told;
use self::{
    remote::{Answers, Budget},
    room::Room,
};
use super::{
    App, aliases,
    federation::{joining, queries},
    sessions::Session,
};
use crate::{
    base::{clock::Clock, expiring::Expiring, ids::UserNumber, limits, ordered::Ordered},
    store::{StoreError, View},
};

/// Walks that may go on, and what other servers told.
pub(super) struct Spaces {
    walks: Expiring<Arc<Walk>>,
    answers: Answers,
}

/// Why a room isn't told.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("there is no such room, or the user may not know of it")]
    Forbidden,
    #[error("the token is none of this server's, or was for another request")]
    Token,
    #[error(transparent)]
    Query(#[from] queries::QueryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What of a space is wanted. But for the limit, a token is good for the same only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub room_id: OwnedRoomId,
    pub suggested_only: bool,
    /// How many steps from the space.
    pub max_depth: Option<u64>,
}

/// A part of a tree.
#[derive(Debug)]
pub struct Page {
    pub rooms: Vec<Value>,
    /// Where to go on.
    pub next: Option<String>,
}

/// A walk that has got somewhere.
#[derive(Clone)]
struct Walk {
    user: UserNumber,
    wanted: Wanted,
    /// Rooms that are still to be seen, the next one last.
    steps: Vec<Step>,
    /// Rooms that were, or will be.
    met: BTreeSet<OwnedRoomId>,
    /// How much is kept of what servers told of the steps' rooms, in bytes.
    told_bytes: usize,
}

/// A room on the way.
#[derive(Clone)]
struct Step {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
    /// What the server said of it that told the space.
    told: Option<Arc<RawValue>>,
}

/// What is seen of a room.
struct Seen {
    room: Room,
    /// What was said of its children.
    children: HashMap<OwnedRoomId, Box<RawValue>>,
    /// Children that there is no way to.
    inaccessible: BTreeSet<OwnedRoomId>,
}

impl Spaces {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            walks: Expiring::new(limits::SPACE_WALKS, limits::SPACE_WALK_LIFETIME),
            answers: Answers::new(limits::SPACE_ANSWERS, clock),
        }
    }
}

/// Tells a part of a space: from its beginning, or from where a token goes on.
///
/// # Errors
/// The user may not know of the space, or the token is for something else.
pub async fn page(
    app: &App,
    user: &Session,
    wanted: Wanted,
    from: Option<String>,
    limit: Option<usize>,
) -> Result<Page, SpaceError> {
    let limit = limit.unwrap_or(limits::SPACE_PAGE).clamp(1, limits::SPACE_PAGE);
    let mut walk = match &from {
        None => Walk::begin(user.number, wanted),
        Some(token) => {
            let walk = app.spaces.walks.get(token, app.clock.now()).ok_or(SpaceError::Token)?;
            let is_same = walk.user == user.number && walk.wanted == wanted;
            Arc::unwrap_or_clone(Some(walk).filter(|_| is_same).ok_or(SpaceError::Token)?)
        }
    };
    let (mut budget, mut rooms, mut bytes) = (Budget::new(app), Vec::new(), 0);
    while rooms.len() < limit
        && bytes < limits::SPACE_PAGE_BYTES
        && budget.is_enough(app)
        && let Some(step) = walk.steps.pop()
    {
        let depth = step.depth;
        let seen = see(app, user, &mut budget, step, walk.wanted.suggested_only).await?;
        let Some(mut seen) = seen else {
            if depth == 0 {
                return Err(SpaceError::Forbidden);
            }
            continue;
        };
        walk.go_into(&mut seen, depth);
        let room = seen.room.with_children();
        bytes += room.to_string().len();
        rooms.push(room);
    }
    let next = (!walk.steps.is_empty()).then(|| {
        let token = app.rng.text(24, b"abcdefghijklmnopqrstuvwxyz");
        app.spaces.walks.insert(user.number, token.clone(), Arc::new(walk), app.clock.now());
        token
    });
    Ok(Page { rooms, next })
}

impl Walk {
    fn begin(user: UserNumber, wanted: Wanted) -> Self {
        let room_id = wanted.room_id.clone();
        let met = BTreeSet::from([room_id.clone()]);
        let steps = vec![Step { room_id, via: Vec::new(), depth: 0, told: None }];
        Self { user, wanted, steps, met, told_bytes: 0 }
    }

    /// Takes the way through a room's children, as far as they are new.
    fn go_into(&mut self, seen: &mut Seen, depth: u64) {
        if self.wanted.max_depth.is_some_and(|max| depth >= max) {
            return;
        }
        let begin = self.steps.len();
        for child in &seen.room.children {
            let is_new = !seen.inaccessible.contains(&child.room_id)
                && self.met.len() < limits::SPACE_ROOMS
                && self.met.insert(child.room_id.clone());
            if !is_new {
                continue;
            }
            let told = seen.children.remove(&child.room_id);
            let told = told.filter(|told| self.told_bytes + told.get().len() <= limits::SPACE_TOLD_BYTES);
            self.told_bytes += told.as_ref().map_or(0, |told| told.get().len());
            let (room_id, via) = (child.room_id.clone(), child.via.clone());
            self.steps.push(Step { room_id, via, depth: depth + 1, told: told.map(Arc::from) });
        }
        self.steps[begin..].reverse();
    }
}

/// Looks at a room: as this server knows it if it is in it, else as others tell it. None: the user may not know of it, or
/// nobody tells.
async fn see(
    app: &App,
    user: &Session,
    budget: &mut Budget,
    step: Step,
    suggested_only: bool,
) -> Result<Option<Seen>, StoreError> {
    let Step { room_id, via, told, .. } = step;
    let (own, user_id, number, id) =
        (app.server_name.clone(), user.user_id.clone(), user.number, room_id.clone());
    let look = move |view: &View<'_>| match view.room_number(&id)? {
        Some(room) if view.is_server_joined(room, &own)? => {
            let room = Room::known_space(view, room, &view.room(room)?, suggested_only)?;
            Ok::<_, StoreError>(Ok(room.is_open_to(view, number)?.then_some(room)))
        }
        _ => Ok(Err(joining::candidates(view, (&own, &id), &user_id, &via)?)),
    };
    let servers = match app.store.read(look).await? {
        Ok(room) => return Ok(room.map(Seen::of)),
        Err(servers) => servers,
    };
    let told = told.and_then(|told| Room::told(told.get(), suggested_only));
    let seen = match told {
        // What its space's server says of a room that is none is all that there is to say.
        Some(room) if !room.is_space() => Seen::of(room),
        told => match remote::room(app, budget, servers, &room_id, suggested_only).await {
            Some(answer) => Seen {
                room: answer.room,
                children: answer.children.into_iter().collect(),
                inaccessible: answer.inaccessible.into_iter().into_set(),
            },
            None => match told {
                Some(room) => Seen::of(room),
                None => return Ok(None),
            },
        },
    };
    let look =
        move |view: &View<'_>| Ok::<_, StoreError>(seen.room.is_open_to(view, number)?.then_some(seen));
    app.store.read(look).await
}

impl Seen {
    fn of(room: Room) -> Self {
        Self { room, children: HashMap::new(), inaccessible: BTreeSet::new() }
    }
}

/// Tells one room, by its id or an alias, and what the user is to it.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>
///
/// # Errors
/// There is no such room, or the user may not know of it.
pub async fn summary(
    app: &App,
    user: &Session,
    name: OwnedRoomOrAliasId,
    mut via: Vec<OwnedServerName>,
) -> Result<Map<String, Value>, SpaceError> {
    let room_id = match OwnedRoomId::try_from(name) {
        Ok(room_id) => room_id,
        Err(alias) if alias.server_name() == app.server_name => {
            aliases::find(app, alias).await?.ok_or(SpaceError::Forbidden)?
        }
        Err(alias) => {
            let (room_id, servers) = queries::alias(app, alias).await?;
            via.extend(servers);
            room_id
        }
    };
    let step = Step { room_id: room_id.clone(), via, depth: 0, told: None };
    let seen = see(app, user, &mut Budget::new(app), step, false).await?;
    let mut summary = seen.ok_or(SpaceError::Forbidden)?.room.summary;
    let number = user.number;
    let stay = move |view: &View<'_>| match view.room_number(&room_id)? {
        Some(room) => Ok::<_, StoreError>(view.stay(number, room)?),
        None => Ok(None),
    };
    let membership = app.store.read(stay).await?.map(|stay| stay.membership.into());
    let membership = membership.unwrap_or(MembershipState::Leave);
    summary.insert("membership".to_owned(), membership.as_str().into());
    Ok(summary)
}
