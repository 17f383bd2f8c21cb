//! State resolution: from the states that an event follows to the one before it.
//!
//! The first algorithm, of room version 1, is [`v1`]'s. By the second ruma resolves; here it is given only what the
//! answer can depend on: entries that differ, their auth difference, since version 12 the conflicted state subgraph, and
//! the entries that the authorisation of those reads. Every walk goes from high event numbers to low ones, which is an
//! order of the auth graph, and stops as soon as nothing below can differ.
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>,
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>

mod v1;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};

use ruma::{
    OwnedEventId,
    events::StateEventType,
    state_res::{self, StateMap, auth_types_for_event, utils::event_id_set::EventIdSet},
};

use super::{
    graph::{Graph, Key, State},
    lookup::Lookup,
    version::Version,
};
use crate::base::{
    ids::{ByNumber, EventNumber},
    limits,
};

/// Why states could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError<E> {
    /// A look-up failed.
    #[error(transparent)]
    Graph(E),
    /// The room holds an event that its rules cannot have let in.
    #[error("state resolution: {0}")]
    Broken(#[from] state_res::Error),
    /// They are more than any event that is judged follows.
    #[error("{0} states are too many to resolve")]
    Many(usize),
}

/// Resolves states of one room, at least one and at most [`STATES`], into one.
///
/// The answer does not depend on the order of `states`, though the root that it is based on does.
///
/// # Errors
/// A look-up failed, or the graph holds what cannot be.
pub fn resolve<G: Graph>(
    states: &[State],
    graph: &G,
    version: Version,
) -> Result<State, ResolveError<G::Error>> {
    if states.len() > STATES {
        return Err(ResolveError::Many(states.len()));
    }
    let conflicts = conflicts(states, graph).map_err(ResolveError::Graph)?;
    let first = states.first().cloned().unwrap_or_default();
    if conflicts.is_empty() {
        return Ok(first);
    }
    let Some(rules) = version.resolution().v2_rules().copied() else {
        let resolved = v1::resolve(first, &conflicts, graph, version).map_err(ResolveError::Graph)?;
        return least(resolved, graph).map_err(ResolveError::Graph);
    };
    let difference = chains_of_conflicts(states, &conflicts, graph).map_err(ResolveError::Graph)?;
    let subgraph = match rules.consider_conflicted_state_subgraph {
        true => conflicted_subgraph(&conflicts, graph).map_err(ResolveError::Graph)?,
        false => BTreeSet::new(),
    };

    let lookup = Lookup::new(graph);
    let id = |number: EventNumber| lookup.numbered(number).map(|event| event.event_id().to_owned());
    let mut maps: Vec<StateMap<OwnedEventId>> = vec![StateMap::new(); states.len()];
    for (key, entries) in &conflicts {
        for (map, entry) in maps.iter_mut().zip(entries) {
            if let Some(id) = entry.and_then(id) {
                map.insert(key.clone(), id);
            }
        }
    }
    let conflicting = conflicts.values().flatten().flatten();
    let full: BTreeSet<_> = conflicting.chain(difference.keys()).chain(&subgraph).copied().collect();
    // What permits each of them is asked for by id, which is slower to find than a number.
    let mut auth_events = graph.walk_down();
    for number in full.iter().rev() {
        for permission in auth_events(*number).map_err(ResolveError::Graph)? {
            lookup.numbered(permission);
        }
    }
    for key in keys_read(&full, &lookup, version) {
        if !conflicts.contains_key(&key)
            && let Some(entry) = lookup.state(&first, &key.0, &key.1)
        {
            maps.iter_mut().for_each(|map| _ = map.insert(key.clone(), entry.event_id().to_owned()));
        }
    }
    let chains = (0..states.len())
        .map(|at| {
            difference.iter().filter(move |(_, sides)| *sides & (1 << at) != 0).filter_map(|(n, _)| id(*n))
        })
        .map(EventIdSet::from_iter)
        .collect();
    let subgraph: EventIdSet<_> = subgraph.into_iter().filter_map(id).collect();

    let resolved = state_res::resolve(
        version.auth(),
        &rules,
        &maps,
        chains,
        |id| lookup.event(id),
        |_| Some(subgraph.clone()),
    );
    lookup.finish().map_err(ResolveError::Graph)?;
    merge(first, &conflicts, resolved?, graph).map_err(ResolveError::Graph)
}

