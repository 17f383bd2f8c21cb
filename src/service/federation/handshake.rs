//! How users of other servers come and go through this one: it makes them an event, which their server signs, and takes it
//! back.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>,
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>,
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId,
    ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;

use super::{
    access::{PeerError, reach},
    policy, receive,
    state::{self, Joined, Past},
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber, StateRoot},
        json::Object,
    },
    room::{
        build::{BuildError, Draft, build},
        format::STRIPPED_STATE,
        graph::State,
        members::{membership, membership_set},
        pdu::Pdu,
        receive::Dropped,
        sign::CheckedEvent,
        version::Version,
    },
    service::{
        App,
        write::{
            append::tip,
            ingest::{IngestError, Ingested, countersign},
            restricted::{Restriction, restriction},
        },
    },
    store::{
        StoreError, View,
        events::{Membership, Standing},
    },
};

/// What a user of another server wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Join,
    Knock,
    Leave,
}

/// Why a user of another server neither comes nor goes.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It is not the asking server's own user.
    #[error("the user is not of the asking server")]
    Foreign,
    #[error("the asking server does not support version {0}")]
    Version(RoomVersionId),
    /// <https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms>
    #[error("this server can't tell whether the user meets a condition")]
    Unknown,
    #[error("nobody here can vouch for the user")]
    Unvouched,
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Dropped(#[from] Dropped),
    #[error("{0}")]
    Internal(String),
}

/// An event that the asking server may sign.
#[derive(Debug)]
pub struct Template {
    pub version: Version,
    pub event: String,
}

/// An event that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub room: RoomNumber,
    pub number: EventNumber,
    /// As it is now, with this server's signature.
    pub event: String,
}

/// Makes an event by which a user of a server would come or go.
///
/// # Errors
/// The user may not, or not through this server.
pub async fn template(
    app: &App,
    server: OwnedServerName,
    wish: Wish,
    (room_id, user_id): (OwnedRoomId, OwnedUserId),
    versions: Option<Vec<RoomVersionId>>,
) -> Result<Template, HandshakeError> {
    if user_id.server_name() != server {
        return Err(HandshakeError::Foreign);
    }
    let shared = app.clone();
    let read = move |view: &View<'_>| {
        let own = &*shared.server_name;
        let (room, record) = reach(view, &room_id, (own, &server))?;
        let version = record.version;
        if versions.is_some_and(|versions| !versions.contains(version.id())) {
            return Err(HandshakeError::Version(version.id().clone()));
        }
        let mut content = CanonicalJsonObject::new();
        content.insert("membership".to_owned(), wish.membership().as_str().into());
        if let Some(voucher) = vouched(view, room, (&user_id, wish), own)? {
            content.insert("join_authorised_via_users_server".to_owned(), voucher.as_str().into());
        }
        let draft = Draft {
            kind: TimelineEventType::RoomMember,
            state_key: Some(user_id.to_string()),
            content: content.into(),
            redacts: None,
        };
        let (tip, graph) = (tip(view, room)?, view.graph(room));
        let pdu = build(draft, user_id, shared.clock.now().into(), &tip, &graph)?;
        let checked = CheckedEvent::check(pdu, &tip.state, &graph, version)?
            .map_err(|denied| HandshakeError::Denied(denied.reason))?;
        let mut object = checked.pdu().object();
        // What its server makes of it has another hash, and in the first versions another name.
        object.edit(|fields| fields.retain(|field, _| field != "hashes" && field != "event_id"));
        Ok(Template { version, event: object.text() })
    };
    app.store.read(read).await
}

/// Takes an event by which a user of a server comes or goes.
///
/// # Errors
/// It is not what it should be, or may not be.
pub async fn take(
    app: &App,
    server: OwnedServerName,
    wish: Wish,
    names: (OwnedRoomId, OwnedEventId),
    object: Object,
) -> Result<Taken, HandshakeError> {
    let offer = offered(app, &server, wish, names, object).await?;
    accept(app, wish, offer).await
}

