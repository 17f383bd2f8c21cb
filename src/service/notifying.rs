//! Which events notify somebody of a room, by their push rules.
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use std::{cell::OnceCell, collections::BTreeMap};

use ruma::{
    EventId, OwnedEventId, UserId,
    push::{Action, Ruleset},
};
use serde::Deserialize;
use serde_json::Value;

use super::read::reader::Onlooker;
use crate::{
    base::{
        ids::{Position, RoomNumber},
        limits,
    },
    room::{
        graph::State,
        members::Power,
        push::{self, Context},
    },
    store::{
        Receipt, StoreError, Subscription, View,
        events::{Relation, RelationKind, RoomRecord, StoredEvent},
    },
};

/// The thread of what is in no thread.
pub const MAIN: &str = "main";

/// What judging may take in one answer: slow rules and large events would hold one of the store's few readers too long.
#[derive(Debug)]
pub struct Allowance {
    steps: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { steps: limits::JUDGING_STEPS }
    }
}

impl Allowance {
    /// Whether there is not enough left for every event.
    pub fn is_spent(&self) -> bool {
        self.steps < limits::PUSH_RULE_STEPS
    }

    /// Whether so many steps were taken.
    pub fn has_used(&self, steps: usize) -> bool {
        self.steps + steps <= limits::JUDGING_STEPS
    }

    /// Reads an event as JSON.
    pub fn read(&mut self, stored: &StoredEvent) -> Value {
        let text = stored.pdu.json();
        self.steps = self.steps.saturating_sub(text.len() * STEPS_OF_A_BYTE);
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// What reading a byte of an event takes, in steps of matching.
const STEPS_OF_A_BYTE: usize = 4;

/// Judges the events of one room for one user.
pub struct Judge<'a, 'v> {
    view: &'a View<'v>,
    room: RoomNumber,
    record: &'a RoomRecord,
    onlooker: &'a Onlooker,
    rules: &'a Ruleset,
    display_name: Option<String>,
}

impl<'a, 'v> Judge<'a, 'v> {
    pub fn new(
        view: &'a View<'v>,
        (room, record): (RoomNumber, &'a RoomRecord),
        onlooker: &'a Onlooker,
        rules: &'a Ruleset,
    ) -> Result<Self, StoreError> {
        let display_name = display_name(view, (room, record), &onlooker.user_id)?;
        Ok(Self { view, room, record, onlooker, rules, display_name })
    }

    /// What is to be done about an event, given as JSON too, with the thread that it is in; none if it is not to notify
    /// the user.
    pub fn actions(
        &self,
        (stored, event): (&StoredEvent, &Value),
        thread: Option<&str>,
        allowance: &mut Allowance,
    ) -> Option<&'a [Action]> {
        let follows = OnceCell::new();
        let follows_thread = || *follows.get_or_init(|| self.follows(thread?).unwrap_or_default());
        let context = Context {
            room_id: stored.pdu.room_id(),
            members: self.record.joined,
            user_id: &self.onlooker.user_id,
            display_name: self.display_name.as_deref(),
            may_notify: &|kind| self.may_notify(stored, kind).unwrap_or(false),
            follows_thread: &follows_thread,
        };
        let actions = push::matching(self.rules, event, &context, &mut allowance.steps)?.actions();
        actions.iter().any(Action::should_notify).then_some(actions)
    }

    /// Whether the user follows a thread. None says so of those who never followed one: what they use may know nothing of
    /// that, and they would miss what is said in threads.
    fn follows(&self, thread: &str) -> Result<Option<bool>, StoreError> {
        let Self { view, room, onlooker, .. } = *self;
        let root = <&EventId>::try_from(thread).ok().map(|root| view.event_number(room, root)).transpose()?;
        let known = root.flatten().map(|root| view.thread_subscription(onlooker.user, room, root));
        match known.transpose()?.flatten() {
            Some((subscription, _)) => Ok(Some(subscription != Subscription::Ended)),
            None => Ok(view.has_thread_subscriptions(onlooker.user)?.then_some(false)),
        }
    }

    /// Whether the sender of an event had the power to notify in this way.
    fn may_notify(&self, event: &StoredEvent, kind: &str) -> Result<bool, StoreError> {
        let Some(root) = event.header.state_before else { return Ok(false) };
        let graph = self.view.graph(self.room);
        let power = Power::of(&State::stored(root), &graph, self.record.version)?;
        Ok(power.is_some_and(|power| power.may_notify(event.pdu.sender(), kind)))
    }
}

/// What somebody is called in a room.
pub(super) fn display_name(
    view: &View<'_>,
    (room, record): (RoomNumber, &RoomRecord),
    user_id: &UserId,
) -> Result<Option<String>, StoreError> {
    #[derive(Deserialize)]
    struct Member {
        displayname: Option<String>,
    }
    let event = view.state_event(room, record.state, "m.room.member", user_id.as_str())?;
    let Some(number) = event else { return Ok(None) };
    let member: Option<Member> = view.event(room, number)?.shown(record.version).content_as();
    Ok(member.and_then(|member| member.displayname))
}

/// The thread in which an event with this content is: its root. A relation to an event in a thread is in the thread,
/// too; one to the root is not. <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
pub fn thread_of(view: &View<'_>, room: RoomNumber, content: &Value) -> Result<Option<String>, StoreError> {
    let relation = Relation::deserialize(&content["m.relates_to"]).ok();
    let (_, thread) = follow(view, room, relation)?;
    Ok(thread.map(String::from))
}

/// What an event with this relation relates to, and what that relates to, as far as to the root of a thread, which is
/// told once more.
pub fn follow(
    view: &View<'_>,
    room: RoomNumber,
    mut relation: Option<Relation>,
) -> Result<(Vec<OwnedEventId>, Option<OwnedEventId>), StoreError> {
    let mut ancestors = Vec::new();
    for _ in 0..limits::THREAD_HOPS {
        let Some(found) = relation else { break };
        ancestors.push(found.parent.clone());
        if found.kind() == RelationKind::Thread {
            return Ok((ancestors, Some(found.parent)));
        }
        let Some(number) = view.event_number(room, &found.parent)? else { break };
        relation = Relation::of(&view.event(room, number)?.pdu);
    }
    Ok((ancestors, None))
}

/// Up to where somebody has read, whether others may know it or not.
pub struct Marks {
    pub all: Position,
    threads: BTreeMap<String, Position>,
}

impl Marks {
    pub fn of(receipts: &[Receipt]) -> Self {
        let mut marks = Self { all: Position(0), threads: BTreeMap::new() };
        for receipt in receipts {
            let mark = match receipt.thread.as_str() {
                "" => &mut marks.all,
                thread => marks.threads.entry(thread.to_owned()).or_default(),
            };
            *mark = receipt.anchor.max(*mark);
        }
        marks
    }

    pub fn of_thread(&self, thread: &str) -> Position {
        self.threads.get(thread).map_or(self.all, |mark| self.all.max(*mark))
    }

    /// Whoever says something in a thread has read what came before.
    /// <https://spec.matrix.org/v1.19/client-server-api/#marking-notifications-as-read>
    pub fn said(&mut self, thread: &str, at: Position) {
        let mark = self.threads.entry(thread.to_owned()).or_default();
        *mark = at.max(*mark);
    }
}
