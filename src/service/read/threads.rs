//! The threads of a room. <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>
//!
//! They are met by walking back through what was said in threads: whatever is the last word of its thread, for this
//! user, stands for the thread. So the order needs no record for each thread and user, which every new word and every
//! redaction would move, and fits whom the user ignores and what they may not see. A step reads one small entry.

use std::collections::{HashMap, hash_map::Entry};

use ruma::{OwnedRoomId, events::AnyTimelineEvent, serde::Raw};

use super::{
    access::ReadError,
    look::{Look, look},
    reader::Onlooker,
    token::{PageToken, ThreadsToken},
};
use crate::{
    base::limits,
    service::App,
    store::events::{Parent, Place, Relation},
};

/// Which threads to tell.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub from: Option<String>,
    pub limit: usize,
    /// Only those in which the user said something, or that they began.
    pub participated: bool,
}

/// A page of them: the events at which they begin, the thread with the newest word first.
#[derive(Debug)]
pub struct Threads {
    pub roots: Vec<Raw<AnyTimelineEvent>>,
    /// Where to go on; none if there is nothing more.
    pub next: Option<String>,
}

/// Tells the threads of a room.
///
/// # Errors
/// The user may not see the room, or the token is none of ours.
pub async fn threads(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    wanted: Wanted,
) -> Result<Threads, ReadError> {
    let from: Option<ThreadsToken> = wanted.from.as_deref().map(str::parse).transpose()?;
    look(app, onlooker, room_id, move |look| {
        let ThreadsToken { as_of, before } = from.unwrap_or(ThreadsToken::as_of(look.access.until()));
        // Who pages on sees no thread twice and misses none, whatever is said meanwhile.
        let as_of = as_of.min(look.access.until());
        let PageToken(end) = PageToken::after(Place::live(as_of));
        let limit = wanted.limit.min(limits::THREADS_PAGE);
        let mut threads = Threads { roots: Vec::new(), next: None };
        let mut newest: HashMap<Parent, Option<Place>> = HashMap::new();
        let mut bytes = 0;
        let words = look.view.threads(look.room(), Place::FIRST..before.min(end)).rev();
        for (steps, word) in words.enumerate() {
            let (place, thread) = word?;
            let is_full = threads.roots.len() >= limit || bytes >= limits::PAGE_BYTES;
            if is_full || steps >= limits::THREADS_STEPS {
                let PageToken(before) = PageToken::after(place);
                threads.next = Some(ThreadsToken { as_of, before }.to_string());
                break;
            }
            let newest = match newest.entry(thread) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => *unknown.insert(look.reader.newest_in(thread, Place::live(as_of))?),
            };
            if newest == Some(place)
                && let Some(root) = root(look, thread, &wanted)?
            {
                bytes += root.json().get().len();
                threads.roots.push(root);
            }
        }
        Ok(threads)
    })
    .await
}

/// The event at which a thread begins, if the user may see it and wants to.
fn root(
    look: &Look<'_>,
    thread: Parent,
    wanted: &Wanted,
) -> Result<Option<Raw<AnyTimelineEvent>>, ReadError> {
    let Some(number) = look.view.event_of_parent(thread)? else { return Ok(None) };
    let Some(event) = look.reader.visible_or_redacted(number)? else { return Ok(None) };
    let stored = look.view.event(look.room(), number)?;
    if Relation::of(&stored.pdu).is_some()
        || wanted.participated && !look.reader.participates(thread, &stored.header)?
    {
        return Ok(None);
    }
    Ok(Some(look.reader.write(&event)?))
}
