//! Invitations from one server's user to another's: both servers sign them.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::collections::BTreeSet;

use http::StatusCode;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::task::JoinSet;

use super::{
    access::{PeerError, admitted},
    ask::{AskError, ask, call, older, sent},
    joining::{BRIEF, Elsewhere, Failure, Shown, shown},
    pdus::raw,
    policy, receive,
};
use crate::{
    base::{
        ids::{RoomNumber, StateRoot},
        json::Object,
        limits,
    },
    room::{
        build::{Draft, build},
        format::STRIPPED_STATE,
        pdu::Pdu,
        sign::{CheckedEvent, sign},
        stranger::{Invitation, Unsigned, checked_countersignature, countersigned, invited},
        version::Version,
    },
    service::{
        App,
        delayed::Delay,
        invite_permission::{Blocked, refused},
        write::{
            append::{WriteError, tip},
            ingest::{IngestError, Ingested, append_signed},
            send::tidied,
        },
    },
    store::{OutOfBand, StoreError, Transaction, View, events::Standing},
};

/// Why an invitation from another server is not taken.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("this server has no room version {0}")]
    Version(RoomVersionId),
    #[error("{0}")]
    Invalid(String),
    /// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
    #[error("the room is not shown with its create event")]
    NoCreate,
    #[error("there is no such user here")]
    Nobody,
    #[error("the user blocks invitations")]
    Blocked(Blocked),
    #[error("the user has too many invitations")]
    TooMany,
}

/// An invitation as another server brings it.
#[derive(Debug)]
pub struct Brought {
    pub room_id: OwnedRoomId,
    pub event_id: OwnedEventId,
    pub version: RoomVersionId,
    pub event: Object,
    /// What shows the user the room.
    pub shown: Vec<RawStrippedState>,
}

/// Takes an invitation of a user of this server, and gives it with this server's signature.
///
/// # Errors
/// It is none, or none that this server or the user wants.
pub async fn receive(app: &App, by: OwnedServerName, brought: Brought) -> Result<String, InviteError> {
    let Brought { room_id, event_id, version, event, shown: list } = brought;
    let version = Version::of(&version).ok_or(InviteError::Version(version))?;
    let keys = receive::keys(app, &event, version).await?;
    let signer = app.signer();
    let invitation = Invitation { room_id: &room_id, event_id: &event_id, by: &by, to: signer.server_name };
    let checked = invited(event, &invitation, &keys, version)?;
    let user = checked.pdu().state_key().and_then(|key| OwnedUserId::try_from(key).ok());
    let user = user.ok_or(InviteError::Nobody)?;

    let inviter = checked.pdu().sender().to_owned();
    let (own, id, server) = (app.server_name.clone(), room_id.clone(), by.clone());
    let read = move |view: &View<'_>| wanted(view, &own, (&id, version), (&by, &inviter, &user));
    let is_in = app.store.read(read).await?;
    let pdu = sign(checked, signer.server_name, signer.key).map_err(Unsigned::from)?;
    let event = pdu.json().to_owned();
    if !is_in {
        let told = shown(app, server.clone(), (&room_id, version), Shown::of(list)?).await?;
        if version.room_id_is_hash() {
            if !told.has_create {
                return Err(InviteError::NoCreate);
            }
            if !told.is_sound {
                return Err(InviteError::Invalid("it is not shown by signed events of the room".to_owned()));
            }
        } else if !told.has_create || !told.is_sound {
            tracing::debug!(%room_id, "an invitation is not shown as the specification has it");
        }
        keep(app, (room_id, version), pdu, OutOfBand { server: Some(server.into()), state: told.json })
            .await?;
    }
    Ok(event)
}

