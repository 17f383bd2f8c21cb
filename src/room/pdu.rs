//! One event of a room, parsed: canonical JSON and the fields that the rules ask for.
//!
//! A [`Pdu`] keeps its JSON as it will be stored and sent. [`Pdu::parse`] checks the room version's event format
//! and the size limits; nothing else is trusted about it. Its id is the reference hash; only in versions 1 and 2 it is
//! what the event claims, which the server that the id names must have signed.
//! <https://spec.matrix.org/v1.19/server-server-api/#pdus>,
//! <https://spec.matrix.org/v1.19/client-server-api/#size-limits>

use std::fmt;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::Event,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    graph::Key,
    hash::{self, reference_hash},
    integers,
    version::Version,
};
use crate::base::{json::Object, limits};

/// An event of a room.
#[derive(Clone, Debug)]
pub struct Pdu {
    event_id: OwnedEventId,
    /// The room, also where the event does not name it.
    room_id: OwnedRoomId,
    fields: Fields,
    /// Power levels without fractions, if the content has some.
    levels: Option<Box<RawValue>>,
    /// The event to redact, if it names one beside its content.
    redacts: Option<OwnedEventId>,
    json: Box<str>,
    rejected: bool,
}

/// What the rules read often. The rest stays in the JSON.
#[derive(Clone, Debug, Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<String>,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(deserialize_with = "timestamp")]
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    #[serde(deserialize_with = "references")]
    prev_events: Vec<OwnedEventId>,
    #[serde(deserialize_with = "references")]
    auth_events: Vec<OwnedEventId>,
    content: Box<RawValue>,
    redacts: Option<Box<RawValue>>,
}

