//! Unread counts: how many events since somebody's receipts their push rules notify of.
//!
//! Nobody counts when an event is sent, however large its room. A user's sync counts what came since it counted last,
//! and now and then what it found is kept ([`keep`]). What a receipt covers is taken away when it comes
//! ([`after_receipt`]). <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
};

use ruma::{
    OwnedUserId,
    push::{Action, Ruleset},
};
use serde::Deserialize;
use serde_json::Value;

use super::{App, ignored::ignored, push_rules, read::reader::Onlooker};
use crate::{
    base::{
        ids::{Position, RoomNumber, UserNumber},
        limits,
    },
    room::{
        graph::State,
        members::Power,
        push::{self, Context},
    },
    store::{
        CountsByThread, Receipt, StoreError, Transaction, Unread, View,
        events::{Item, Place, RoomRecord, StoredEvent},
    },
};

/// The thread of what is in no thread.
pub const MAIN: &str = "main";

/// What was counted anew for a room, and from what it follows.
#[derive(Clone, Debug)]
pub struct Counted {
    pub room: RoomNumber,
    pub unread: Unread,
    /// What was kept before.
    kept: Option<Unread>,
    receipts: Vec<Receipt>,
    /// How many events were looked at.
    looked_at: usize,
}

/// Counts what is new to a user who is in a room.
pub fn unread(view: &View<'_>, room: RoomNumber, onlooker: &Onlooker) -> Result<Counted, StoreError> {
    let user = onlooker.user;
    let kept = view.unread(user, room)?;
    let receipts = view.receipts_of(user, room)?;
    let marks = Marks::of(&receipts);
    let joined_at = view.stay(user, room)?.map_or(view.position(), |stay| stay.since);
    // Who came back begins anew.
    let Unread { counted, mut counts } =
        kept.clone().filter(|kept| kept.counted >= joined_at).unwrap_or_default();
    counts.retain(|thread, _| marks.of_thread(thread) < counted);
    let from = counted.max(joined_at).max(marks.all);
    let counter = Counter::new(view, room, onlooker)?;
    let looked_at = counter.count(from, view.position(), &marks, &mut counts)?;
    let unread = Unread { counted: view.position(), counts };
    Ok(Counted { room, unread, kept, receipts, looked_at })
}

/// Keeps what took some work to count, behind the answer: nobody waits for it, and without it it is counted again.
pub fn keep(app: &App, user: UserNumber, counted: Vec<Counted>) {
    let worth: Vec<Counted> =
        counted.into_iter().filter(|counted| counted.looked_at >= limits::UNREAD_KEPT_EVERY).collect();
    if worth.is_empty() {
        return;
    }
    let store = app.store.clone();
    tokio::spawn(async move {
        let job = move |transaction: &mut Transaction<'_>| {
            for Counted { room, unread, kept, receipts, .. } in &worth {
                // Another sync or a receipt came first: what was counted here may not fit any more.
                if transaction.unread(user, *room)? == *kept
                    && transaction.receipts_of(user, *room)? == *receipts
                {
                    transaction.set_unread(user, *room, unread)?;
                }
            }
            Ok::<_, StoreError>(())
        };
        store.write(job).await
    });
}

/// What is to be kept of a room once a user has these receipts, of which the last is new; none changes nothing.
pub fn after_receipt(
    view: &View<'_>,
    room: RoomNumber,
    onlooker: &Onlooker,
    receipt: &Receipt,
) -> Result<Option<Unread>, StoreError> {
    let Some(mut kept) = view.unread(onlooker.user, room)?.filter(|kept| kept.counted > receipt.anchor)
    else {
        return Ok(None);
    };
    let mut receipts = view.receipts_of(onlooker.user, room)?;
    receipts.push(receipt.clone());
    let marks = Marks::of(&receipts);
    let mut counts = CountsByThread::new();
    let from = marks.all.max(receipt.anchor);
    Counter::new(view, room, onlooker)?.count(from, kept.counted, &marks, &mut counts)?;
    if receipt.thread.is_empty() {
        kept.counts = counts;
    } else {
        kept.counts.remove(&receipt.thread);
        kept.counts.extend(counts.remove_entry(&receipt.thread));
    }
    Ok(Some(kept))
}

