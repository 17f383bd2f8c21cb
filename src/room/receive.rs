//! The checks on an event that came from elsewhere, in the specification's order.
//!
//! [`verify`] needs only the event and keys: it drops, or redacts what was tampered with. [`judge`] asks the room's
//! graph: it names what is missing, rejects, or accepts with the state before the event. [`soft_failure`] asks
//! the current state, and is all that has to be repeated if the room moved on meanwhile.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use ruma::{
    OwnedEventId, ServerName,
    events::{StateEventType, TimelineEventType},
    serde::{Base64, base64::Standard},
    signatures::{PublicKeyMap, VerificationError},
};

use super::{
    auth::{self, Denied, Rule, Verdict},
    graph::{Graph, State},
    hash,
    pdu::{FormatError, Pdu},
    redact::redact,
    resolve::{ResolveError, resolve},
    sign,
    version::Version,
};
use crate::base::{ids::EventNumber, json::Object};

/// Why an event is dropped: it is as if it had never come.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    /// It is not an event of this room version.
    #[error("not a valid event: {0}")]
    Format(#[from] FormatError),
    /// A signature that it needs is missing or wrong.
    #[error("signature: {0}")]
    Signature(#[from] VerificationError),
}

/// What the room's graph says of a verified event.
#[derive(Debug)]
pub enum Judgement {
    /// It cannot be judged before these are known; none of them is.
    Needs(Missing),
    /// It fails the authorisation rules. It is stored so that others can refer to it, and never shown.
    Rejected {
        /// The event, marked.
        pdu: Pdu,
        /// The state before it, and after it too.
        before: State,
        /// The rule that it failed.
        denied: Denied,
    },
    /// It passes by its auth events and by the state before it.
    Accepted {
        /// The event.
        pdu: Pdu,
        /// The state before it.
        before: State,
    },
}

/// Events that another one refers to and the graph lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Those that it names as its permission.
    pub auth_events: Vec<OwnedEventId>,
    /// Those that it follows, outliers included: their state is not known.
    pub prev_events: Vec<OwnedEventId>,
}

/// Checks format, signatures and content hash. An event whose content does not match its hash goes on redacted.
///
/// `keys` holds those that were valid when the event says it was sent. What its server put under `unsigned` is no
/// part of the event and is left out.
///
/// # Errors
/// The event is to be dropped.
pub fn verify(object: impl Into<Object>, keys: &PublicKeyMap, version: Version) -> Result<Pdu, Dropped> {
    let pdu = verify_backfilled(object, keys, version)?;
    pdu.check_counts()?;
    Ok(pdu)
}

/// The same for an event that a server is asked to sign, whose own signature it doesn't need yet.
///
/// # Errors
/// The event is to be dropped.
pub fn verify_to_sign(
    object: impl Into<Object>,
    keys: &PublicKeyMap,
    version: Version,
    server: &ServerName,
) -> Result<Pdu, Dropped> {
    let pdu = verify_but(object.into(), keys, version, Some(server))?;
    pdu.check_counts()?;
    Ok(pdu)
}

/// The same for what answers a request for history: there an event may name more others than it could today, since it
/// was accepted once. Such an event is stored and shown, though not if it follows more states than can be
/// [resolved](resolve).
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
///
/// # Errors
/// The event is to be dropped.
pub fn verify_backfilled(
    object: impl Into<Object>,
    keys: &PublicKeyMap,
    version: Version,
) -> Result<Pdu, Dropped> {
    verify_but(object.into(), keys, version, None)
}

fn verify_but(
    mut object: Object,
    keys: &PublicKeyMap,
    version: Version,
    but: Option<&ServerName>,
) -> Result<Pdu, Dropped> {
    object.edit(|fields| fields.remove("unsigned"));
    let pdu = Pdu::parse(&object, version)?;
    let claimed = object.get("hashes").and_then(|hashes| hashes.as_object()?.get("sha256")?.as_str());
    let claimed = claimed.ok_or(FormatError::Field("hashes"))?.to_owned();
    sign::check(&object, keys, version, but)?;
    let hash = hash::content_hash(&object)?;
    if Base64::<Standard>::parse(claimed).is_ok_and(|claimed| claimed.as_bytes() == hash) {
        return Ok(pdu);
    }
    redact(&mut object, version.redaction())?;
    // What goes on may have to be signed by others: redaction can take away why its sender's server need not have.
    sign::check(&object, keys, version, but)?;
    Ok(Pdu::parse(&object, version)?)
}

/// Checks a verified event against its auth events and the state before it.
///
/// # Errors
/// A look-up failed, or the states that it follows cannot be resolved.
pub fn judge<G: Graph>(pdu: Pdu, graph: &G, version: Version) -> Result<Judgement, ResolveError<G::Error>> {
    judge_told(pdu, graph, version, None)
}

