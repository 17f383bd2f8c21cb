//! A piece of the past as another server told it: its events get their states, oldest first, and then their places, newest
//! first, so that what is still missing is always what comes before the last one that has a place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedEventId, OwnedServerName};

use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber},
        limits,
        ordered::Ordered,
    },
    room::{
        graph::{Graph, State},
        pdu::Pdu,
        receive::{Judgement, judge_after, state_after},
        resolve::ResolveError,
    },
    service::{
        federation::{
            fetch::Source,
            told::{self, Witnesses},
        },
        write::{outliers, redactions},
    },
    store::{
        StoreError, Transaction, View,
        events::{Admission, NewEvent, Place},
    },
};

/// Events of one gap.
pub(super) struct Batch {
    source: Source,
    witnesses: Witnesses,
    /// What is missing of which they are the past.
    missing: Vec<OwnedEventId>,
    /// The latest first, each before its parents.
    events: Vec<Pdu>,
}

/// An event with the state before it, if that could be found out.
#[derive(Clone)]
pub(in crate::service::federation) struct Judged {
    pub(in crate::service::federation) pdu: Pdu,
    pub(in crate::service::federation) before: State,
}

impl Batch {
    /// Those of some events that lead up to the missing ones.
    pub(super) fn new(
        source: Source,
        servers: Vec<OwnedServerName>,
        missing: &[OwnedEventId],
        told: Vec<Pdu>,
    ) -> Self {
        let mut known: HashMap<OwnedEventId, Pdu> =
            told.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        let mut reached: HashMap<OwnedEventId, Pdu> = HashMap::new();
        let mut ahead = missing.to_vec();
        while let Some(id) = ahead.pop() {
            if let Some(pdu) = known.remove(&id) {
                ahead.extend(pdu.prev_events().iter().cloned());
                reached.insert(id, pdu);
            }
        }
        let witnesses = Witnesses { servers, may_be_silent: true, believed: None, may_lack: true };
        Self { source, witnesses, missing: missing.to_vec(), events: latest_first(reached) }
    }

    /// Leaves away what is known with its state, and what only leads up to that: it is no part of this gap.
    async fn new_ones(mut self) -> Result<Self, StoreError> {
        let room = self.source.room.number;
        let ids: Vec<_> = self.events.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let read = move |view: &View<'_>| {
            let mut known = BTreeSet::new();
            for id in ids {
                if let Some(number) = view.event_number(room, &id)?
                    && view.header(room, number)?.state_before.is_some()
                {
                    known.insert(id);
                }
            }
            Ok::<_, StoreError>(known)
        };
        let known = self.source.app.store.read(read).await?;
        // Each stands before its parents.
        let mut wanted: BTreeSet<_> = self.missing.iter().cloned().into_set();
        self.events.retain(|pdu| {
            let is_new = wanted.contains(pdu.event_id()) && !known.contains(pdu.event_id());
            if is_new {
                wanted.extend(pdu.prev_events().iter().cloned());
            }
            is_new
        });
        Ok(self)
    }

    /// Gives the events their places; tells whether any has one, or the gap is none.
    pub(super) async fn place(self, anchor: Position) -> Result<bool, StoreError> {
        if self.events.is_empty() {
            return Ok(false);
        }
        let this = self.new_ones().await?;
        let told = this.told().await?;
        let Self { source, events, .. } = this;
        if events.is_empty() {
            let room = source.room.number;
            let job = move |transaction: &mut Transaction<'_>| {
                put(transaction, room, anchor, &[])?;
                Ok(transaction.gap(room, anchor)?.is_none())
            };
            return source.app.store.write(job).await;
        }
        outliers::keep(&source.app.store, source.room.number, events.clone()).await?;
        let unknown = told::unknown(&source, events.iter().map(|pdu| pdu.event_id().to_owned()).collect());
        let unknown: BTreeSet<_> = unknown.await?.into_iter().into_set();
        for pdu in events.iter().filter(|pdu| unknown.contains(pdu.event_id())).take(limits::PARENTS_EDGES) {
            told::permissions(&source, pdu.event_id(), pdu.auth_events().to_vec()).await?;
        }
        if !unknown.is_empty() {
            outliers::keep(&source.app.store, source.room.number, events.clone()).await?;
        }
        let room = source.room.number;
        let mut judged = judged(&source, events, told).await?.into_iter().peekable();
        let any = judged.peek().is_some();
        while judged.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            let weight =
                |judged: &Judged| judged.pdu.json().len() + judged.before.changes.len() * CHANGE_BYTES;
            while some.len() < limits::JOB_EVENTS
                && let Some(next) =
                    judged.next_if(|next| some.is_empty() || bytes + weight(next) <= limits::EVENT_BYTES)
            {
                bytes += weight(&next);
                some.push(next);
            }
            let job = move |transaction: &mut Transaction<'_>| put(transaction, room, anchor, &some);
            source.app.store.write(job).await?;
        }
        Ok(any)
    }

    /// The states before those events whose parents are neither here nor among them.
    async fn told(&self) -> Result<BTreeMap<OwnedEventId, State>, StoreError> {
        let (room, events) = (self.source.room.number, self.events.clone());
        let read = move |view: &View<'_>| {
            let own: BTreeSet<_> = events.iter().map(|pdu| pdu.event_id().to_owned()).into_set();
            let mut edges = Vec::new();
            for pdu in events {
                let missing = view.missing_parents(room, &pdu)?;
                if missing.iter().any(|id| !own.contains(id)) {
                    edges.push(pdu);
                }
            }
            Ok::<_, StoreError>(edges)
        };
        let edges = self.source.app.store.read(read).await?;
        let mut told = BTreeMap::new();
        for edge in edges.into_iter().rev().take(limits::PARENTS_EDGES) {
            let state = told::before(&self.source, &edge, &self.witnesses).await?;
            told.extend(state.map(|state| (edge.event_id().to_owned(), state)));
        }
        Ok(told)
    }
}