/// Whether this server is in the room; nothing else if it or the user wants no such invitation.
fn wanted(
    view: &View<'_>,
    own: &ServerName,
    (room_id, version): (&OwnedRoomId, Version),
    (by, inviter, user): (&ServerName, &UserId, &UserId),
) -> Result<bool, InviteError> {
    let account = view.account(user.localpart())?.filter(|account| account.deactivated_at.is_none());
    if account.is_none() {
        return Err(InviteError::Nobody);
    }
    if let Some(blocked) = refused(view, user, inviter)? {
        return Err(InviteError::Blocked(blocked));
    }
    if let Some(room) = view.room_number(room_id)? {
        let record = view.room(room)?;
        // Whoever brings it in the first way does not say which of the first versions it is.
        let is_alike =
            record.version == version || !record.version.event_id_is_hash() && !version.event_id_is_hash();
        // Of a room that was never entered the version is hearsay.
        if !is_alike && record.state != StateRoot::EMPTY {
            return Err(InviteError::Invalid("the room is of another version".to_owned()));
        }
        if view.is_server_joined(room, own)? {
            admitted(view, room, by)?;
            return Ok(true);
        }
    }
    let number = view.user_number(user)?;
    let pending = number.map_or(Ok(0), |user| view.count_out_of_band(user))?;
    if pending >= limits::OUT_OF_BAND { Err(InviteError::TooMany) } else { Ok(false) }
}

async fn keep(
    app: &App,
    (room_id, version): (OwnedRoomId, Version),
    pdu: Pdu,
    told: OutOfBand,
) -> Result<(), StoreError> {
    let own = app.server_name.clone();
    let job = move |transaction: &mut Transaction<'_>| {
        let room = transaction.hear_of_room(&room_id, version)?;
        // Once it is in the room, the invitation comes as all events do.
        match transaction.is_server_joined(room, &own)? {
            true => Ok(()),
            false => transaction.put_out_of_band(room, &pdu, &told),
        }
    };
    app.store.write(job).await
}

/// Invites a user of another server: their server signs the invitation, too. `delay` is one that ends with it.
///
/// # Errors
/// The room's rules forbid it, or that server does or can't be asked, or somebody ended the delay meanwhile.
pub async fn invite(
    app: &App,
    sender: OwnedUserId,
    room_id: OwnedRoomId,
    draft: Draft,
    delay: Option<Delay>,
) -> Result<OwnedEventId, WriteError> {
    let draft = tidied(draft)?;
    let invited = draft.invited().ok_or_else(|| WriteError::Content("it is no invitation".to_owned()))?;
    let (shared, id, put_off) = (app.clone(), room_id.clone(), delay.clone());
    let made = app.store.read(move |view| {
        if let Some(delay) = put_off
            && !delay.is_due(view)?
        {
            return Err(WriteError::Withdrawn);
        }
        let room = view.room_number(&id)?.ok_or(WriteError::UnknownRoom)?;
        make(view, &shared, room, sender, draft)
    });
    let (pdu, shown, version) = made.await?;
    let pdu = policy::sign(app, &room_id, pdu).await?;
    let theirs = countersign(app, invited.server_name(), (&pdu, version), shown).await;
    let event = theirs.map_err(|failure| match failure {
        Failure::Store(error) => WriteError::Store(error),
        failure => {
            tracing::info!(%failure, server = %invited.server_name(), "an invitation is not taken");
            WriteError::Elsewhere(Elsewhere::of(failure))
        }
    })?;
    let event_id = event.event_id().to_owned();
    match append_signed(app, room_id, event, delay).await {
        Ok(Ingested::As(Standing::Live)) => Ok(event_id),
        Err(IngestError::Withdrawn) => Err(WriteError::Withdrawn),
        Ok(Ingested::Refused(denied)) => Err(denied.into()),
        Ok(_) => Err(WriteError::Elsewhere(Elsewhere::Failed("the room moved on".to_owned()))),
        Err(error) => Err(WriteError::Elsewhere(Elsewhere::Failed(error.to_string()))),
    }
}

