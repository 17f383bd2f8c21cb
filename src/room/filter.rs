//! Which events a client asked to see, and which of their fields. Pure: the rules of a filter, no access.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{
    RoomId, UserId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde_json::Value;

use crate::base::{
    glob::{self, Wildcards},
    limits,
};

/// What a filter looks at in an event.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The event's type.
    pub event_type: &'a str,
    /// Who sent it, where there is a sender.
    pub sender: Option<&'a UserId>,
    /// Whether its content has a `url` key.
    pub has_url: bool,
}

/// Tells whether a room's section of a filter lets the room through.
pub fn admits_room(filter: &RoomFilter, room_id: &RoomId) -> bool {
    lists_admit(filter.rooms.as_deref(), &filter.not_rooms, |id| id == room_id)
}

/// Tells whether a filter on events of rooms lets anything of this room through.
pub fn admits_events_of(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    lists_admit(filter.rooms.as_deref(), &filter.not_rooms, |id| id == room_id)
}

/// Tells whether a filter on events of rooms lets this event through; the room is [`admits_events_of`]'s business.
pub fn admits_event(filter: &RoomEventFilter, event: Subject<'_>) -> bool {
    let url = match filter.url_filter {
        None => true,
        Some(UrlFilter::EventsWithUrl) => event.has_url,
        Some(UrlFilter::EventsWithoutUrl) => !event.has_url,
    };
    url && types_admit(filter.types.as_deref(), &filter.not_types, event)
        && lists_admit(filter.senders.as_deref(), &filter.not_senders, |id| event.sender == Some(id))
}

/// Tells whether a filter on events of rooms lets anything of this type through.
pub fn admits_events_of_type(filter: &RoomEventFilter, event_type: &str) -> bool {
    let event = Subject { event_type, sender: None, has_url: false };
    types_admit(filter.types.as_deref(), &filter.not_types, event)
}

/// Tells whether a filter on what belongs to no room (account data, presence) lets this through.
pub fn admits_global(filter: &Filter, event: Subject<'_>) -> bool {
    types_admit(filter.types.as_deref(), &filter.not_types, event)
        && lists_admit(filter.senders.as_deref(), &filter.not_senders, |id| event.sender == Some(id))
}

/// Tells whether a filter on what belongs to no room lets anything of this type through.
pub fn admits_type(filter: &Filter, event_type: &str) -> bool {
    let event = Subject { event_type, sender: None, has_url: false };
    types_admit(filter.types.as_deref(), &filter.not_types, event)
}

/// Tells whether membership events are to be sent only for the senders of other events.
pub fn lazy_loads_members(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

/// Leaves only the fields of an event that the dot-separated `paths` name. What clients can't do without stays.
///
/// <https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths>
pub fn select_fields(event: &Value, paths: &[String]) -> Value {
    let mut selected = serde_json::Map::new();
    let needed = ["event_id", "type", "sender", "state_key", "origin_server_ts"];
    for path in needed.iter().map(|field| vec![(*field).to_owned()]).chain(paths.iter().map(|p| segments(p)))
    {
        copy(event, &path, &mut selected);
    }
    Value::Object(selected)
}

/// A list that is absent lets all through; what the list of exclusions names is out, listed or not.
fn lists_admit<T>(only: Option<&[T]>, not: &[T], is: impl Fn(&T) -> bool) -> bool {
    only.is_none_or(|list| list.iter().any(&is)) && !not.iter().any(&is)
}

/// The same for patterns of types. Those with stars take steps, of which a list has so many: what stands behind that in
/// it doesn't count. No filter that somebody made to use it comes near.
fn types_admit(only: Option<&[String]>, not: &[String], event: Subject<'_>) -> bool {
    let is_any = |patterns: &[String]| {
        let mut steps = limits::FILTER_STEPS;
        patterns.iter().any(|pattern| {
            if !pattern.contains('*') {
                return pattern == event.event_type;
            }
            let left = steps.checked_sub(pattern.len() + event.event_type.len());
            steps = left.unwrap_or_default();
            left.is_some() && glob::matches(pattern, event.event_type, Wildcards::Star)
        })
    };
    only.is_none_or(is_any) && !is_any(not)
}

/// Splits a path at its dots; a backslash makes the next dot or backslash part of a name.
fn segments(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match character {
            '\\' if matches!(next, Some('.' | '\\')) => current(&mut segments).extend(characters.next()),
            '.' => segments.push(String::new()),
            other => current(&mut segments).push(other),
        }
    }
    segments
}

