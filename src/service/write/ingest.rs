//! Events from other servers: judged outside the writer, one a room at a time, and appended by it.
//!
//! What takes long (signatures, the state before the event, resolution) depends on the event's own past alone and is
//! worked out once, on a view. Only how it meets the room's present is worked out again if local sends moved the
//! room on meanwhile; the writer just looks whether they did.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

mod approach;

use std::sync::Arc;

use ruma::{OwnedRoomId, signatures::PublicKeyMap};

use super::{
    lane::{Ingesting, Lanes},
    redactions,
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber, StateRoot},
        json::Object,
        limits,
    },
    room::{
        advance::{Advanced, Stand, advance},
        auth::Denied,
        graph::State,
        pdu::{FormatError, Pdu},
        receive::{self, Dropped, Judgement, Missing, Told, soft_failure},
        resolve::ResolveError,
        sign::{CheckedEvent, sign},
        version::Version,
    },
    service::{App, delayed::Delay, federation::policy, signer::Signer},
    store::{
        Store, StoreError, Transaction, View,
        events::{Admission, NewEvent, Standing},
    },
};

/// What became of an event.
#[derive(Debug)]
pub enum Ingested {
    /// It is stored, and stands like this.
    As(Standing),
    /// It can be judged when these are known.
    Needs(Missing),
    /// It is as if it had never come.
    Dropped(Dropped),
    /// The same, since the room's rules forbid it, where its sender asked whether it may be.
    Refused(Denied),
}

/// Why an event could not be judged; its sender is not to blame.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// This server knows no such room.
    #[error("this server is in no such room")]
    UnknownRoom,
    /// The states that the event follows could not be resolved.
    #[error("{0}")]
    Unresolvable(String),
    /// Its sender put it off, and then withdrew it.
    #[error("the event is not to be sent any more")]
    Withdrawn,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes an event of a room from another server; `keys` holds its servers' keys as they were when it was sent. The state
/// before it that one `told` stands for parents that can't be had: they are missing in the timeline before it from then on.
pub async fn ingest(
    store: &Store,
    lanes: &Lanes,
    room_id: OwnedRoomId,
    (object, told): (Object, Option<Told>),
    keys: Arc<PublicKeyMap>,
) -> Result<Ingested, IngestError> {
    let turn = lanes.enter(&room_id).await;
    let place = lanes.judge().await;
    let judged = store.read(move |view| {
        let room = view.room_number(&room_id)?.ok_or(IngestError::UnknownRoom)?;
        judge(view, room, (object, told.as_ref()), &keys)
    });
    let judged = judged.await?;
    drop(place);
    match judged {
        Step::Done(ingested) => Ok(ingested),
        Step::Judged(judged) => finish(store, turn, *judged, false).await,
    }
}

