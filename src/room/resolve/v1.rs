//! State resolution of room version 1: what conflicts is settled key by key, power levels first, by depth.
//!
//! An entry that only some of the states have is no conflict and stands. The events at one key are settled by
//! themselves: what is resolved at another key of the same pass is not seen, so that no order of keys matters.
//! <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution>

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use ruma::events::StateEventType;
use sha1::{Digest, Sha1};

use super::{Conflicts, Key};
use crate::{
    base::ids::EventNumber,
    room::{
        auth::{Verdict, dependent},
        graph::{Graph, State},
        lookup::Lookup,
        pdu::Pdu,
        version::Version,
    },
};

/// Resolves the keys in which not all states agree, on top of what one of the states has at the others.
pub(super) fn resolve<G: Graph>(
    first: State,
    conflicts: &Conflicts,
    graph: &G,
    version: Version,
) -> Result<State, G::Error> {
    let lookup = Lookup::new(graph);
    let mut conflicting = Vec::new();
    let mut resolved = first;
    for (key, entries) in conflicts {
        let events: BTreeSet<EventNumber> = entries.iter().flatten().copied().collect();
        match events.first() {
            Some(only) if events.len() == 1 => resolved.set(key.clone(), *only),
            _ => {
                resolved.changes.insert(key.clone(), None);
                let found = events.into_iter().filter_map(|number| Candidate::of(number, &lookup));
                let mut candidates: Vec<_> = found.collect();
                candidates
                    .sort_unstable_by_key(|candidate| (candidate.event.depth(), Reverse(candidate.hash)));
                conflicting.push((key, candidates));
            }
        }
    }
    for kind in [StateEventType::RoomPowerLevels, StateEventType::RoomJoinRules, StateEventType::RoomMember] {
        let before = resolved.clone();
        for (key, candidates) in conflicting.extract_if(.., |(key, _)| key.0 == kind) {
            settle_in_turn(key, &candidates, &before, &lookup, version, &mut resolved);
        }
    }
    let before = resolved.clone();
    for (key, candidates) in conflicting {
        let allowed = |candidate: &&Candidate| allowed(candidate, &before, &lookup, version);
        // The specification does not say what stands if none is allowed; the network keeps the least deep.
        if let Some(candidate) = candidates.iter().rev().find(allowed).or(candidates.first()) {
            resolved.set(key.clone(), candidate.number);
        }
    }
    lookup.finish()?;
    Ok(resolved)
}

/// An event at a key in which states conflict.
struct Candidate {
    number: EventNumber,
    event: Arc<Pdu>,
    hash: [u8; 20],
}

impl Candidate {
    fn of<G: Graph>(number: EventNumber, lookup: &Lookup<'_, G>) -> Option<Self> {
        let event = lookup.numbered(number)?;
        let hash = Sha1::digest(event.event_id().as_bytes()).into();
        Some(Self { number, event, hash })
    }
}

/// Lets the events at one key follow one another from the least deep on, up to one that its predecessor forbids.
fn settle_in_turn<G: Graph>(
    key: &Key,
    candidates: &[Candidate],
    before: &State,
    lookup: &Lookup<'_, G>,
    version: Version,
    resolved: &mut State,
) {
    let Some((first, others)) = candidates.split_first() else { return };
    let mut state = before.clone();
    let mut last = first;
    for next in others {
        state.set(key.clone(), last.number);
        if !allowed(next, &state, lookup, version) {
            break;
        }
        last = next;
    }
    resolved.set(key.clone(), last.number);
}

fn allowed<G: Graph>(candidate: &Candidate, state: &State, lookup: &Lookup<'_, G>, version: Version) -> bool {
    let verdict = dependent(&candidate.event, version, |kind, key| lookup.state(state, kind, key));
    verdict == Verdict::Allowed
}
