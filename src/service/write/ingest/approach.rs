//! Rooms that an event changes more than one job may write, as after an outage: the current state gets there step by step.
//!
//! A crash leaves it on the way, where the next event finds it: where a room stands after an event follows from its
//! extremities, whatever its current state was.

use std::sync::Arc;

use super::{IngestError, Judged, Meeting, Present, meet};
use crate::{
    base::{
        ids::{EventNumber, StateRoot},
        limits,
        ordered::Ordered,
    },
    room::{
        advance::NEW,
        graph::{Graph, Key, State},
    },
    store::{Store, StoreError, Transaction, View},
};

/// Changes the room's current state until what the event changes of it is little; gives how the event meets it then. It is
/// for whoever holds the room's lane.
pub(super) async fn approach(store: &Store, judged: Arc<Judged>) -> Result<Arc<Judged>, IngestError> {
    let Meeting::Live { advanced, is_far: true } = &judged.meeting else { return Ok(judged) };
    let (room, present, current) = (judged.room, judged.present.state, advanced.current.clone());
    let read = move |view: &View<'_>| changes(&view.graph(room), present, &current);
    let changes = store.read(read).await?;
    for some in changes.chunks(limits::STATE_CHANGES) {
        let some = some.to_vec();
        let job = move |transaction: &mut Transaction<'_>| {
            let mut state = State::stored(transaction.room(room)?.state);
            state.changes.extend(some.iter().cloned());
            transaction.approach_state(room, &state)
        };
        store.write(job).await?;
    }
    let judged = (*judged).clone();
    let read = move |view: &View<'_>| {
        let record = view.room(room)?;
        if record.extremities != judged.present.extremities {
            return Ok(Arc::new(meet(view, judged)?));
        }
        // Where it leads follows from the extremities alone.
        let present = Present { state: record.state, is_approaching: true, ..judged.present };
        let meeting = match judged.meeting {
            Meeting::Live { mut advanced, .. } => {
                advanced.current.root = record.state;
                advanced.current.changes.retain(|_, number| *number == Some(NEW));
                Meeting::Live { advanced, is_far: false }
            }
            other => other,
        };
        Ok(Arc::new(Judged { present, meeting, ..judged }))
    };
    store.read(read).await
}

/// Stores the state before an event that is more than one job may write; gives how the event meets the room then.
pub(super) async fn keep_before(store: &Store, judged: Arc<Judged>) -> Result<Arc<Judged>, IngestError> {
    let (room, mut root) = (judged.room, judged.before.root);
    let changes: Vec<_> = judged.before.changes.clone().into_iter().collect();
    for some in changes.chunks(limits::STATE_CHANGES) {
        let state = State { root, changes: some.iter().cloned().into_map() };
        root = store.write(move |transaction| transaction.keep_state(room, &state)).await?;
    }
    let judged = Judged { before: State::stored(root), ..(*judged).clone() };
    store.read(move |view| Ok::<_, IngestError>(Arc::new(meet(view, judged)?))).await
}

/// Whether two states may differ in more entries than one job may change.
pub(super) fn is_far<G: Graph<Error = StoreError>>(
    graph: &G,
    from: StateRoot,
    to: &State,
) -> Result<bool, StoreError> {
    let stored = if from == to.root { 0 } else { graph.state_difference(from, to.root)?.len() };
    Ok(stored + to.changes.len() > limits::STATE_CHANGES)
}

/// The entries by which a state differs from a stored one, but for what the event itself sets.
fn changes<G: Graph<Error = StoreError>>(
    graph: &G,
    from: StateRoot,
    to: &State,
) -> Result<Vec<(Key, Option<EventNumber>)>, StoreError> {
    let mut changes = Vec::new();
    for (key, _, number) in graph.state_difference(from, to.root)? {
        if !to.changes.contains_key(&key) {
            changes.push((key, number));
        }
    }
    let changed = to.changes.iter().filter(|(_, number)| **number != Some(NEW));
    changes.extend(changed.map(|(key, number)| (key.clone(), *number)));
    Ok(changes)
}