/// Takes an event by which a user of another server comes or goes through this one, which vouches for it by its own
/// signature: only if it moves the room on, and if `vouch` finds nothing against it in the room that it is judged by.
pub async fn countersign<E>(
    app: &App,
    room_id: OwnedRoomId,
    object: Object,
    keys: PublicKeyMap,
    vouch: impl FnOnce(&View<'_>, RoomNumber) -> Result<(), E> + Send + 'static,
) -> Result<Ingested, E>
where
    E: From<IngestError> + From<StoreError> + Send + 'static,
{
    let turn = app.lanes.enter(&room_id).await;
    let place = app.lanes.judge().await;
    let shared = app.clone();
    let judged = app.store.read(move |view| {
        let room = view.room_number(&room_id)?.ok_or(IngestError::UnknownRoom)?;
        vouch(view, room)?;
        Ok::<_, E>(judge_to_sign(view, room, object, &keys, shared.signer())?)
    });
    let judged = judged.await?;
    drop(place);
    match judged {
        Step::Done(ingested) => Ok(ingested),
        Step::Judged(judged) => Ok(finish(&app.store, turn, *judged, true).await?),
    }
}

/// Takes an event that this server's user sends, which another server's answer made whole: only if it moves the room on.
/// What it follows may be older than the room's newest events. `delay` is one that ends with it.
pub async fn append_signed(
    app: &App,
    room_id: OwnedRoomId,
    pdu: Pdu,
    delay: Option<Delay>,
) -> Result<Ingested, IngestError> {
    let turn = app.lanes.enter(&room_id).await;
    let place = app.lanes.judge().await;
    let judged = app.store.read(move |view| {
        let room = view.room_number(&room_id)?.ok_or(IngestError::UnknownRoom)?;
        let version = view.room(room)?.version;
        match weigh(view, room, version, (pdu, None))? {
            Ok(Judgement::Needs(missing)) => Ok(Step::Done(Ingested::Needs(missing))),
            Ok(Judgement::Rejected { denied, .. }) => Ok(Step::Done(Ingested::Refused(denied))),
            Ok(Judgement::Accepted { pdu, before }) => judged(view, room, pdu, before),
            Err(ingested) => Ok(Step::Done(ingested)),
        }
    });
    let judged = judged.await?;
    drop(place);
    match judged {
        Step::Done(ingested) => Ok(ingested),
        Step::Judged(judged) => finish(&app.store, turn, Judged { delay, ..*judged }, true).await,
    }
}

/// Appends what was judged, and works out anew how it meets the room as often as that moves on meanwhile.
async fn finish(
    store: &Store,
    turn: Ingesting,
    judged: Judged,
    only_live: bool,
) -> Result<Ingested, IngestError> {
    let mut judged = Arc::new(judged);
    let mut gate = None;
    let mut tries = 0;
    if judged.before.changes.len() > limits::STATE_CHANGES {
        judged = approach::keep_before(store, judged).await?;
    }
    loop {
        if only_live && let Meeting::SoftFailed(denied) = &judged.meeting {
            return Ok(Ingested::Refused(denied.clone()));
        }
        if matches!(judged.meeting, Meeting::Live { is_far: true, .. }) {
            // Nothing is to be sent on the way.
            if gate.is_none() {
                gate = Some(turn.close_gate().await);
            }
            judged = approach::approach(store, judged).await?;
        }
        let job = judged.clone();
        if let Some(standing) = store.write(move |transaction| append(transaction, &job)).await? {
            return Ok(Ingested::As(standing));
        }
        tries += 1;
        if tries == limits::INGEST_TRIES && gate.is_none() {
            gate = Some(turn.close_gate().await);
        }
        judged =
            store.read(move |view| Ok::<_, IngestError>(Arc::new(meet(view, (*judged).clone())?))).await?;
    }
}

/// How far an event got.
#[derive(Debug)]
pub enum Step {
    /// There is nothing to append.
    Done(Ingested),
    /// It may be appended.
    Judged(Box<Judged>),
}

/// An event that was judged by its past, and how it meets the room's present.
#[derive(Clone, Debug)]
pub struct Judged {
    room: RoomNumber,
    pdu: Arc<Pdu>,
    /// The state before it.
    before: State,
    present: Present,
    meeting: Meeting,
    /// What ends with it.
    delay: Option<Delay>,
}

/// What the present of a room is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Present {
    extremities: Vec<EventNumber>,
    state: StateRoot,
    /// Whether the state is not that of the extremities, but on its way to another one.
    is_approaching: bool,
}

#[derive(Clone, Debug)]
enum Meeting {
    /// The past condemned it, whatever the present.
    Rejected,
    /// The present does.
    SoftFailed(Denied),
    /// It moves the room on; so far, perhaps, that one job can't write it.
    Live { advanced: Advanced, is_far: bool },
}

/// Judges an event of a room by all that can be seen now.
pub fn judge(
    view: &View<'_>,
    room: RoomNumber,
    (object, told): (Object, Option<&Told>),
    keys: &PublicKeyMap,
) -> Result<Step, IngestError> {
    let version = view.room(room)?.version;
    let pdu = match receive::verify(object, keys, version) {
        Ok(pdu) => pdu,
        Err(dropped) => return Ok(Step::Done(Ingested::Dropped(dropped))),
    };
    let judgement = match weigh(view, room, version, (pdu, told))? {
        Ok(judgement) => judgement,
        Err(ingested) => return Ok(Step::Done(ingested)),
    };
    let (pdu, before) = match judgement {
        Judgement::Needs(missing) => return Ok(Step::Done(Ingested::Needs(missing))),
        Judgement::Rejected { pdu, before, .. } | Judgement::Accepted { pdu, before } => (pdu, before),
    };
    judged(view, room, pdu, before)
}

/// The same for an event that lacks only this server's signature, and gets it if nothing of its past forbids it.
fn judge_to_sign(
    view: &View<'_>,
    room: RoomNumber,
    object: Object,
    keys: &PublicKeyMap,
    signer: Signer<'_>,
) -> Result<Step, IngestError> {
    let version = view.room(room)?.version;
    let pdu = match receive::verify_to_sign(object, keys, version, signer.server_name) {
        Ok(pdu) => pdu,
        Err(dropped) => return Ok(Step::Done(Ingested::Dropped(dropped))),
    };
    let judgement = match weigh(view, room, version, (pdu, None))? {
        Ok(judgement) => judgement,
        Err(ingested) => return Ok(Step::Done(ingested)),
    };
    let (pdu, before) = match judgement {
        Judgement::Needs(missing) => return Ok(Step::Done(Ingested::Needs(missing))),
        Judgement::Rejected { denied, .. } => return Ok(Step::Done(Ingested::Refused(denied))),
        Judgement::Accepted { pdu, before } => (pdu, before),
    };
    let checked = match CheckedEvent::check(pdu, &before, &view.graph(room), version)? {
        Ok(checked) => checked,
        Err(denied) => return Ok(Step::Done(Ingested::Refused(denied))),
    };
    match sign(checked, signer.server_name, signer.key) {
        Ok(pdu) => judged(view, room, pdu, before),
        Err(error) => Ok(Step::Done(Ingested::Dropped(error.into()))),
    }
}