/// The state before an event of whose parents some have no state here.
#[derive(Clone, Debug)]
pub enum Told {
    /// As another server tells it. It is resolved with what follows from the parents that are known, so that nobody tells
    /// away what those say.
    Word(State),
    /// As its whole past says.
    MadeOut(State),
}

/// The same for an event of whose parents some can't be had: what is told stands for them.
///
/// # Errors
/// As [`judge`].
pub fn judge_told<G: Graph>(
    pdu: Pdu,
    graph: &G,
    version: Version,
    told: Option<&Told>,
) -> Result<Judgement, ResolveError<G::Error>> {
    let missing = missing(&pdu, graph, version).map_err(ResolveError::Graph)?;
    let told = told.filter(|_| !missing.prev_events.is_empty());
    if !missing.auth_events.is_empty() || (told.is_none() && !missing.prev_events.is_empty()) {
        return Ok(Judgement::Needs(missing));
    }
    let mut states = match told {
        Some(Told::MadeOut(state)) => return judge_after(pdu, vec![state.clone()], graph, version),
        Some(Told::Word(state)) => vec![state.clone()],
        None => Vec::new(),
    };
    for id in pdu.prev_events() {
        if let Some(number) = graph.number(id).map_err(ResolveError::Graph)? {
            states.extend(state_after(number, graph).map_err(ResolveError::Graph)?);
        }
    }
    judge_after(pdu, states, graph, version)
}

/// The same for an event that follows these states.
///
/// # Errors
/// As [`judge`].
pub fn judge_after<G: Graph>(
    pdu: Pdu,
    follows: Vec<State>,
    graph: &G,
    version: Version,
) -> Result<Judgement, ResolveError<G::Error>> {
    let mut states: Vec<State> = Vec::with_capacity(follows.len());
    for state in follows {
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let before = resolve(&states, graph, version)?;
    let verdict = match auth::check_auth_events(&pdu, graph, version).map_err(ResolveError::Graph)? {
        Verdict::Allowed => auth::check_state(&pdu, &before, graph, version).map_err(ResolveError::Graph)?,
        denied => denied,
    };
    Ok(match verdict {
        Verdict::Allowed => Judgement::Accepted { pdu, before },
        Verdict::Denied(denied) => Judgement::Rejected { pdu: pdu.into_rejected(), before, denied },
    })
}

/// Whether an accepted event fails the authorisation rules by the room's current state: it is then kept from
/// clients and from our own `prev_events`.
///
/// A create event is measured by another yardstick: a room has one, so it must be the current state's, if any.
pub fn soft_failure<G: Graph>(
    pdu: &Pdu,
    current: &State,
    graph: &G,
    version: Version,
) -> Result<Option<Denied>, G::Error> {
    if *pdu.kind() == TimelineEventType::RoomCreate
        && current.entry(graph, &StateEventType::RoomCreate, "")?.is_some()
    {
        return Ok(Some(Denied { rule: Rule::Create, reason: "the room has a create event".to_owned() }));
    }
    Ok(match auth::check_state(pdu, current, graph, version)? {
        Verdict::Allowed => None,
        Verdict::Denied(denied) => Some(denied),
    })
}

/// The state after a stored event: the one before it, and itself, if it is a state event that was not rejected.
/// None if it is an outlier.
pub fn state_after<G: Graph>(number: EventNumber, graph: &G) -> Result<Option<State>, G::Error> {
    let Some(root) = graph.state_before(number)? else { return Ok(None) };
    let mut state = State::stored(root);
    let event = graph.event(number)?;
    if !event.rejected()
        && let Some(key) = event.key()
    {
        state.set(key, number);
    }
    Ok(Some(state))
}

/// The events that permit this one and that the graph lacks.
///
/// # Errors
/// A look-up failed.
pub fn missing_permissions<G: Graph>(
    pdu: &Pdu,
    graph: &G,
    version: Version,
) -> Result<Vec<OwnedEventId>, G::Error> {
    let mut missing = Vec::new();
    if *pdu.kind() != TimelineEventType::RoomCreate {
        let create = auth::create_event_id(pdu, version);
        for id in pdu.auth_events().iter().chain(&create) {
            if graph.number(id)?.is_none() {
                missing.push(id.clone());
            }
        }
    }
    Ok(missing)
}

fn missing<G: Graph>(pdu: &Pdu, graph: &G, version: Version) -> Result<Missing, G::Error> {
    let auth_events = missing_permissions(pdu, graph, version)?;
    let mut missing = Missing { auth_events, prev_events: Vec::new() };
    for id in pdu.prev_events() {
        let known = match graph.number(id)? {
            Some(number) => graph.state_before(number)?.is_some(),
            None => false,
        };
        if !known {
            missing.prev_events.push(id.clone());
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests;
