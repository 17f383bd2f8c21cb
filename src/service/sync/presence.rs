//! Writes who came and went, of those with whom the user shares a room.
//!
//! Who is woken for it, and who only hears of it with the next answer, is told in [`presence`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use ruma::{OwnedUserId, api::client::filter::Filter};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::plan::{Company, Query};
use crate::{
    base::{ids::UserNumber, limits},
    room::filter::{self, Subject},
    service::presence::{self, Change, Presence, Seen, State},
    store::{StoreError, Topic, View},
};

/// What is shown anew, of anybody.
#[derive(Default)]
pub(super) struct PresenceNews {
    pub(super) changes: Vec<Change>,
    /// Whether there is more.
    pub(super) more: bool,
    /// Who else is there; none if the query doesn't want to hear of it, or presence is off.
    pub(super) people: Option<Arc<Presence>>,
    /// On the monotonic clock.
    pub(super) now: Duration,
}

/// What a query is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) events: Vec<Box<RawValue>>,
    /// Up to which count it is told, if there is more.
    pub(super) until: Option<u64>,
    /// Whether it is worth an answer by itself.
    pub(super) is_news: bool,
    /// What to watch.
    pub(super) topics: Vec<Topic>,
}

/// Whether a query wants to hear of it at all.
pub(super) fn is_wanted(query: &Query) -> bool {
    let filter = &query.filter.presence;
    filter.limit.is_none_or(|limit| u64::from(limit) > 0) && filter::admits_type(filter, TYPE)
}

/// Writes what is new to the user, and of whom they met just now.
pub(super) fn tell(
    view: &View<'_>,
    query: &Query,
    news: &PresenceNews,
    (company, met): (&Company, &[UserNumber]),
    ignored: &HashSet<OwnedUserId>,
) -> Result<Told, StoreError> {
    let mut told = Told::default();
    let Some(people) = &news.people else { return Ok(told) };
    let small = company.rooms().filter(|(_, joined)| presence::is_small(*joined));
    told.topics = small.map(|(room, _)| Topic::Presence(room)).collect();

    let filter = &query.filter.presence;
    let limit = filter.limit.map_or(limits::PRESENCE_TOLD, |limit| u64::from(limit) as usize);
    let mut known = HashSet::new();
    for change in &news.changes {
        if told.events.len() == limit {
            break;
        }
        told.until = Some(change.count);
        let Some(nearness) = nearness(view, query.onlooker.user, company, change.user)? else { continue };
        if let Some(event) = event(view, filter, ignored, change.user, &change.seen)? {
            told.is_news |= change.is_loud && nearness == Nearness::Close;
            told.events.push(event);
            known.insert(change.user);
        }
    }
    let whole = !news.more && told.until == news.changes.last().map(|change| change.count);
    if whole {
        told.until = None;
    }
    told.is_news |= !whole;
    let met: Vec<_> = met.iter().copied().filter(|user| !known.contains(user)).collect();
    for (user, seen) in people.there(&met, news.now) {
        if told.events.len() < limit {
            told.events.extend(event(view, filter, ignored, user, &seen)?);
        }
    }
    Ok(told)
}

/// What somebody is to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nearness {
    /// They are woken for each other.
    Close,
    /// They hear of each other when there is an answer anyway; so does a user of themself.
    Far,
}

/// None if they share no room.
fn nearness(
    view: &View<'_>,
    user: UserNumber,
    company: &Company,
    other: UserNumber,
) -> Result<Option<Nearness>, StoreError> {
    if other == user {
        return Ok(Some(Nearness::Far));
    }
    let mut nearness = None;
    for room in view.joined_rooms(other) {
        if let Some(joined) = company.joined(room?) {
            if presence::is_small(joined) {
                return Ok(Some(Nearness::Close));
            }
            nearness = Some(Nearness::Far);
        }
    }
    Ok(nearness)
}

/// The event that shows somebody, unless the filter is against it or the user ignores them.
/// <https://spec.matrix.org/v1.19/client-server-api/#mpresence>
fn event(
    view: &View<'_>,
    filter: &Filter,
    ignored: &HashSet<OwnedUserId>,
    user: UserNumber,
    seen: &Seen,
) -> Result<Option<Box<RawValue>>, StoreError> {
    let sender = view.user_id(user)?;
    let subject = Subject { event_type: TYPE, sender: Some(&sender), has_url: false };
    if ignored.contains(&sender) || !filter::admits_global(filter, subject) {
        return Ok(None);
    }
    let event = json!({"type": TYPE, "sender": sender, "content": content(seen)});
    Ok(Some(to_raw_value(&event).expect("JSON has a text")))
}

fn content(seen: &Seen) -> Value {
    let mut content = json!({"presence": seen.shown.state.name()});
    if let Some(idle) = seen.idle {
        content["last_active_ago"] = json!(idle.as_millis() as u64);
    }
    if seen.shown.state == State::Online {
        content["currently_active"] = json!(seen.shown.active);
    }
    if let Some(status) = &seen.shown.status {
        content["status_msg"] = json!(**status);
    }
    content
}

const TYPE: &str = "m.presence";
