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
    receive,
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber},
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
    store::{StoreError, View, events::Standing},
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
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    object: Object,
) -> Result<Taken, HandshakeError> {
    let shared = app.clone();
    let (asked, id) = (room_id.clone(), event_id.clone());
    let read = move |view: &View<'_>| {
        let own = &*shared.server_name;
        let (room, record) = reach(view, &asked, (own, &server))?;
        let pdu = Pdu::parse(&object, record.version).map_err(Dropped::from)?;
        if pdu.room_id() != asked {
            return Err(HandshakeError::Invalid("It is of another room"));
        }
        check(&pdu, &server, wish, &id)?;
        // What stands in the event is vouched for by this server's signature.
        if claims_voucher_of(&pdu, own) {
            vouched(view, room, (pdu.sender(), wish), own)?;
        }
        Ok((record.version, object))
    };
    let (version, object) = app.store.read(read).await?;
    let keys = receive::keys(app, &object, version).await?;
    match countersign(app, room_id.clone(), object, keys).await? {
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
        let event = view.event(room, number)?.pdu.json().to_owned();
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
    let right = [
        (pdu.event_id() == event_id, "It has another id"),
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
            IngestError::Store(error) => error.into(),
        }
    }
}