fn current(segments: &mut [String]) -> &mut String {
    segments.last_mut().expect("a path has at least one segment")
}

fn copy(from: &Value, path: &[String], to: &mut serde_json::Map<String, Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(value) = from.get(name) else { return };
    if rest.is_empty() {
        to.insert(name.clone(), value.clone());
        return;
    }
    // A shorter path that was asked for too has already brought the whole of it.
    let inner = to.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let (Value::Object(inner), true) = (inner, value.is_object()) {
        copy(value, rest, inner);
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id, user_id};
    use serde_json::json;

    use super::*;

    fn filter(json: Value) -> RoomEventFilter {
        serde_json::from_value(json).unwrap()
    }

    fn message(sender: &UserId) -> Subject<'_> {
        Subject { event_type: "m.room.message", sender: Some(sender), has_url: false }
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        let alice = user_id!("@alice:example.org");
        assert!(admits_event(&filter(json!({})), message(alice)));
        assert!(admits_event(&filter(json!({"types": ["m.room.*"]})), message(alice)));
        assert!(!admits_event(&filter(json!({"types": []})), message(alice)));
        let both = json!({"types": ["m.room.*"], "not_types": ["*.message"]});
        assert!(!admits_event(&filter(both), message(alice)));
        let both = json!({"senders": [alice], "not_senders": [alice]});
        assert!(!admits_event(&filter(both), message(alice)));
        assert!(!admits_event(&filter(json!({"senders": ["@bob:example.org"]})), message(alice)));
    }

    #[test]
    fn a_list_takes_so_many_steps() {
        let alice = user_id!("@alice:example.org");
        let step = message(alice).event_type.len() + 5;
        let types = |bombs: usize, last: &str| {
            let types = (0..bombs).map(|_| "*.x.*").chain([last]);
            filter(json!({"types": types.collect::<Vec<_>>()}))
        };
        let most = limits::FILTER_STEPS / step;
        assert!(most > 1_000, "far more than anybody asks for");
        assert!(admits_event(&types(most - 1, "m.ro*"), message(alice)));
        assert!(!admits_event(&types(most, "m.ro*"), message(alice)));
        assert!(admits_event(&types(10 * most, "m.room.message"), message(alice)), "a plain name takes none");
    }

    #[test]
    fn urls_are_considered_only_if_asked() {
        let alice = user_id!("@alice:example.org");
        let picture = Subject { has_url: true, ..message(alice) };
        assert!(admits_event(&filter(json!({"contains_url": true})), picture));
        assert!(!admits_event(&filter(json!({"contains_url": true})), message(alice)));
        assert!(!admits_event(&filter(json!({"contains_url": false})), picture));
    }

    #[test]
    fn rooms_are_admitted_by_both_levels() {
        let (a, b) = (owned_room_id!("!a:example.org"), owned_room_id!("!b:example.org"));
        let mut rooms = RoomFilter::default();
        rooms.rooms = Some(vec![a.clone()]);
        assert!(admits_room(&rooms, &a));
        assert!(!admits_room(&rooms, &b));
        let mut events = RoomEventFilter::default();
        events.not_rooms = vec![a.clone()];
        assert!(!admits_events_of(&events, &a));
        let mut global = Filter::default();
        global.not_senders = vec![owned_user_id!("@alice:example.org")];
        let alice = user_id!("@alice:example.org");
        assert!(!admits_global(&global, message(alice)));
    }

    #[test]
    fn only_named_fields_stay() {
        let event = json!({
            "type": "m.room.message", "sender": "@a:b", "event_id": "$1", "origin_server_ts": 1,
            "content": {"body": "hello", "msgtype": "m.text", "m.relates_to": {"event_id": "$0", "rel_type": "m.thread"}},
            "unsigned": {"age": 1},
        });
        let paths = [
            "content.body".to_owned(),
            r"content.m\.relates_to.rel_type".to_owned(),
            "nothing.here".to_owned(),
        ];
        let expected = json!({
            "type": "m.room.message", "sender": "@a:b", "event_id": "$1", "origin_server_ts": 1,
            "content": {"body": "hello", "m.relates_to": {"rel_type": "m.thread"}},
        });
        assert_eq!(select_fields(&event, &paths), expected);
        let paths = ["content".to_owned(), "content.body".to_owned()];
        assert_eq!(select_fields(&event, &paths)["content"], event["content"]);
    }
}
