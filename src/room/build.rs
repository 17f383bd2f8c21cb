//! Building an event of our own: from what a user wants to say to an event that only lacks a signature.
//!
//! It follows the room's forward extremities and is permitted by their state. Nothing is judged here: that is
//! [`CheckedEvent::check`](super::sign::CheckedEvent::check).
//! <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, UInt, events::TimelineEventType, signatures::add_content_hash_to_event,
    state_res::auth_types_for_event,
};
use serde_json::value::to_raw_value;

use super::{
    graph::{Graph, State},
    pdu::{FormatError, Pdu},
    version::Version,
};
use crate::base::limits;

/// What a user wants to say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The event type.
    pub kind: TimelineEventType,
    /// The state key; none for a message.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The event to redact, if this is a redaction; it goes where the room version wants it.
    pub redacts: Option<OwnedEventId>,
}

/// The end of a room that an event is built onto.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The room; none for the create event of a version whose room id is that event's hash.
    pub room_id: Option<OwnedRoomId>,
    /// The room's version.
    pub version: Version,
    /// The forward extremities with their depths, at most [`limits::PREV_EVENTS`].
    pub prev_events: Vec<(OwnedEventId, u64)>,
    /// Their resolved state.
    pub state: State,
}

/// Why an event cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E> {
    /// A look-up failed.
    #[error(transparent)]
    Graph(E),
    /// It would violate the event format or a size limit.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// Its content is not what events of its type hold.
    #[error("{0}")]
    Content(String),
}

/// Builds an unsigned event of `sender` onto a tip, content hash included.
///
/// # Errors
/// A look-up failed, or the draft makes no event.
pub fn build<G: Graph>(
    draft: Draft,
    sender: OwnedUserId,
    now: MilliSecondsSinceUnixEpoch,
    tip: &Tip,
    graph: &G,
) -> Result<Pdu, BuildError<G::Error>> {
    let auth_events = select_auth_events(&draft, &sender, tip, graph)?;
    let prev_events = tip.prev_events.iter().map(|(id, _)| CanonicalJsonValue::from(id.as_str())).collect();
    let depth = tip.prev_events.iter().map(|(_, depth)| depth + 1).max().unwrap_or(1);

    let Draft { kind, state_key, mut content, redacts } = draft;
    let mut object = CanonicalJsonObject::new();
    let mut put = |field: &str, value: CanonicalJsonValue| object.insert(field.to_owned(), value);
    if let Some(redacts) = redacts {
        let value = CanonicalJsonValue::from(redacts.as_str());
        match tip.version.redaction().content_field_redacts {
            true => content.insert("redacts".to_owned(), value),
            false => put("redacts", value),
        };
    }
    put("type", kind.to_string().into());
    put("sender", sender.as_str().into());
    put("content", content.into());
    put("origin_server_ts", now.0.into());
    put("depth", UInt::new_saturating(depth.min(limits::MAX_INTEGER)).into());
    put("prev_events", CanonicalJsonValue::Array(prev_events));
    put("auth_events", CanonicalJsonValue::Array(auth_events));
    if let Some(state_key) = state_key {
        put("state_key", state_key.into());
    }
    if let Some(room_id) = &tip.room_id {
        put("room_id", room_id.as_str().into());
    }
    add_content_hash_to_event(&mut object).map_err(|_| FormatError::Large)?;
    Ok(Pdu::parse(&object, tip.version)?)
}

fn select_auth_events<G: Graph>(
    draft: &Draft,
    sender: &OwnedUserId,
    tip: &Tip,
    graph: &G,
) -> Result<Vec<CanonicalJsonValue>, BuildError<G::Error>> {
    let content = to_raw_value(&draft.content).map_err(|error| BuildError::Content(error.to_string()))?;
    let state_key = draft.state_key.as_deref();
    let keys = auth_types_for_event(&draft.kind, sender, state_key, &content, tip.version.auth())
        .map_err(BuildError::Content)?;
    let mut selected = Vec::new();
    for (kind, key) in keys {
        if let Some(number) = tip.state.entry(graph, &kind, &key).map_err(BuildError::Graph)? {
            let event = graph.event(number).map_err(BuildError::Graph)?;
            selected.push(event.event_id().as_str().into());
        }
    }
    Ok(selected)
}