/// What each state has at each key in which not all agree.
type Conflicts = BTreeMap<Key, Vec<Option<EventNumber>>>;

/// The states, as bits, in whose auth chain an event is.
pub type Sides = u32;
/// How many states are resolved at once. An event of today follows no more, with one that another server told; one of the
/// past may.
pub const STATES: usize = Sides::BITS as usize - 1;
const _: () = assert!(limits::PREV_EVENTS < STATES);

fn conflicts<G: Graph>(states: &[State], graph: &G) -> Result<Conflicts, G::Error> {
    let Some((first, others)) = states.split_first() else { return Ok(Conflicts::new()) };
    let mut conflicts = Conflicts::new();
    for (other, at) in others.iter().zip(1..).filter(|(other, _)| other.root != first.root) {
        for (key, of_first, of_other) in graph.state_difference(first.root, other.root)? {
            conflicts.entry(key).or_insert_with(|| vec![of_first; states.len()])[at] = of_other;
        }
    }
    for key in states.iter().flat_map(|state| state.changes.keys()) {
        if !conflicts.contains_key(key) {
            let stored = graph.state(first.root, &key.0, &key.1)?;
            conflicts.insert(key.clone(), vec![stored; states.len()]);
        }
    }
    conflicts.retain(|key, entries| {
        for (state, entry) in states.iter().zip(&mut *entries) {
            if let Some(change) = state.changes.get(key) {
                *entry = *change;
            }
        }
        entries.iter().any(|entry| entry != &entries[0])
    });
    Ok(conflicts)
}

/// The events that are in some but not all of the states' auth chains, each with the states that have it, as bits in the
/// order of `states`, of which there are at most [`STATES`].
/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
///
/// # Errors
/// A look-up failed.
pub fn auth_difference<G: Graph>(
    states: &[State],
    graph: &G,
) -> Result<BTreeMap<EventNumber, Sides>, G::Error> {
    chains_of_conflicts(states, &conflicts(states, graph)?, graph)
}

/// The same of states that conflict in this.
fn chains_of_conflicts<G: Graph>(
    states: &[State],
    conflicts: &Conflicts,
    graph: &G,
) -> Result<BTreeMap<EventNumber, Sides>, G::Error> {
    let all: Sides = (1 << states.len()) - 1;
    let mut tips: BTreeMap<EventNumber, Sides> = BTreeMap::new();
    for entries in conflicts.values() {
        for (at, entry) in entries.iter().enumerate() {
            if let Some(number) = entry {
                *tips.entry(*number).or_default() |= 1 << at;
            }
        }
    }
    let mut difference = chains_differ(&tips, all, graph)?;
    let Some(lowest) = difference.keys().next().copied() else { return Ok(difference) };

    // What the entries in which all agree descend from is in every chain. None of those at or below the lowest
    // event of the difference can descend from one in it.
    let first = &states[0];
    let conflicting = conflicts.iter().filter(|(key, _)| !first.changes.contains_key(*key));
    let mut replaced: HashSet<_> = conflicting.filter_map(|(_, entries)| entries[0]).collect();
    for key in first.changes.keys() {
        replaced.extend(graph.state(first.root, &key.0, &key.1)?);
    }
    let agreed = first.changes.iter().filter(|(key, _)| !conflicts.contains_key(*key));
    let stored = graph.state_above(first.root, lowest)?.into_iter().filter(|n| !replaced.contains(n));
    let mut common = BTreeSet::new();
    for number in stored.chain(agreed.filter_map(|(_, entry)| *entry)) {
        common.extend(graph.auth_events(number)?);
    }
    let mut auth_events = graph.walk_down();
    while let Some(number) = common.pop_last().filter(|number| *number >= lowest) {
        difference.remove(&number);
        common.extend(auth_events(number)?);
    }
    Ok(difference)
}

/// Walks from events that some states have to what permits them, until all that is left is common to all.
fn chains_differ<G: Graph>(
    tips: &BTreeMap<EventNumber, Sides>,
    all: Sides,
    graph: &G,
) -> Result<BTreeMap<EventNumber, Sides>, G::Error> {
    let mut walk = Walk { ahead: ByNumber::default(), order: BinaryHeap::new(), partial: 0, all };
    for (tip, sides) in tips {
        walk.reach(*tip, Sides::default(), *sides);
    }
    let mut auth_events = graph.walk_down();
    let mut difference = BTreeMap::new();
    while let Some((number, Reached { chain, state })) = walk.next() {
        if chain != 0 && chain != all {
            difference.insert(number, chain);
        }
        for permission in auth_events(number)? {
            walk.reach(permission, chain | state, Sides::default());
        }
    }
    Ok(difference)
}