/// Why an object is no event of its room version: it is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A field is missing, or is not what the event format says.
    #[error("`{0}` is missing or malformed")]
    Field(&'static str),
    /// A field that names something has more than 255 bytes.
    #[error("`{0}` is longer than 255 bytes")]
    Long(&'static str),
    /// The event has more than 65,536 bytes.
    #[error("larger than 65536 bytes")]
    Large,
    /// `prev_events` has more than 20 entries or `auth_events` more than 10.
    #[error("too many `{0}`")]
    Many(&'static str),
    /// A number is no integer of 53 bits, which this version forbids.
    #[error("a number is not an integer of 53 bits")]
    Number,
    /// Since version 12 the create event is implied and must not be listed.
    #[error("the create event is among `auth_events`")]
    CreateInAuthEvents,
}

impl Pdu {
    /// Reads an event from its JSON and computes its id, unless its version has it in the JSON.
    ///
    /// # Errors
    /// The object violates the event format of the room version or a size limit.
    pub fn parse(object: &Object, version: Version) -> Result<Self, FormatError> {
        check_format(object, version)?;
        let json = object.text();
        if json.len() > limits::EVENT_BYTES {
            return Err(FormatError::Large);
        }
        let event_id = Self::id_of(object, version)?;
        Self::stored(event_id, &json, false).map_err(|_| FormatError::Field("event"))
    }

    /// What an object would be called that may be an event.
    ///
    /// # Errors
    /// It can't be one.
    pub fn id_of(object: &Object, version: Version) -> Result<OwnedEventId, FormatError> {
        let event_id = match version.event_id_is_hash() {
            true => EventId::new_v2_or_v3(&reference_hash(object, version)?),
            false => EventId::parse(object.get("event_id").and_then(|id| id.as_str()).unwrap_or_default()),
        };
        event_id.map_err(|_| FormatError::Field("event_id"))
    }

    /// Reads an event that [`Self::parse`] passed before, with the id it had then.
    ///
    /// # Errors
    /// The text is not one that was stored: the store is damaged.
    pub fn stored(event_id: OwnedEventId, json: &str, rejected: bool) -> Result<Self, serde_json::Error> {
        let mut fields: Fields = serde_json::from_str(json)?;
        let room_id = match &fields.room_id {
            Some(room_id) => room_id.clone(),
            None => RoomId::new_v2(event_id.as_str().trim_start_matches('$'))
                .map_err(serde_json::Error::custom)?,
        };
        let levels = match fields.kind {
            TimelineEventType::RoomPowerLevels => integers::whole(&fields.content),
            _ => None,
        };
        let redacts = fields.redacts.take().and_then(|id| serde_json::from_str(id.get()).ok());
        Ok(Self { event_id, room_id, fields, levels, redacts, json: json.into(), rejected })
    }

    /// Checks how many other events it names.
    ///
    /// # Errors
    /// It names too many.
    pub fn check_counts(&self) -> Result<(), FormatError> {
        let Fields { prev_events, auth_events, .. } = &self.fields;
        match (prev_events.len() <= limits::PREV_EVENTS, auth_events.len() <= limits::AUTH_EVENTS) {
            (true, true) => Ok(()),
            (false, _) => Err(FormatError::Many("prev_events")),
            (_, false) => Err(FormatError::Many("auth_events")),
        }
    }

    /// The same event, marked as one that failed the authorisation rules.
    pub fn into_rejected(self) -> Self {
        Self { rejected: true, ..self }
    }

    /// Its id.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The room; that of a create event without `room_id` follows from its hash.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        &self.fields.sender
    }

    /// Its type.
    pub fn kind(&self) -> &TimelineEventType {
        &self.fields.kind
    }

    /// Its state key; none if it is a message.
    pub fn state_key(&self) -> Option<&str> {
        self.fields.state_key.as_deref()
    }

    /// Where it stands in a room's state; none if it is a message.
    pub fn key(&self) -> Option<Key> {
        self.state_key().map(|key| (StateEventType::from(self.kind().to_string()), key.to_owned()))
    }

    /// Whether it is the state event with this type and state key.
    pub fn is_state(&self, kind: &StateEventType, key: &str) -> bool {
        self.state_key() == Some(key) && self.kind().to_string() == kind.to_string()
    }

    /// When its server says that it was sent.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.fields.origin_server_ts
    }

    /// One more than the greatest depth of its `prev_events`, as its server says.
    pub fn depth(&self) -> u64 {
        self.fields.depth
    }

    /// The events that it follows.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.fields.prev_events
    }

    /// The events that permit it.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.fields.auth_events
    }

    /// The event to redact, as versions before 11 name it: beside the content.
    pub fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    /// What other events of the room hold to refer to this one.
    ///
    /// # Errors
    /// The event is none of the room's version.
    pub fn reference(&self, version: Version) -> Result<CanonicalJsonValue, FormatError> {
        let id = self.event_id.as_str().into();
        if !version.references_are_pairs() {
            return Ok(id);
        }
        let hash = reference_hash(&self.object(), version)?;
        Ok(CanonicalJsonValue::Array(vec![id, hash::named(hash)]))
    }

    /// Its content.
    pub fn content(&self) -> &RawValue {
        &self.fields.content
    }

    /// Reads the content as a type of the caller's; none if it has another shape.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.fields.content.get()).ok()
    }

    /// The content as a value, with any numbers.
    pub fn content_object(&self) -> Object {
        Object::parse(self.fields.content.get()).expect("it was parsed as a part of the event")
    }

    /// The content as a value with integers of 53 bits in place of all other numbers.
    pub fn content_in_integers(&self) -> CanonicalJsonObject {
        let whole = integers::whole(&self.fields.content);
        let content = whole.as_deref().unwrap_or(&self.fields.content);
        serde_json::from_str(content.get()).expect("canonical JSON has a place for what is left")
    }

    /// The whole event as canonical JSON, as it is stored and sent.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The whole event as a value.
    pub fn object(&self) -> Object {
        Object::parse(&self.json).expect("the text was written from such a value")
    }

    /// Whether it failed the authorisation rules.
    pub fn rejected(&self) -> bool {
        self.rejected
    }
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.fields.room_id.as_deref()
    }

    fn sender(&self) -> &UserId {
        self.sender()
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts()
    }

    fn event_type(&self) -> &TimelineEventType {
        self.kind()
    }

    fn content(&self) -> &RawValue {
        self.levels.as_deref().unwrap_or_else(|| self.content())
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.fields.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.fields.auth_events.iter())
    }

    /// Asked by the authorisation rules of versions 1 and 2 only; later ones judge a redaction when it is applied.
    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// Checks types and sizes of the fields that every event has.
