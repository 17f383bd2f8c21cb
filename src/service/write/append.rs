//! Appending an event of our own: built, judged, signed and put into the log in one job.
//!
//! All that the event depends on is read in the job that appends it, so rooms never race. Everything a local user
//! does to a room ends in [`append`].

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, UserId};

use super::plan::PlanError;
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, RoomNumber},
    },
    room::{
        advance::{Advanced, NEW},
        auth::{Denied, Rule},
        build::{BuildError, Draft, Tip, build},
        graph::{Graph, State},
        pdu::{FormatError, Pdu},
        receive::state_after,
        redact,
        resolve::{ResolveError, resolve},
        sign::{CheckedEvent, sign},
        version::Version,
    },
    service::{
        federation::{
            joining::{Elsewhere, Outside},
            policy::{self, Unconsented},
        },
        invite_permission::{Blocked, refused},
        signer::Signer,
    },
    store::{
        StoreError, Transaction, View,
        events::{Admission, NewEvent, RoomRecord, TransactionIdentity},
    },
};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This server knows no such room.
    #[error("this server is in no such room")]
    UnknownRoom,
    /// The room has no such event.
    #[error("the room has no such event")]
    UnknownEvent,
    /// The room's rules forbid it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What is to be an alias of the room is no alias at all.
    #[error("{0:?} is no room alias")]
    InvalidAlias(String),
    /// What is to be an alias of the room leads elsewhere, or nowhere.
    #[error("{0} does not lead to this room")]
    BadAlias(OwnedRoomAliasId),
    /// Only a room that was left can be forgotten.
    #[error("the user has not left the room")]
    NotLeft,
    /// The event would be larger than an event may be.
    #[error("the event is too large")]
    TooLarge,
    /// The content is not what events of that type hold.
    #[error("{0}")]
    Content(String),
    /// A thread would begin at an event that relates to another.
    #[error("no thread begins at an event that relates to another")]
    NestedThread,
    /// The user said the same of an event before.
    #[error("the user annotated the event so before")]
    DuplicateAnnotation,
    /// The alias names a room already.
    #[error("the alias is taken")]
    AliasTaken,
    /// The user who is to be invited wants no invitations.
    #[error("the user blocks invitations")]
    InviteBlocked(Blocked),
    /// Its sender put it off, and then withdrew it.
    #[error("the event is not to be sent any more")]
    Withdrawn,
    /// It concerns a user of another server.
    #[error("users of other servers cannot be reached")]
    Remote,
    /// The room's policy server has to be asked first.
    #[error("the room's policy server was not asked")]
    Unconsented(Box<Unconsented>),
    /// Other servers would have to let it be, and didn't.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Outside> for WriteError {
    fn from(error: Outside) -> Self {
        match error {
            Outside::Elsewhere(error) => Self::Elsewhere(error),
            Outside::Here => Self::Elsewhere(Elsewhere::Failed(error.to_string())),
            // Others may be told of the same one.
            Outside::Store(error) => Self::Store(match &*error {
                StoreError::Full => StoreError::Full,
                StoreError::Closed => StoreError::Closed,
                other => StoreError::Io(std::io::Error::other(other.to_string())),
            }),
        }
    }
}

impl WriteError {
    /// A refusal that is not one of the room version's rules but the server's own.
    pub(super) fn forbidden(reason: &str) -> Self {
        Self::Denied(Denied { rule: Rule::Member, reason: reason.to_owned() })
    }
}

impl From<PlanError> for WriteError {
    fn from(error: PlanError) -> Self {
        Self::Content(error.to_string())
    }
}

impl From<BuildError<StoreError>> for WriteError {
    fn from(error: BuildError<StoreError>) -> Self {
        match error {
            BuildError::Graph(error) => Self::Store(error),
            BuildError::Format(error) => error.into(),
            BuildError::Content(reason) => Self::Content(reason),
        }
    }
}

impl From<FormatError> for WriteError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Large | FormatError::Long(_) => Self::TooLarge,
            other => Self::Content(other.to_string()),
        }
    }
}

/// An event that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub number: EventNumber,
    /// Its id.
    pub event_id: OwnedEventId,
}