/// Invites several, at once. Whoever can't be is left out.
pub async fn invite_all(app: &App, sender: OwnedUserId, room_id: OwnedRoomId, drafts: Vec<Draft>) {
    let (mut drafts, mut inviting) = (drafts.into_iter(), JoinSet::new());
    loop {
        while inviting.len() < limits::OUTGOING_PER_PEER
            && let Some(draft) = drafts.next()
        {
            let (app, sender, room_id) = (app.clone(), sender.clone(), room_id.clone());
            inviting.spawn(async move { Box::pin(invite(&app, sender, room_id, draft, None)).await });
        }
        match inviting.join_next().await {
            Some(Ok(Err(error))) => tracing::info!(%error, "somebody is not invited to a new room"),
            Some(_) => {}
            None => break,
        }
    }
}

/// An invitation by the room as it is now, with events that show the room.
fn make(
    view: &View<'_>,
    app: &App,
    room: RoomNumber,
    sender: OwnedUserId,
    draft: Draft,
) -> Result<(Pdu, Vec<RawStrippedState>, Version), WriteError> {
    let (tip, graph, signer) = (tip(view, room)?, view.graph(room), app.signer());
    let member = [("m.room.member", sender.to_string())];
    let pdu = build(draft, sender, app.clock.now().into(), &tip, &graph)?;
    let checked = CheckedEvent::check(pdu, &tip.state, &graph, tip.version)??;
    let pdu = sign(checked, signer.server_name, signer.key)?;
    let mut shown = Vec::new();
    for (kind, key) in STRIPPED_STATE.map(|kind| (kind, String::new())).into_iter().chain(member) {
        if let Some(number) = view.state_event(room, tip.state.root, kind, &key)? {
            let event = view.event(room, number)?.shown(tip.version);
            shown.push(RawStrippedState::Pdu(raw(event.json().to_owned())));
        }
    }
    Ok((pdu, shown, tip.version))
}

/// Has a server sign an invitation of one of its users, and gives it so.
async fn countersign(
    app: &App,
    server: &ServerName,
    (pdu, version): (&Pdu, Version),
    shown: Vec<RawStrippedState>,
) -> Result<Pdu, Failure> {
    let (room_id, event_id) = (pdu.room_id().to_owned(), pdu.event_id().to_owned());
    let event = raw(pdu.json().to_owned());
    let request = create_invite::v2::Request::new(room_id, event_id, version.id().clone(), event, shown);
    let mut first = older(call(request.clone())?);
    let answered = match ask(app, server, request, BRIEF).await {
        Err(AskError::Refused { status, .. })
            if matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
                && !version.event_id_is_hash() =>
        {
            first.content = Some(first_form(first.content.as_deref().unwrap_or_default()));
            let body = sent(app, server, first, BRIEF).await?.into_body().collect().await?;
            let answer: (u16, Answer) =
                serde_json::from_slice(&body).map_err(|_| Failure::Answer("another form"))?;
            answer.1.event
        }
        other => other?.event,
    };
    let theirs =
        Object::parse(answered.get()).map_err(|_| Failure::Answer("an invitation that is no event"))?;
    let object = countersigned(pdu, theirs, server)?;
    let keys = receive::keys_of(app, &object, BTreeSet::from([server.to_owned()]), version).await?;
    Ok(checked_countersignature(&object, &keys, server, version)?)
}

#[derive(Deserialize)]
struct Answer {
    event: Box<RawValue>,
}

/// The body of a request of the second version as the first one has it.
fn first_form(body: &str) -> String {
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let mut event = body["event"].take();
    event["unsigned"] = json!({"invite_room_state": body["invite_room_state"].take()});
    event.to_string()
}

impl From<StoreError> for InviteError {
    fn from(error: StoreError) -> Self {
        Self::Peer(error.into())
    }
}

impl From<Unsigned> for InviteError {
    fn from(error: Unsigned) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<Failure> for InviteError {
    fn from(error: Failure) -> Self {
        match error {
            Failure::Store(error) => error.into(),
            error => Self::Invalid(error.to_string()),
        }
    }
}