/// The events in the order of their depths, the greatest first, and each before its parents.
fn latest_first(mut events: HashMap<OwnedEventId, Pdu>) -> Vec<Pdu> {
    let mut children: HashMap<OwnedEventId, usize> = HashMap::new();
    for pdu in events.values() {
        for parent in pdu.prev_events().iter().into_set() {
            *children.entry(parent.clone()).or_default() += 1;
        }
    }
    let rank = |pdu: &Pdu| (pdu.depth(), pdu.origin_server_ts(), pdu.event_id().to_owned());
    let free = events.values().filter(|pdu| !children.contains_key(pdu.event_id()));
    let mut ahead: BTreeSet<_> = free.map(rank).into_set();
    let mut order = Vec::with_capacity(events.len());
    while let Some((.., id)) = ahead.pop_last() {
        let Some(pdu) = events.remove(&id) else { continue };
        for parent in pdu.prev_events().iter().into_set() {
            let Some(left) = children.get_mut(parent) else { continue };
            *left -= 1;
            if *left == 0
                && let Some(parent) = events.get(parent)
            {
                ahead.insert(rank(parent));
            }
        }
        order.push(pdu);
    }
    order
}

/// Works out the state before each event that is stored; in the same order. Between some and some more, others are judged.
async fn judged(
    source: &Source,
    events: Vec<Pdu>,
    told: BTreeMap<OwnedEventId, State>,
) -> Result<Vec<Judged>, StoreError> {
    let room = source.room.number;
    let mut judging = Judging { told, after: HashMap::new(), judged: Vec::with_capacity(events.len()) };
    let mut events = events.into_iter().rev();
    loop {
        let some: Vec<_> = events.by_ref().take(limits::BACKFILL_STEP).collect();
        if some.is_empty() {
            break;
        }
        let _place = source.app.lanes.judge().await;
        let read = move |view: &View<'_>| {
            judging.judge(view, room, some)?;
            Ok::<_, StoreError>(judging)
        };
        judging = source.app.store.read(read).await?;
    }
    judging.judged.reverse();
    Ok(judging.judged)
}

/// How far the events of a batch are judged.
struct Judging {
    told: BTreeMap<OwnedEventId, State>,
    /// The states after those that are.
    after: HashMap<OwnedEventId, State>,
    judged: Vec<Judged>,
}

