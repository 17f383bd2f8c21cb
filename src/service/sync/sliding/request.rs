//! What a client asks, whatever shape it has.

use std::sync::Arc;

use ruma::OwnedRoomId;
use serde::Deserialize;

use super::filters::Filters;
use crate::{
    base::{ids::Position, limits},
    service::read::reader::Onlooker,
};

/// The shape of a request, which is that of its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As clients spoke it before the proposal was accepted, at its unstable path.
    Experimental,
    /// As the proposal has it.
    Accepted,
}

/// A request.
pub struct Ask {
    pub onlooker: Onlooker,
    pub shape: Shape,
    /// Which of the device's connections this is.
    pub connection: String,
    /// Told back to the client.
    pub transaction: Option<String>,
    pub lists: Vec<(String, List)>,
    pub subscriptions: Vec<(OwnedRoomId, RoomConfig)>,
    pub extensions: Extensions,
}

/// A choice of rooms by what they are and when something happened there.
pub struct List {
    pub config: RoomConfig,
    /// First and last places, from zero on; none is all rooms.
    pub ranges: Option<Vec<(u64, u64)>>,
    pub filters: Filters,
}

/// What of a room is wanted.
pub struct RoomConfig {
    /// How many events of its timeline at most.
    pub timeline: u16,
    pub state: Arc<Selection>,
}

/// Which entries of a room's state are wanted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// A hash of the rest.
    pub(super) name: [u8; 16],
    /// Sorted.
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Members are told as they become of interest; only those that are named are always wanted.
    pub lazy: bool,
}

/// A type and a state key; none is any.
pub type Pattern = (Option<String>, Option<String>);

/// What is told beside rooms.
#[derive(Default)]
pub struct Extensions {
    pub to_device: Option<ToDevice>,
    pub e2ee: bool,
    pub account_data: Option<Scope>,
    pub receipts: Option<Scope>,
    pub typing: Option<Scope>,
    /// How many changes of subscriptions to threads at most.
    pub threads: Option<usize>,
}

/// Messages to the device.
pub struct ToDevice {
    pub limit: usize,
    /// Up to where it has them.
    pub since: Position,
    /// It has some, but not of this store's time.
    pub is_lost: bool,
}

/// For which of the rooms that are looked at something is wanted.
#[derive(Default, Deserialize)]
pub struct Scope {
    #[serde(default)]
    pub enabled: bool,
    /// Those in these lists; none is all lists.
    lists: Option<Vec<String>>,
    /// Those of these that are subscribed to; none is all of them.
    rooms: Option<Vec<String>>,
}

impl Selection {
    pub fn new(mut include: Vec<Pattern>, mut exclude: Vec<Pattern>, lazy: bool) -> Self {
        include.sort_unstable();
        include.dedup();
        exclude.sort_unstable();
        exclude.dedup();
        let mut hasher = blake3::Hasher::new();
        for patterns in [&include, &exclude] {
            for text in patterns.iter().flat_map(|(kind, key)| [kind, key]) {
                let length = text.as_ref().map_or(u64::MAX, |text| text.len() as u64);
                hasher.update(&length.to_be_bytes()).update(text.as_deref().unwrap_or_default().as_bytes());
            }
            hasher.update(&[u8::from(lazy)]);
        }
        let mut name = [0; 16];
        hasher.finalize_xof().fill(&mut name);
        Self { name, include, exclude, lazy }
    }

    /// Whether an entry is wanted whatever happens.
    pub(super) fn has(&self, kind: &str, key: &str) -> bool {
        let is_member = self.lazy && kind == MEMBER;
        has(&self.include, kind, key, !is_member) && !has(&self.exclude, kind, key, true)
    }

    /// The entries that are wanted by name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.include.iter().filter_map(|(kind, key)| Some((kind.as_deref()?, key.as_deref()?)))
    }

    /// Whether entries are wanted that it doesn't name, but for those that another one wants, too.
    pub(super) fn is_open_beyond(&self, others: &[Arc<Self>]) -> bool {
        let mut open = self.include.iter().filter(|(kind, key)| kind.is_none() || key.is_none());
        open.any(|pattern| {
            others.iter().all(|other| {
                other.include.binary_search(pattern).is_err()
                    || other.exclude != self.exclude
                    || (other.lazy && !self.lazy)
            })
        })
    }

    /// About how many bytes it takes.
    pub fn held(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let patterns = self.include.iter().chain(&self.exclude);
        patterns.map(|(kind, key)| size_of::<Pattern>() + text(kind) + text(key)).sum()
    }
}

