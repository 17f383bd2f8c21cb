//! Authorisation: may this event stand, by its own auth events or by a state of the room?
//!
//! The rules are ruma's, one set of switches a room version; here they meet a [`Graph`]. A verdict is a value; what
//! follows from it (reject, soft-fail, 403) is the caller's business.
//! <https://spec.matrix.org/v1.19/server-server-api/#authorisation-rules>

use std::collections::HashMap;

use ruma::{
    EventId,
    events::{StateEventType, TimelineEventType},
    state_res::{
        Event, check_state_dependent_auth_rules, check_state_independent_auth_rules, events::RoomCreateEvent,
    },
};

use super::{
    graph::{Graph, State},
    lookup::Lookup,
    pdu::Pdu,
    version::Version,
};

/// What the authorisation rules say of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed every rule.
    Allowed,
    /// It failed one.
    Denied(Denied),
}

/// The rule that an event failed, and why, in words that may be shown to its sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// The rule.
    pub rule: Rule,
    /// What about the event offends it.
    pub reason: String,
}

/// A group of authorisation rules, as the room versions list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What a create event must be.
    Create,
    /// What `auth_events` may name.
    AuthEvents,
    /// Who may have which membership.
    Member,
    /// Who may change which power level.
    PowerLevels,
    /// Who may send what: joined, federated, and of enough power.
    Send,
}

/// Judges an event by the events that it names as its permission; all of them must be known.
pub fn check_auth_events<G: Graph>(pdu: &Pdu, graph: &G, version: Version) -> Result<Verdict, G::Error> {
    let lookup = Lookup::new(graph);
    let rule = if *pdu.kind() == TimelineEventType::RoomCreate { Rule::Create } else { Rule::AuthEvents };
    let selection = match rule {
        Rule::Create => check_room_version(pdu, version),
        _ => Ok(()),
    };
    let selection = selection
        .and_then(|()| check_state_independent_auth_rules(version.auth(), pdu, |id| lookup.event(id)));
    let verdict = match selection {
        Err(reason) => Verdict::Denied(Denied { rule, reason }),
        Ok(()) => {
            let mut permission = HashMap::new();
            let create = create_event_id(pdu, version);
            for id in pdu.auth_events().iter().map(AsRef::as_ref).chain(create.as_deref()) {
                if let Some(event) = lookup.event(id)
                    && let Some(key) = event.key()
                {
                    permission.insert(key, event);
                }
            }
            dependent(pdu, version, |kind, key| permission.get(&(kind.clone(), key.to_owned())).cloned())
        }
    };
    lookup.finish()?;
    Ok(verdict)
}

/// Judges an event by a state of its room.
pub fn check_state<G: Graph>(
    pdu: &Pdu,
    state: &State,
    graph: &G,
    version: Version,
) -> Result<Verdict, G::Error> {
    let lookup = Lookup::new(graph);
    let verdict = dependent(pdu, version, |kind, key| lookup.state(state, kind, key));
    lookup.finish()?;
    Ok(verdict)
}

/// The id of the room's create event where the version leaves it out of `auth_events`.
pub fn create_event_id(pdu: &Pdu, version: Version) -> Option<ruma::OwnedEventId> {
    version.room_id_is_hash().then(|| EventId::new_v2_or_v3(pdu.room_id().strip_sigil()).ok()).flatten()
}

/// A room's version is what its create event says; one that says another is of no room.
fn check_room_version(create: &Pdu, version: Version) -> Result<(), String> {
    match RoomCreateEvent::new(create).room_version()? {
        id if id == *version.id() => Ok(()),
        id => Err(format!("`room_version` is {id}, and the room's version is {}", version.id())),
    }
}

/// Judges an event by the entries of a state.
pub(super) fn dependent<E: Event>(
    pdu: &Pdu,
    version: Version,
    state: impl Fn(&StateEventType, &str) -> Option<E>,
) -> Verdict {
    let rule = match pdu.kind() {
        TimelineEventType::RoomCreate => Rule::Create,
        TimelineEventType::RoomMember => Rule::Member,
        TimelineEventType::RoomPowerLevels => Rule::PowerLevels,
        _ => Rule::Send,
    };
    match check_state_dependent_auth_rules(version.auth(), pdu, state) {
        Ok(()) => Verdict::Allowed,
        Err(reason) => Verdict::Denied(Denied { rule, reason }),
    }
}

#[cfg(test)]
mod tests;