/// Appends an event of a local user to a room, after all its forward extremities.
///
/// A redaction is applied with it.
pub fn append(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    room: RoomNumber,
    sender: &UserId,
    draft: Draft,
    request: Option<TransactionIdentity>,
) -> Result<Appended, WriteError> {
    let tip = tip(transaction, room)?;
    let redacted = match &draft.redacts {
        Some(target) => Some(transaction.event_number(room, target)?.ok_or(WriteError::UnknownEvent)?),
        None => None,
    };
    let pdu = make(transaction, &transaction.graph(room), signer, &tip, (sender, transaction.now()), draft)?;
    let pdu = policy::consented(transaction, (room, tip.version), pdu, (signer.consents, transaction.now()))?;
    if let Some(target) = redacted {
        let graph = transaction.graph(room);
        let target = transaction.event(room, target)?.pdu;
        // That others trust this server's users with each other's events is no reason to do it here.
        let may = sender == target.sender() || redact::has_level(&pdu, &tip.state, &graph, tip.version)?;
        if !may || target.rejected() {
            return Err(WriteError::forbidden("you may not redact that event"));
        }
    }
    let appended = store(transaction, room, &pdu, &tip.state, request)?;
    if let Some(target) = redacted {
        transaction.set_redacted(room, target, appended.number)?;
    }
    Ok(appended)
}

/// The end of a room, as it is now.
pub(in crate::service) fn tip(view: &View<'_>, room: RoomNumber) -> Result<Tip, StoreError> {
    let record = view.room(room)?;
    let mut prev_events = Vec::with_capacity(record.extremities.len());
    for number in &record.extremities {
        let event = view.event(room, *number)?;
        prev_events.push((event.pdu.event_id().to_owned(), event.pdu.depth()));
    }
    let state = match view.is_approaching(room)? {
        true => settled(view, room, &record)?,
        false => State::stored(record.state),
    };
    Ok(Tip { room_id: Some(view.room_id(room)?), version: record.version, prev_events, state })
}

/// The state of a room that a crash left on the way to it.
fn settled(view: &View<'_>, room: RoomNumber, record: &RoomRecord) -> Result<State, StoreError> {
    let (graph, mut states) = (view.graph(room), Vec::new());
    for number in &record.extremities {
        states.extend(state_after(*number, &graph)?);
    }
    match resolve(&states, &graph, record.version) {
        Ok(state) => Ok(state),
        Err(ResolveError::Graph(error)) => Err(error),
        Err(error) => {
            tracing::error!(%error, "the state of a room can't be resolved, and stays half of another");
            Ok(State::stored(record.state))
        }
    }
}

/// Appends the first event of a room, which makes the room; gives the room's number too.
///
/// `room_id` is the new room's, for versions that do not derive it from the event.
pub fn append_create(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    version: Version,
    room_id: Option<OwnedRoomId>,
    creator: &UserId,
    draft: Draft,
) -> Result<RoomNumber, WriteError> {
    let tip = Tip { room_id, version, prev_events: Vec::new(), state: State::default() };
    let mut now = transaction.now();
    let pdu = loop {
        // No room has the number zero; the first event of a room asks nothing of it.
        let graph = transaction.graph(RoomNumber::default());
        let pdu = make(transaction, &graph, signer, &tip, (creator, now), draft.clone())?;
        if transaction.room_number(pdu.room_id())?.is_none() {
            break pdu;
        }
        if !version.room_id_is_hash() {
            return Err(WriteError::forbidden("that room exists"));
        }
        // The same words of the same user at the same time would be the same room.
        now = now.plus(Duration::from_millis(1));
    };
    let room = transaction.create_room(pdu.room_id(), version)?;
    store(transaction, room, &pdu, &tip.state, None)?;
    Ok(room)
}

/// Makes an event of a local user that may follow the tip of its room.
pub(super) fn make<G: Graph<Error = StoreError>>(
    view: &View<'_>,
    graph: &G,
    signer: Signer<'_>,
    tip: &Tip,
    (sender, now): (&UserId, Timestamp),
    draft: Draft,
) -> Result<Pdu, WriteError> {
    let invited = draft.invited();
    let unsigned = build(draft, sender.to_owned(), now.into(), tip, graph)?;
    let checked = CheckedEvent::check(unsigned, &tip.state, graph, tip.version)??;
    if let Some(user) = invited {
        if user.server_name() != signer.server_name {
            return Err(WriteError::Remote);
        }
        // Only those learn of it who may invite.
        if let Some(blocked) = refused(view, &user, sender)? {
            return Err(WriteError::InviteBlocked(blocked));
        }
    }
    Ok(sign(checked, signer.server_name, signer.key)?)
}

fn store(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    pdu: &Pdu,
    before: &State,
    request: Option<TransactionIdentity>,
) -> Result<Appended, WriteError> {
    let mut current = before.clone();
    if let Some(key) = pdu.key() {
        current.set(key, NEW);
    }
    let advanced = Advanced { beside: Vec::new(), current };
    let admission = Admission::Live { before, advanced: &advanced };
    let is_settled = *before == State::stored(transaction.room(room)?.state);
    let number = transaction.append_event(room, &NewEvent { pdu, transaction: request, admission })?;
    if !is_settled {
        transaction.end_approach(room)?;
    }
    Ok(Appended { number, event_id: pdu.event_id().to_owned() })
}