/// The thread in which an event with this content is: its root. A relation to an event in a thread is in the thread,
/// too. <https://spec.matrix.org/v1.19/client-server-api/#threading>
pub fn thread_of(view: &View<'_>, room: RoomNumber, content: &Value) -> Result<Option<String>, StoreError> {
    let mut relation = content["m.relates_to"].clone();
    for _ in 0..limits::THREAD_HOPS {
        let Some(parent) = relation["event_id"].as_str() else { return Ok(None) };
        if relation["rel_type"] == "m.thread" {
            return Ok(Some(parent.to_owned()));
        }
        let Ok(parent) = <&ruma::EventId>::try_from(parent) else { return Ok(None) };
        let Some(number) = view.event_number(room, parent)? else { return Ok(None) };
        let content: Value = view.event(room, number)?.pdu.content_as().unwrap_or_default();
        relation = content["m.relates_to"].clone();
    }
    Ok(None)
}

/// Up to where somebody has read, whether others may know it or not.
struct Marks {
    all: Position,
    threads: BTreeMap<String, Position>,
}

impl Marks {
    fn of(receipts: &[Receipt]) -> Self {
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

    fn of_thread(&self, thread: &str) -> Position {
        self.threads.get(thread).map_or(self.all, |mark| self.all.max(*mark))
    }
}

/// Counts events of one room for one user.
struct Counter<'a, 'v> {
    view: &'a View<'v>,
    room: RoomNumber,
    record: RoomRecord,
    onlooker: &'a Onlooker,
    rules: Ruleset,
    ignored: HashSet<OwnedUserId>,
}

impl<'a, 'v> Counter<'a, 'v> {
    fn new(view: &'a View<'v>, room: RoomNumber, onlooker: &'a Onlooker) -> Result<Self, StoreError> {
        let record = view.room(room)?;
        let rules = push_rules::ruleset(view, onlooker.user, &onlooker.user_id)?;
        let ignored = ignored(view, onlooker.user)?;
        Ok(Self { view, room, record, onlooker, rules, ignored })
    }

    /// Adds the events after `from` and up to `to` that are not read; returns how many it looked at.
    fn count(
        &self,
        from: Position,
        to: Position,
        marks: &Marks,
        counts: &mut CountsByThread,
    ) -> Result<usize, StoreError> {
        let mut looked_at = 0;
        if from >= to || self.record.newest <= from {
            return Ok(looked_at);
        }
        let name = self.display_name()?;
        let places = (Bound::Excluded(Place::live(from)), Bound::Included(Place::live(to)));
        // From the newest, because counts end somewhere.
        for item in self.view.timeline(self.room, places).rev().take(limits::UNREAD_EVENTS) {
            let (place, Item::Event(number)) = item? else { continue };
            looked_at += 1;
            let header = self.view.header(self.room, number)?;
            if place.sub != 0 || header.sender == self.onlooker.user || header.redacted_by.is_some() {
                continue;
            }
            let stored = self.view.event(self.room, number)?;
            if !header.is_state && self.ignored.contains(stored.pdu.sender()) {
                continue;
            }
            let event: Value = serde_json::from_str(stored.pdu.json()).unwrap_or_default();
            let thread = thread_of(self.view, self.room, &event["content"])?;
            let thread = thread.unwrap_or_else(|| MAIN.to_owned());
            if place.anchor <= marks.of_thread(&thread) {
                continue;
            }
            let context = Context {
                room_id: stored.pdu.room_id(),
                members: self.record.joined,
                user_id: &self.onlooker.user_id,
                display_name: name.as_deref(),
                may_notify: &|kind| self.may_notify(&stored, kind).unwrap_or(false),
            };
            let Some(rule) = push::matching(&self.rules, &event, &context) else { continue };
            if rule.actions().iter().any(Action::should_notify) {
                let counts = counts.entry(thread).or_default();
                counts.notifications += 1;
                counts.highlights += u64::from(rule.actions().iter().any(Action::is_highlight));
            }
        }
        Ok(looked_at)
    }

    /// Whether the sender of an event had the power to notify in this way.
    fn may_notify(&self, event: &StoredEvent, kind: &str) -> Result<bool, StoreError> {
        let Some(root) = event.header.state_before else { return Ok(false) };
        let graph = self.view.graph(self.room);
        let power = Power::of(&State::stored(root), &graph, self.record.version)?;
        Ok(power.is_some_and(|power| power.may_notify(event.pdu.sender(), kind)))
    }

    fn display_name(&self) -> Result<Option<String>, StoreError> {
        #[derive(Deserialize)]
        struct Member {
            displayname: Option<String>,
        }
        let user_id = self.onlooker.user_id.as_str();
        let event = self.view.state_event(self.room, self.record.state, "m.room.member", user_id)?;
        let Some(number) = event else { return Ok(None) };
        let member: Option<Member> = self.view.event(self.room, number)?.pdu.content_as();
        Ok(member.and_then(|member| member.displayname))
    }
}