/// Takes an event by which a user of a server joins, and tells what that one needs to take part; without members if it can
/// do without. That is gathered before, so that nobody is in a room whose server can't be.
///
/// # Errors
/// The event is not what it should be, or may not be, or too much would have to be told.
pub async fn join(
    app: &App,
    server: OwnedServerName,
    names: (OwnedRoomId, OwnedEventId),
    object: Object,
    without_members: bool,
) -> Result<(Taken, Joined), HandshakeError> {
    let offer = offered(app, &server, Wish::Join, names, object).await?;
    let (room, joining) = (offer.room, offer.user.clone());
    let mut past =
        Past { room, version: offer.version, root: offer.state, permissions: offer.permissions.clone() };
    let mut joined = state::joined(app, &server, &past, &joining, without_members).await?;
    let taken = accept(app, Wish::Join, offer).await?;
    let number = taken.number;
    let read = move |view: &View<'_>| view.header(room, number);
    let header = app.store.read(read).await?;
    // It may follow others than the newest.
    let root = header.state_before.ok_or(PeerError::UnknownEvent)?;
    if (root, &header.auth_events) != (past.root, &past.permissions) {
        (past.root, past.permissions) = (root, header.auth_events);
        joined = state::joined(app, &server, &past, &joining, without_members).await?;
    }
    Ok((taken, joined))
}

/// An event that is what it says it is to be, as far as it tells itself.
struct Offer {
    names: (OwnedRoomId, OwnedEventId),
    object: Object,
    user: OwnedUserId,
    /// Whether it says that somebody of this server vouches for the user.
    is_vouched: bool,
    version: Version,
    room: RoomNumber,
    /// The room's state now.
    state: StateRoot,
    /// Those of its `auth_events` that are known.
    permissions: Vec<EventNumber>,
}

async fn offered(
    app: &App,
    server: &ServerName,
    wish: Wish,
    names: (OwnedRoomId, OwnedEventId),
    object: Object,
) -> Result<Offer, HandshakeError> {
    let (shared, server) = (app.clone(), server.to_owned());
    let read = move |view: &View<'_>| {
        let own = &*shared.server_name;
        let (room_id, event_id) = &names;
        let (room, record) = reach(view, room_id, (own, &server))?;
        let pdu = Pdu::parse(&object, record.version).map_err(Dropped::from)?;
        if pdu.room_id() != *room_id {
            return Err(HandshakeError::Invalid("It is of another room"));
        }
        check(&pdu, &server, wish, event_id)?;
        let known = pdu.auth_events().iter().filter_map(|id| view.event_number(room, id).transpose());
        let permissions = known.collect::<Result<_, StoreError>>()?;
        let (user, is_vouched) = (pdu.sender().to_owned(), claims_voucher_of(&pdu, own));
        let (version, state) = (record.version, record.state);
        Ok(Offer { names, object, user, is_vouched, version, room, state, permissions })
    };
    app.store.read(read).await
}

async fn accept(app: &App, wish: Wish, offer: Offer) -> Result<Taken, HandshakeError> {
    let Offer { names: (room_id, event_id), mut object, user, is_vouched, version, .. } = offer;
    let keys = receive::keys(app, &object, version).await?;
    policy::ask_about(app, &room_id, &mut object).await?;
    let (own, joining) = (app.server_name.clone(), user.clone());
    let vouch = move |view: &View<'_>, room| match is_vouched {
        // What stands in the event is vouched for by this server's signature.
        true => vouched(view, room, (&*joining, wish), &own).map(|_| ()),
        false => Ok(()),
    };
    match countersign(app, room_id.clone(), object, keys, vouch).await? {
        Ingested::As(Standing::Live) => {}
        Ingested::As(_) => return Err(HandshakeError::Denied("The event was refused before".to_owned())),
        Ingested::Refused(denied) => return Err(HandshakeError::Denied(denied.reason)),
        Ingested::Needs(_) => {
            return Err(HandshakeError::Invalid("It follows events that are not known here"));
        }
        Ingested::Dropped(dropped) => return Err(dropped.into()),
    }
    let read = move |view: &View<'_>| {
        let room = view.room_number(&room_id)?.ok_or(PeerError::UnknownRoom)?;
        let number = view.event_number(room, &event_id)?.ok_or(PeerError::UnknownEvent)?;
        // Who sends an event again is told of the room what the user may know now, not then.
        let stay = view.user_number(&user)?.map(|user| view.stay(user, room)).transpose()?.flatten();
        if stay.is_none_or(|stay| (stay.event, stay.membership) != (number, wish.stored())) {
            return Err(HandshakeError::Denied("What the user is to the room says another event".to_owned()));
        }
        let event = view.event(room, number)?.shown(view.room(room)?.version).json().to_owned();
        Ok(Taken { room, number, event })
    };
    app.store.read(read).await
}

