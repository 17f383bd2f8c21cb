//! Unread counts: how many events since somebody's receipts their push rules notify of.
//!
//! Nobody counts when an event is sent, however large its room. A user's sync counts what came since it counted last,
//! and now and then what it found is kept ([`keep`]). What a receipt covers is taken away when it comes
//! ([`after_receipt`]). <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::ops::Bound;

use ruma::push::Action;

use super::{
    App,
    ignored::ignored,
    notifying::{Allowance, Judge, MAIN, Marks, thread_of},
    push_rules,
    read::reader::Onlooker,
};
use crate::{
    base::{
        ids::{Position, RoomNumber, UserNumber},
        limits,
    },
    store::{
        CountsByThread, Receipt, StoreError, Transaction, Unread, View,
        events::{Item, Place},
    },
};

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

/// Counts what is new to a user who is in a room. What nothing is left for is not counted before the next answer.
pub fn unread(
    view: &View<'_>,
    room: RoomNumber,
    onlooker: &Onlooker,
    allowance: &mut Allowance,
) -> Result<Counted, StoreError> {
    let user = onlooker.user;
    let kept = view.unread(user, room)?;
    let receipts = view.receipts_of(user, room)?;
    let mut marks = Marks::of(&receipts);
    let joined_at = view.stay(user, room)?.map_or(view.position(), |stay| stay.since);
    // Who came back begins anew.
    let Unread { counted, mut counts } =
        kept.clone().filter(|kept| kept.counted >= joined_at).unwrap_or_default();
    counts.retain(|thread, _| marks.of_thread(thread) < counted);
    let from = counted.max(joined_at).max(marks.all);
    if allowance.is_spent() {
        let unread = Unread { counted, counts };
        return Ok(Counted { room, unread, kept, receipts, looked_at: 0 });
    }
    let counter = Counter { view, room, onlooker };
    let looked_at = counter.count(from, view.position(), &mut marks, (&mut counts, allowance))?;
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
    let mut marks = Marks::of(&receipts);
    let mut counts = CountsByThread::new();
    let from = marks.all.max(receipt.anchor);
    let counter = Counter { view, room, onlooker };
    counter.count(from, kept.counted, &mut marks, (&mut counts, &mut Allowance::default()))?;
    if receipt.thread.is_empty() {
        kept.counts = counts;
    } else {
        kept.counts.remove(&receipt.thread);
        kept.counts.extend(counts.remove_entry(&receipt.thread));
    }
    Ok(Some(kept))
}

/// Counts events of one room for one user.
struct Counter<'a, 'v> {
    view: &'a View<'v>,
    room: RoomNumber,
    onlooker: &'a Onlooker,
}

impl Counter<'_, '_> {
    /// Adds the events after `from` and up to `to` that are not read, as long as anything is left; what the user said
    /// there ends what was counted of its thread. Returns how many it looked at.
    fn count(
        &self,
        from: Position,
        to: Position,
        marks: &mut Marks,
        (counts, allowance): (&mut CountsByThread, &mut Allowance),
    ) -> Result<usize, StoreError> {
        let mut looked_at = 0;
        let record = self.view.room(self.room)?;
        if from >= to || record.newest <= from {
            return Ok(looked_at);
        }
        let rules = push_rules::ruleset(self.view, self.onlooker.user, &self.onlooker.user_id)?;
        let judge = Judge::new(self.view, (self.room, &record), self.onlooker, &rules)?;
        let ignored = ignored(self.view, self.onlooker.user)?;
        let mut new = CountsByThread::new();
        let places = (Bound::Excluded(Place::live(from)), Bound::Included(Place::live(to)));
        // From the newest, because counts end somewhere.
        for item in self.view.timeline(self.room, places).rev().take(limits::UNREAD_EVENTS) {
            let (place, Item::Event(number)) = item? else { continue };
            if allowance.is_spent() {
                break;
            }
            looked_at += 1;
            let header = self.view.header(self.room, number)?;
            let is_own = header.sender == self.onlooker.user;
            let matters = if is_own { !header.is_state } else { header.redacted_by.is_none() };
            if place.sub != 0 || !matters {
                continue;
            }
            let stored = self.view.event(self.room, number)?;
            if !header.is_state && ignored.contains(stored.pdu.sender()) {
                continue;
            }
            let event = allowance.read(&stored);
            let root = thread_of(self.view, self.room, &event["content"])?;
            let thread = root.as_deref().unwrap_or(MAIN);
            if place.anchor <= marks.of_thread(thread) {
                continue;
            }
            if is_own {
                marks.said(thread, place.anchor);
                counts.remove(thread);
            } else if let Some(actions) = judge.actions((&stored, &event), root.as_deref(), allowance) {
                let counts = new.entry(thread.to_owned()).or_default();
                counts.notifications += 1;
                counts.highlights += u64::from(actions.iter().any(Action::is_highlight));
            }
        }
        for (thread, new) in new {
            let counts = counts.entry(thread).or_default();
            counts.notifications += new.notifications;
            counts.highlights += new.highlights;
        }
        Ok(looked_at)
    }
}