/// <https://spec.matrix.org/v1.19/rooms/v12/#event-format-1>
fn check_format(object: &Object, version: Version) -> Result<(), FormatError> {
    let rules = &version.rules().event_format;
    if version.strict_json() && object.canonical().is_none() {
        return Err(FormatError::Number);
    }
    let kind = text(object, "type")?.ok_or(FormatError::Field("type"))?;
    let sender = text(object, "sender")?.ok_or(FormatError::Field("sender"))?;
    <&UserId>::try_from(sender).map_err(|_| FormatError::Field("sender"))?;
    text(object, "state_key")?;
    let room_id = text(object, "room_id")?;
    match room_id {
        Some(room_id) => _ = <&RoomId>::try_from(room_id).map_err(|_| FormatError::Field("room_id"))?,
        None if kind == "m.room.create" && !rules.require_room_create_room_id => {}
        None => return Err(FormatError::Field("room_id")),
    }
    if rules.require_event_id {
        let event_id = text(object, "event_id")?.and_then(|id| <&EventId>::try_from(id).ok());
        event_id.and_then(EventId::server_name).ok_or(FormatError::Field("event_id"))?;
    }
    events(object, "prev_events", version)?;
    for event_id in events(object, "auth_events", version)? {
        let hash = event_id.as_str().trim_start_matches('$');
        if !rules.allow_room_create_in_auth_events
            && room_id.is_some_and(|room_id| room_id.strip_prefix('!') == Some(hash))
        {
            return Err(FormatError::CreateInAuthEvents);
        }
    }
    for field in ["depth", "origin_server_ts"] {
        let number = object.integer(field).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| *number <= version.max_integer()).ok_or(FormatError::Field(field))?;
    }
    object.get("content").and_then(CanonicalJsonValue::as_object).ok_or(FormatError::Field("content"))?;
    Ok(())
}

fn text<'a>(object: &'a CanonicalJsonObject, field: &'static str) -> Result<Option<&'a str>, FormatError> {
    match object.get(field) {
        None => Ok(None),
        Some(CanonicalJsonValue::String(text)) if text.len() > limits::EVENT_FIELD_BYTES => {
            Err(FormatError::Long(field))
        }
        Some(CanonicalJsonValue::String(text)) => Ok(Some(text)),
        Some(_) => Err(FormatError::Field(field)),
    }
}

fn events<'a>(
    object: &'a CanonicalJsonObject,
    field: &'static str,
    version: Version,
) -> Result<Vec<&'a EventId>, FormatError> {
    let list = object.get(field).and_then(CanonicalJsonValue::as_array).ok_or(FormatError::Field(field))?;
    let named = |reference: &'a CanonicalJsonValue| match reference {
        CanonicalJsonValue::String(id) if !version.references_are_pairs() => Some(id.as_str()),
        CanonicalJsonValue::Array(pair) if version.references_are_pairs() => match &pair[..] {
            [CanonicalJsonValue::String(id), CanonicalJsonValue::Object(_)] => Some(id.as_str()),
            _ => None,
        },
        _ => None,
    };
    list.iter()
        .map(|reference| {
            named(reference)
                .filter(|id| id.len() <= limits::EVENT_FIELD_BYTES)
                .and_then(|id| <&EventId>::try_from(id).ok())
                .ok_or(FormatError::Field(field))
        })
        .collect()
}

/// Reads a time, which may be later than canonical JSON can say in versions that don't have to hold to it.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MilliSecondsSinceUnixEpoch, D::Error> {
    u64::deserialize(deserializer).map(|time| MilliSecondsSinceUnixEpoch(UInt::new_saturating(time)))
}

/// Reads references to events: ids, or pairs of an id and a hash.
fn references<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OwnedEventId>, D::Error> {
    let references = Vec::<Reference>::deserialize(deserializer)?;
    Ok(references.into_iter().map(|Reference(id)| id).collect())
}

struct Reference(OwnedEventId);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event id, or a pair of one and a hash")
            }

            fn visit_str<E: serde::de::Error>(self, id: &str) -> Result<Reference, E> {
                OwnedEventId::try_from(id).map(Reference).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Reference, A::Error> {
                let id = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                while pair.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Reference(id))
            }
        }
        deserializer.deserialize_any(Named)
    }
}

#[cfg(test)]
mod tests;