/// Judges a verified event by its past, unless it is another room's or known.
fn weigh(
    view: &View<'_>,
    room: RoomNumber,
    version: Version,
    (pdu, told): (Pdu, Option<&Told>),
) -> Result<Result<Judgement, Ingested>, IngestError> {
    if pdu.room_id() != view.room_id(room)? {
        return Ok(Err(Ingested::Dropped(FormatError::Field("room_id").into())));
    }
    if let Some(number) = view.event_number(room, pdu.event_id())? {
        // What was rejected without its place in the graph gets one, so that others can follow it.
        let header = view.header(room, number)?;
        let placeless = header.standing == Standing::Rejected && header.state_before.is_none();
        if header.standing != Standing::Outlier && !placeless {
            return Ok(Err(Ingested::As(header.standing)));
        }
    }
    Ok(Ok(receive::judge_told(pdu, &view.graph(room), version, told)?))
}

fn judged(view: &View<'_>, room: RoomNumber, pdu: Pdu, before: State) -> Result<Step, IngestError> {
    let present = Present { extremities: Vec::new(), state: StateRoot::EMPTY, is_approaching: false };
    let judged =
        Judged { room, pdu: Arc::new(pdu), before, present, meeting: Meeting::Rejected, delay: None };
    Ok(Step::Judged(Box::new(meet(view, judged)?)))
}

/// Works out how an event that its past permits meets the room as it is now.
pub fn meet(view: &View<'_>, judged: Judged) -> Result<Judged, IngestError> {
    if judged.pdu.rejected() {
        return Ok(judged);
    }
    let record = view.room(judged.room)?;
    let graph = view.graph(judged.room);
    let current = State::stored(record.state);
    let is_approaching = view.is_approaching(judged.room)?;
    let denied = match soft_failure(&judged.pdu, &current, &graph, record.version)? {
        None => policy::denied(view, (judged.room, record.version), &judged.pdu)?,
        denied => denied,
    };
    let meeting = match denied {
        Some(denied) => Meeting::SoftFailed(denied),
        None => {
            let Judged { pdu, before, .. } = &judged;
            let known = Some(record.state).filter(|_| !is_approaching);
            let stand = Stand { extremities: &record.extremities, state: known };
            let advanced = advance(pdu, before, stand, &graph, record.version)?;
            let is_far = approach::is_far(&graph, record.state, &advanced.current)?;
            Meeting::Live { advanced, is_far }
        }
    };
    let present = Present { extremities: record.extremities, state: record.state, is_approaching };
    Ok(Judged { present, meeting, ..judged })
}

/// Appends a judged event and says how it stands; none if the room moved on since it was judged.
pub fn append(transaction: &mut Transaction<'_>, judged: &Judged) -> Result<Option<Standing>, IngestError> {
    let Judged { room, pdu, before, present, meeting, delay } = judged;
    let record = transaction.room(*room)?;
    let moved = (&record.extremities, &record.state) != (&present.extremities, &present.state);
    let (admission, standing) = match meeting {
        Meeting::Rejected => (Admission::Rejected { before: Some(before) }, Standing::Rejected),
        _ if moved => return Ok(None),
        Meeting::SoftFailed(_) => (Admission::SoftFailed { before }, Standing::SoftFailed),
        Meeting::Live { advanced, .. } => (Admission::Live { before, advanced }, Standing::Live),
    };
    if let Some(delay) = delay {
        if !delay.is_due(transaction)? {
            return Err(IngestError::Withdrawn);
        }
        transaction.end_delay(&delay.id, Some(pdu.event_id().as_str()), None)?;
    }
    let number = transaction.append_event(*room, &NewEvent { pdu, transaction: None, admission })?;
    if standing == Standing::Live {
        if present.is_approaching {
            transaction.end_approach(*room)?;
        }
        redactions::apply(transaction, *room, number, pdu)?;
        open_gap(transaction, *room, number, pdu)?;
    }
    // A soft-failed event can stand in a state, and must not stand there with what was redacted.
    redactions::catch_up(transaction, *room, number, pdu)?;
    Ok(Some(standing))
}

/// Notes those parents of a live event that are missing before it.
fn open_gap(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    number: EventNumber,
    pdu: &Pdu,
) -> Result<(), StoreError> {
    let missing = transaction.missing_parents(room, pdu)?;
    if let (Some(place), false) = (transaction.header(room, number)?.place, missing.is_empty()) {
        let missing: Vec<_> = missing.iter().map(AsRef::as_ref).collect();
        transaction.open_gap(room, place.anchor, &missing);
    }
    Ok(())
}

impl From<ResolveError<StoreError>> for IngestError {
    fn from(error: ResolveError<StoreError>) -> Self {
        match error {
            ResolveError::Graph(error) => Self::Store(error),
            error => Self::Unresolvable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