impl Judging {
    fn judge(&mut self, view: &View<'_>, room: RoomNumber, events: Vec<Pdu>) -> Result<(), StoreError> {
        let (version, graph) = (view.room(room)?.version, view.graph(room));
        for pdu in events {
            let Some(number) = graph.number(pdu.event_id())? else { continue };
            let told = self.told.get(pdu.event_id());
            let Some(follows) = followed(&graph, &pdu, &self.after, told)? else { continue };
            let (pdu, before) = match judge_after(pdu, follows, &graph, version) {
                Ok(Judgement::Accepted { pdu, before } | Judgement::Rejected { pdu, before, .. }) => {
                    (pdu, before)
                }
                Ok(Judgement::Needs(_)) => continue,
                Err(ResolveError::Graph(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "the state before a past event is not to be found out");
                    continue;
                }
            };
            let mut state = before.clone();
            if let Some(key) = pdu.key().filter(|_| !pdu.rejected()) {
                state.set(key, number);
            }
            self.after.insert(pdu.event_id().to_owned(), state);
            self.judged.push(Judged { pdu, before });
        }
        Ok(())
    }
}

/// Judges events that are stored, each behind those that it follows; leaves away those whose past is not known.
pub(in crate::service::federation) fn judge(
    view: &View<'_>,
    room: RoomNumber,
    events: Vec<Pdu>,
) -> Result<Vec<Judged>, StoreError> {
    let judged = Vec::with_capacity(events.len());
    let mut judging = Judging { told: BTreeMap::new(), after: HashMap::new(), judged };
    judging.judge(view, room, events)?;
    Ok(judging.judged)
}

/// The states that an event follows; none if some are not known.
fn followed<G: Graph<Error = StoreError>>(
    graph: &G,
    pdu: &Pdu,
    after: &HashMap<OwnedEventId, State>,
    told: Option<&State>,
) -> Result<Option<Vec<State>>, StoreError> {
    let mut follows: Vec<State> = told.into_iter().cloned().collect();
    for parent in pdu.prev_events() {
        let number: Option<EventNumber> = graph.number(parent)?;
        let known = match (after.get(parent), number) {
            (Some(state), _) => Some(state.clone()),
            (None, Some(number)) => state_after(number, graph)?,
            (None, None) => None,
        };
        match known {
            Some(state) => follows.push(state),
            None if told.is_some() => {}
            None => return Ok(None),
        }
    }
    Ok(Some(follows))
}

/// Puts events before all that leads up to the one at `anchor`, and notes what is missing then.
fn put(
    transaction: &mut Transaction<'_>,
    room: RoomNumber,
    anchor: Position,
    events: &[Judged],
) -> Result<(), StoreError> {
    let mut missing = transaction.gap(room, anchor)?.unwrap_or_default();
    let mut place = transaction.place_before(room, anchor)?;
    for Judged { pdu, before } in events {
        let before = Some(before);
        let admission = match pdu.rejected() {
            true => Admission::Rejected { before },
            false => Admission::Backfilled { before, place },
        };
        let number = transaction.append_event(room, &NewEvent { pdu, transaction: None, admission })?;
        if transaction.header(room, number)?.place == Some(place) {
            place = Place { sub: place.sub - 1, ..place };
            redactions::apply(transaction, room, number, pdu)?;
        }
        redactions::catch_up(transaction, room, number, pdu)?;
        missing.extend(pdu.prev_events().iter().cloned());
    }
    let (mut left, mut seen) = (Vec::new(), BTreeSet::new());
    for id in missing.iter().filter(|id| seen.insert(*id)) {
        // A past event may name as many as it likes.
        if left.len() >= limits::GAP_EVENTS {
            break;
        }
        let known = match transaction.event_number(room, id)? {
            Some(number) => transaction.header(room, number)?.state_before.is_some(),
            None => false,
        };
        if !known {
            left.push(&**id);
        }
    }
    match left.is_empty() {
        true => transaction.close_gap(room, anchor),
        false => transaction.open_gap(room, anchor, &left),
    }
    Ok(())
}

/// What a change of a state adds to what a job writes, in bytes, at most or so.
const CHANGE_BYTES: usize = 512;