/// Whether patterns have an entry; those of any key only if they count.
fn has(patterns: &[Pattern], kind: &str, key: &str, any_key: bool) -> bool {
    let is_there = |wanted: (Option<&str>, Option<&str>)| {
        patterns.binary_search_by(|(kind, key)| (kind.as_deref(), key.as_deref()).cmp(&wanted)).is_ok()
    };
    is_there((Some(kind), Some(key)))
        || is_there((None, Some(key)))
        || (any_key && (is_there((Some(kind), None)) || is_there((None, None))))
}

impl Scope {
    /// Whether it names more than a request may have.
    pub fn is_long(&self) -> bool {
        let is_more =
            |names: &Option<Vec<String>>, most| names.as_ref().is_some_and(|names| names.len() > most);
        is_more(&self.lists, limits::SLIDING_LISTS) || is_more(&self.rooms, limits::SLIDING_SUBSCRIPTIONS)
    }

    /// Whether it has a room of these lists, which the client subscribes to or not; the room's id is asked for only then.
    pub(super) fn has<E>(
        &self,
        lists: &[&str],
        subscribed: bool,
        room_id: impl FnOnce() -> Result<OwnedRoomId, E>,
    ) -> Result<bool, E> {
        let names = |names: &Option<Vec<String>>, name: &str| match names {
            None => true,
            Some(names) => names.iter().any(|known| known == name || known == "*"),
        };
        Ok(lists.iter().any(|list| names(&self.lists, list))
            || (subscribed && names(&self.rooms, room_id()?.as_str())))
    }
}

const MEMBER: &str = "m.room.member";

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ruma::room_id;

    use super::*;

    fn pattern(kind: &str, key: &str) -> Pattern {
        let any = |text: &str| (text != "*").then(|| text.to_owned());
        (any(kind), any(key))
    }

    #[test]
    fn what_is_excluded_is_not_wanted_and_members_only_by_name_if_lazily() {
        let all = || vec![pattern("*", "*"), pattern("m.room.member", "@me:x")];
        for (selection, wanted) in [
            (Selection::new(all(), vec![], false), [true, true, true, true]),
            (Selection::new(all(), vec![], true), [true, true, true, false]),
            (Selection::new(all(), vec![pattern("m.room.topic", "*")], true), [true, false, true, false]),
            (Selection::new(all(), vec![pattern("*", "")], false), [false, false, true, true]),
            (Selection::new(vec![pattern("m.room.topic", "")], vec![], true), [false, true, false, false]),
            (Selection::new(vec![pattern("*", "@me:x")], vec![], true), [false, false, true, false]),
            (Selection::new(vec![], vec![], false), [false; 4]),
        ] {
            let entries = [
                ("m.room.name", ""),
                ("m.room.topic", ""),
                ("m.room.member", "@me:x"),
                ("m.room.member", "@you:x"),
            ];
            assert_eq!(entries.map(|(kind, key)| selection.has(kind, key)), wanted);
        }
    }

    #[test]
    fn a_state_is_gone_through_only_for_what_is_new_in_a_choice() {
        let [all, named, members] = [("*", "*"), ("m.room.name", ""), ("m.room.member", "*")]
            .map(|(kind, key)| Arc::new(Selection::new(vec![pattern(kind, key)], vec![], false)));
        assert!(all.is_open_beyond(&[named.clone(), members.clone()]));
        assert!(!all.is_open_beyond(&[named.clone(), all.clone()]));
        assert!(!named.is_open_beyond(&[]));
        let lazy = Arc::new(Selection::new(vec![pattern("*", "*")], vec![], true));
        assert!(all.is_open_beyond(std::slice::from_ref(&lazy)), "others' members are new");
        assert!(!lazy.is_open_beyond(&[all]));
    }

    #[test]
    fn a_scope_is_of_lists_and_of_subscriptions() {
        let scope = |json| serde_json::from_value::<Scope>(json).unwrap();
        for (json, expected) in [
            (serde_json::json!({}), [true, true, false]),
            (serde_json::json!({"lists": ["b"]}), [false, true, false]),
            (serde_json::json!({"rooms": []}), [true, false, false]),
            (serde_json::json!({"lists": [], "rooms": ["*"]}), [false, true, false]),
            (serde_json::json!({"lists": [], "rooms": ["!other:x"]}), [false, false, false]),
        ] {
            let scope = scope(json);
            let has = [(&["a"][..], false), (&[], true), (&[], false)];
            let room_id = || Ok::<_, Infallible>(room_id!("!r:x").to_owned());
            assert_eq!(
                has.map(|(lists, subscribed)| scope.has(lists, subscribed, room_id)),
                expected.map(Ok)
            );
        }
    }
}
