//! What users do to rooms: make them, speak in them, come and go.
//!
//! Each is one job of the writer, a few for a room that begins with much. An event from another server may hold them
//! up for a moment; nothing else does.

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
    events::room::member::MembershipState,
};

use super::{
    App,
    delayed::Delay,
    federation::{
        inviting,
        joining::{self, Outside, Who},
        policy,
    },
    presence,
    sessions::Session,
    write::{
        append::WriteError,
        create::{batches, begin, proceed},
        member::Profile,
        membership::{self, Action},
        plan::{NewRoom, plan},
        rehearsal::Rehearsal,
        send,
    },
};
use crate::{
    base::ids::RoomNumber,
    room::build::Draft,
    store::{
        Transaction,
        events::{Endpoint, TransactionIdentity},
    },
};

/// Makes a room and gives its id.
///
/// # Errors
/// One of the events with which the room is to begin may not stand, or the alias is taken; then there is no room.
pub async fn create(app: &App, creator: &Session, wanted: NewRoom) -> Result<OwnedRoomId, WriteError> {
    presence::act(app, creator.number);
    let user_id = creator.user_id.clone();
    let profile = app.store.read(move |view| Profile::of(view, &user_id)).await?;
    let (version, alias, published) = (wanted.version, wanted.alias.clone(), wanted.published);
    let is_remote = |draft: &Draft| draft.invited().is_some_and(|user| user.server_name() != app.server_name);
    let (elsewhere, drafts) =
        plan(wanted, &creator.user_id, &profile)?.into_iter().partition(|draft| is_remote(draft));
    let batches = batches(drafts);
    let room_id = new_id(app)?;
    // What one job writes is all or nothing anyway.
    if batches.len() > 1 {
        rehearse(app, &creator.user_id, Rehearsal::new(version, room_id.clone()), &batches).await?;
    }

    let mut batches = batches.into_iter();
    let first = batches.next().unwrap_or_default();
    let (shared, user_id) = (app.clone(), creator.user_id.clone());
    let begun = app.store.write(move |transaction| {
        let room = (version, room_id.clone());
        let room = begin(transaction, shared.signer(), &user_id, room, alias.as_deref(), first.clone())?;
        if published {
            transaction.set_published(room, true)?;
        }
        Ok::<_, WriteError>((room, transaction.room_id(room)?))
    });
    let (room, room_id) = begun.await?;
    for batch in batches {
        let (shared, user_id) = (app.clone(), creator.user_id.clone());
        let job = move |transaction: &mut Transaction<'_>| {
            proceed(transaction, shared.signer(), &user_id, room, batch.clone())
        };
        app.store.write(job).await?;
    }
    inviting::invite_all(app, creator.user_id.clone(), room_id.clone(), elsewhere).await;
    Ok(room_id)
}

/// Finds out whether all events of a new room may stand, a batch at a time, as none holds a view for long.
async fn rehearse(
    app: &App,
    creator: &UserId,
    mut rehearsal: Rehearsal,
    batches: &[Vec<Draft>],
) -> Result<(), WriteError> {
    for batch in batches {
        let (shared, creator, batch) = (app.clone(), creator.to_owned(), batch.clone());
        let played = app.store.read(move |view| {
            rehearsal.play(view, shared.signer(), (&creator, shared.clock.now()), batch)?;
            Ok::<_, WriteError>(rehearsal)
        });
        rehearsal = played.await?;
    }
    Ok(())
}

/// An id for a room of a version that does not derive it from the create event.
pub(super) fn new_id(app: &App) -> Result<OwnedRoomId, WriteError> {
    format!("!{}:{}", app.rng.text(18, ROOM_ID_LETTERS), app.server_name)
        .try_into()
        .map_err(|_| WriteError::Content("the server's name makes no room id".to_owned()))
}

/// Sends an event and gives its id. `request` is the endpoint and the transaction id that the client gave there.
pub async fn send(
    app: &App,
    sender: &Session,
    room_id: &RoomId,
    draft: Draft,
    request: Option<(Endpoint, String)>,
) -> Result<OwnedEventId, WriteError> {
    let request = request.map(|(endpoint, id)| TransactionIdentity { device: sender.device, endpoint, id });
    let user_id = sender.user_id.clone();
    presence::act(app, sender.number);
    deliver(app, user_id, room_id, draft, request, None).await
}

