//! What is indexed of an event.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Deserialize;

use super::{News, words};
use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber},
        limits,
    },
    room::{pdu::Pdu, redact},
    store::{
        Indexed, Part, SearchIndex, StoreError, View,
        events::{Header, Logged, Relation, RelationKind},
    },
};

/// What is to be indexed anew because of what follows a position in the log.
pub(super) fn documents(view: &View<'_>, index: &SearchIndex, after: Position) -> Result<News, StoreError> {
    let (logged, until) = view.placed_after(after, limits::INDEXED_ENTRIES)?;
    let mut news = News { events: BTreeMap::new(), reached: until };
    let mut bytes = 0;
    for Logged { position, number, header } in logged {
        let read = concerned(view, index, number, &header).and_then(|concerned| {
            for number in concerned {
                let Entry::Vacant(entry) = news.events.entry(number) else { continue };
                let document = document(view, header.room, number)?;
                bytes += document.as_ref().map_or(0, |document| document.text.len());
                entry.insert(document);
            }
            Ok(())
        });
        match read {
            // What can't be read is `verify`'s to tell, and holds up nothing.
            Err(error @ StoreError::Corrupt { .. }) if !error.is_damaged_index() => {
                tracing::error!(%error, "an event can't be indexed");
            }
            read => read?,
        }
        if bytes >= limits::INDEXED_BYTES {
            news.reached = position;
            break;
        }
    }
    Ok(news)
}

/// The events that are found by other words, or no more, because of one.
fn concerned(
    view: &View<'_>,
    index: &SearchIndex,
    number: EventNumber,
    header: &Header,
) -> Result<Vec<EventNumber>, StoreError> {
    let room = header.room;
    let kind = view.key_name(room, header.key)?.kind;
    if kind == REDACTION {
        let version = view.room(room)?.version;
        let Some(target) = redact::target(&view.event(room, number)?.pdu, version) else {
            return Ok(Vec::new());
        };
        let Some(target) = view.event_number(room, &target)? else { return Ok(Vec::new()) };
        // What was redacted says no more what it replaced.
        return Ok(index.replaced_by(target)?.into_iter().chain([target]).collect());
    }
    if part_of(&kind, header).is_none() {
        return Ok(Vec::new());
    }
    let replaced = match Relation::of(&view.event(room, number)?.pdu) {
        Some(relation) if relation.kind() == RelationKind::Replace => {
            view.event_number(room, &relation.parent)?
        }
        _ => None,
    };
    Ok(replaced.into_iter().chain([number]).collect())
}

/// What is indexed of an event as it is now; nothing if it is not to be found.
fn document(view: &View<'_>, room: RoomNumber, number: EventNumber) -> Result<Option<Indexed>, StoreError> {
    let header = view.header(room, number)?;
    let kind = view.key_name(room, header.key)?.kind;
    let Some(part) = part_of(&kind, &header) else { return Ok(None) };
    if header.place.is_none() || header.redacted_by.is_some() || is_encrypted(view, room)? {
        return Ok(None);
    }
    let event = view.event(room, number)?.pdu;
    if Relation::of(&event).is_some_and(|relation| relation.kind() == RelationKind::Replace) {
        return Ok(None);
    }
    let edit = if part == Part::Body { newest_edit(view, &header, &event)? } else { None };
    let edited = edit.and_then(|(number, event)| Some((number, edited_body(&event)?)));
    let (edit, text) = match edited {
        Some((number, text)) => (Some(number), Some(text)),
        None => (None, text_of(part, &event)),
    };
    let text = words::indexed(&text.unwrap_or_default());
    Ok((!text.is_empty()).then_some(Indexed { room, sender: header.sender, part, edit, text }))
}

/// Whether a room is encrypted now.
pub(in crate::service) fn is_encrypted(view: &View<'_>, room: RoomNumber) -> Result<bool, StoreError> {
    Ok(view.state_event(room, view.room(room)?.state, "m.room.encryption", "")?.is_some())
}

/// The event that replaces a message, of those that may.
/// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
fn newest_edit(
    view: &View<'_>,
    header: &Header,
    event: &Pdu,
) -> Result<Option<(EventNumber, std::sync::Arc<Pdu>)>, StoreError> {
    let room = header.room;
    let parent = view.parent(room, event.event_id());
    let mut newest = None;
    for child in view.children(parent, RelationKind::Replace, ..).rev().take(limits::REPLACEMENTS) {
        let child = child?;
        if child.can_replace && (child.sender, child.key) == (header.sender, header.key) {
            let id = view.event_id(room, child.number)?;
            newest = newest.max(Some((child.origin_server_ts, id, child.number)));
        }
    }
    let Some((_, _, number)) = newest else { return Ok(None) };
    Ok(Some((number, view.event(room, number)?.pdu)))
}

fn part_of(kind: &str, header: &Header) -> Option<Part> {
    match kind {
        MESSAGE if !header.is_state => Some(Part::Body),
        NAME if header.is_state => Some(Part::Name),
        TOPIC if header.is_state => Some(Part::Topic),
        _ => None,
    }
}

fn text_of(part: Part, event: &Pdu) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        body: String,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    #[derive(Deserialize)]
    struct Topic {
        topic: Option<String>,
    }
    #[derive(Deserialize)]
    struct Rich {
        #[serde(rename = "m.topic")]
        rich: Texts,
    }
    #[derive(Deserialize)]
    struct Texts {
        #[serde(rename = "m.text")]
        texts: Vec<Text>,
    }
    #[derive(Deserialize)]
    struct Text {
        mimetype: Option<String>,
        body: String,
    }
    match part {
        Part::Body => event.content_as::<Body>().map(|content| content.body),
        Part::Name => event.content_as::<Name>().map(|content| content.name),
        Part::Topic => {
            let topic = event.content_as::<Topic>().and_then(|content| content.topic);
            let plain = event.content_as::<Rich>().and_then(|content| {
                let is_plain = |text: &Text| text.mimetype.as_deref().is_none_or(|kind| kind == "text/plain");
                content.rich.texts.into_iter().find(is_plain).map(|text| text.body)
            });
            match (topic, plain) {
                (Some(topic), Some(plain)) if topic != plain => Some(format!("{topic}\n{plain}")),
                (topic, plain) => topic.or(plain),
            }
        }
    }
}

fn edited_body(event: &Pdu) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        new: Body,
    }
    #[derive(Deserialize)]
    struct Body {
        body: String,
    }
    event.content_as::<Content>().map(|content| content.new.body)
}

pub(in crate::service) const MESSAGE: &str = "m.room.message";
pub(in crate::service) const NAME: &str = "m.room.name";
pub(in crate::service) const TOPIC: &str = "m.room.topic";
const REDACTION: &str = "m.room.redaction";