/// The events that a walk down the auth graph has reached and not yet passed.
struct Walk {
    ahead: ByNumber<Reached>,
    order: BinaryHeap<EventNumber>,
    /// How many of them are not known to be in every chain.
    partial: usize,
    all: Sides,
}

/// The states in whose auth chain an event is known to be, and those that have it as an entry.
#[derive(Default)]
struct Reached {
    chain: Sides,
    state: Sides,
}

impl Walk {
    fn reach(&mut self, number: EventNumber, chain: Sides, state: Sides) {
        let reached = self.ahead.entry(number).or_insert_with(|| {
            self.order.push(number);
            self.partial += 1;
            Reached::default()
        });
        let was_partial = reached.chain != self.all;
        reached.chain |= chain;
        reached.state |= state;
        self.partial -= usize::from(was_partial && reached.chain == self.all);
    }

    /// The highest event ahead, which nothing that is still ahead descends to; none once all are in every chain.
    fn next(&mut self) -> Option<(EventNumber, Reached)> {
        if self.partial == 0 {
            return None;
        }
        let number = self.order.pop()?;
        let reached = self.ahead.remove(&number)?;
        self.partial -= usize::from(reached.chain != self.all);
        Some((number, reached))
    }
}

/// The events on any path of auth events from one conflicting event to another, both included.
fn conflicted_subgraph<G: Graph>(
    conflicts: &Conflicts,
    graph: &G,
) -> Result<BTreeSet<EventNumber>, G::Error> {
    let ends: BTreeSet<EventNumber> = conflicts.values().flatten().flatten().copied().collect();
    let Some(lowest) = ends.first().copied() else { return Ok(ends) };
    let mut ahead = ends.clone();
    let mut below: BTreeMap<EventNumber, Vec<EventNumber>> = BTreeMap::new();
    let mut auth_events = graph.walk_down();
    while let Some(number) = ahead.pop_last() {
        let permissions = auth_events(number)?;
        ahead.extend(permissions.iter().filter(|permission| **permission >= lowest));
        below.insert(number, permissions);
    }
    let mut on_path = BTreeSet::new();
    for (number, permissions) in below {
        if ends.contains(&number) || permissions.iter().any(|permission| on_path.contains(permission)) {
            on_path.insert(number);
        }
    }
    Ok(on_path)
}

/// The keys of the state that the authorisation of these events reads.
fn keys_read<G: Graph>(
    events: &BTreeSet<EventNumber>,
    lookup: &Lookup<'_, G>,
    version: Version,
) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([(StateEventType::RoomCreate, String::new())]);
    for event in events.iter().filter_map(|number| lookup.numbered(*number)) {
        let types = auth_types_for_event(
            event.kind(),
            event.sender(),
            event.state_key(),
            event.content(),
            version.auth(),
        );
        keys.extend(types.into_iter().flatten());
    }
    keys
}

/// Puts what was resolved into a state. An entry on which all states agree stands, whatever else was resolved.
fn merge<G: Graph>(
    first: State,
    conflicts: &Conflicts,
    resolved: StateMap<OwnedEventId>,
    graph: &G,
) -> Result<State, G::Error> {
    let mut state = first.clone();
    for key in conflicts.keys().filter(|key| !resolved.contains_key(*key)) {
        state.changes.insert(key.clone(), None);
    }
    for (key, id) in resolved {
        if conflicts.contains_key(&key) || first.entry(graph, &key.0, &key.1)?.is_none() {
            state.changes.insert(key, graph.number(&id)?);
        }
    }
    least(state, graph)
}

/// The same state without changes that change nothing.
fn least<G: Graph>(state: State, graph: &G) -> Result<State, G::Error> {
    let mut kept = BTreeMap::new();
    for (key, entry) in state.changes {
        if graph.state(state.root, &key.0, &key.1)? != entry {
            kept.insert(key, entry);
        }
    }
    Ok(State { changes: kept, ..state })
}

#[cfg(test)]
mod tests;