/// Sends an event of a user, who may do nothing just now. `delay` is one that ends with it.
pub(super) async fn deliver(
    app: &App,
    user_id: OwnedUserId,
    room_id: &RoomId,
    draft: Draft,
    request: Option<TransactionIdentity>,
    delay: Option<Delay>,
) -> Result<OwnedEventId, WriteError> {
    if draft.invited().is_some_and(|user| user.server_name() != app.server_name) {
        return inviting::invite(app, user_id, room_id.to_owned(), draft, delay).await;
    }
    in_room(app, room_id, move |transaction, app, room| {
        if let Some(delay) = &delay
            && !delay.is_due(transaction)?
        {
            return Err(WriteError::Withdrawn);
        }
        let event_id = send::send(transaction, app.signer(), room, &user_id, draft.clone(), request.clone())?;
        if let Some(delay) = &delay {
            transaction.end_delay(&delay.id, Some(event_id.as_str()), None)?;
        }
        Ok(event_id)
    })
    .await
}

/// Changes a membership, the user's own or another's; `reason` goes with it.
pub async fn act(
    app: &App,
    actor: &Session,
    room_id: &RoomId,
    action: Action,
    reason: Option<String>,
) -> Result<(), WriteError> {
    if matches!(action, Action::Join | Action::Knock | Action::Leave) {
        return enter(app, actor, room_id, action, reason, Vec::new()).await;
    }
    let user_id = actor.user_id.clone();
    presence::act(app, actor.number);
    if let Action::Invite(user) = &action
        && user.server_name() != app.server_name
    {
        let draft = membership::invitation(user, reason.as_deref());
        inviting::invite(app, user_id, room_id.to_owned(), draft, None).await?;
        return Ok(());
    }
    in_room(app, room_id, move |transaction, app, room| {
        membership::act(transaction, app.signer(), room, &user_id, &action, reason.as_deref())
    })
    .await
}

/// Lets the user enter a room, or knock there, through servers that may be in it if this one isn't.
pub async fn enter(
    app: &App,
    actor: &Session,
    room_id: &RoomId,
    action: Action,
    reason: Option<String>,
    via: Vec<OwnedServerName>,
) -> Result<(), WriteError> {
    presence::act(app, actor.number);
    let membership = match action {
        Action::Knock => MembershipState::Knock,
        Action::Leave => MembershipState::Leave,
        _ => MembershipState::Join,
    };
    let (own, id, user, wish) =
        (app.server_name.clone(), room_id.to_owned(), actor.user_id.clone(), membership.clone());
    let who = app.store.read(move |view| joining::who(view, &own, (&id, &user), &wish)).await?;
    if who != Who::This {
        let (room_id, user, reason) = (room_id.to_owned(), actor.user_id.clone(), reason.clone());
        let request = joining::Request { room_id, user, membership, reason, via };
        match joining::carry_out(app, request).await {
            Ok(()) => return Ok(()),
            Err(Outside::Here) => {}
            Err(Outside::Elsewhere(refusal)) if who == Who::OtherFirst => {
                tracing::debug!(%refusal, "no other server does it, so this one does what it can");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let user_id = actor.user_id.clone();
    in_room(app, room_id, move |transaction, app, room| {
        membership::act(transaction, app.signer(), room, &user_id, &action, reason.as_deref())
    })
    .await
}

/// Makes the user hear no more of a room that they left.
pub async fn forget(app: &App, session: &Session, room_id: &RoomId) -> Result<(), WriteError> {
    let user_id = session.user_id.clone();
    in_room(app, room_id, move |transaction, _, room| membership::forget(transaction, room, &user_id)).await
}

/// Runs a job on a room that this server knows.
pub(super) async fn in_room<T: Send + 'static>(
    app: &App,
    room_id: &RoomId,
    mut job: impl FnMut(&mut Transaction<'_>, &App, RoomNumber) -> Result<T, WriteError> + Send + 'static,
) -> Result<T, WriteError> {
    let (shared, id) = (app.clone(), room_id.to_owned());
    let job = move |transaction: &mut Transaction<'_>| {
        let room = transaction.room_number(&id)?.ok_or(WriteError::UnknownRoom)?;
        job(transaction, &shared, room)
    };
    policy::write(app, room_id, job).await
}

const ROOM_ID_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