/// The events that tell somebody who knocked what the room is.
///
/// # Errors
/// The store failed.
pub async fn shown(app: &App, taken: &Taken) -> Result<Vec<String>, StoreError> {
    let Taken { room, .. } = *taken;
    let read = move |view: &View<'_>| {
        let record = view.room(room)?;
        let mut events = Vec::new();
        for kind in STRIPPED_STATE {
            if let Some(number) = view.state_event(room, record.state, kind, "")? {
                events.push(view.event(room, number)?.shown(record.version).json().to_owned());
            }
        }
        Ok(events)
    };
    app.store.read(read).await
}

impl Wish {
    fn membership(self) -> MembershipState {
        match self {
            Self::Join => MembershipState::Join,
            Self::Knock => MembershipState::Knock,
            Self::Leave => MembershipState::Leave,
        }
    }

    fn stored(self) -> Membership {
        match self {
            Self::Join => Membership::Join,
            Self::Knock => Membership::Knock,
            Self::Leave => Membership::Leave,
        }
    }
}

/// Who vouches for a user; none where nobody has to, since they were invited or no condition bars them.
fn vouched(
    view: &View<'_>,
    room: RoomNumber,
    (user, wish): (&UserId, Wish),
    own: &ServerName,
) -> Result<Option<OwnedUserId>, HandshakeError> {
    if wish != Wish::Join {
        return Ok(None);
    }
    let current = State::stored(view.room(room)?.state);
    let now = membership(user, &current, &view.graph(room))?;
    if matches!(now, MembershipState::Join | MembershipState::Invite | MembershipState::Ban) {
        return Ok(None);
    }
    match restriction(view, room, user, own)? {
        Restriction::None => Ok(None),
        Restriction::Vouched(member) => Ok(Some(member)),
        Restriction::Unvouched => Err(HandshakeError::Unvouched),
        Restriction::Unknown => Err(HandshakeError::Unknown),
        Restriction::Unmet => Err(HandshakeError::Denied("You meet no condition of this room".to_owned())),
    }
}

fn claims_voucher_of(pdu: &Pdu, server: &ServerName) -> bool {
    #[derive(Deserialize)]
    struct Content {
        join_authorised_via_users_server: OwnedUserId,
    }
    pdu.content_as::<Content>()
        .is_some_and(|content| content.join_authorised_via_users_server.server_name() == server)
}

fn check(pdu: &Pdu, server: &ServerName, wish: Wish, event_id: &EventId) -> Result<(), HandshakeError> {
    // An id that is a hash names no server.
    let is_named_by_it = event_id.server_name().is_none_or(|named| named == server);
    let right = [
        (pdu.event_id() == event_id, "It has another id"),
        (is_named_by_it, "Another server would have to name it"),
        (*pdu.kind() == TimelineEventType::RoomMember, "It is no membership"),
        (membership_set(pdu) == Some(wish.membership()), "It is another membership"),
        (pdu.sender().server_name() == server, "It is not of your user"),
        (pdu.state_key() == Some(pdu.sender().as_str()), "It is not the user's own"),
    ];
    right.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(HandshakeError::Invalid(what)))
}

impl From<StoreError> for HandshakeError {
    fn from(error: StoreError) -> Self {
        Self::Peer(error.into())
    }
}

impl From<BuildError<StoreError>> for HandshakeError {
    fn from(error: BuildError<StoreError>) -> Self {
        match error {
            BuildError::Graph(error) => error.into(),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<IngestError> for HandshakeError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::UnknownRoom => PeerError::UnknownRoom.into(),
            IngestError::Unresolvable(reason) => Self::Internal(reason),
            error @ IngestError::Withdrawn => Self::Internal(error.to_string()),
            IngestError::Store(error) => error.into(),
        }
    }
}
