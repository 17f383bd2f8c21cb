//! Events that are known without their place in their room's graph: those that permit others, and those of states that
//! other servers told. Each is judged by its own permissions, which are stored before it.

use std::collections::{HashMap, HashSet};

use ruma::EventId;

use super::redactions;
use crate::{
    base::{ids::RoomNumber, limits},
    room::{
        auth::{Verdict, check_auth_events},
        pdu::Pdu,
        receive::missing_permissions,
    },
    store::{
        Store, StoreError, Transaction,
        events::{Admission, NewEvent},
    },
};

/// Stores those of some verified events that aren't stored yet and whose permissions are, or come among them. What is more
/// than a job may write stays away alone.
///
/// # Errors
/// The store failed.
pub async fn keep(store: &Store, room: RoomNumber, pdus: Vec<Pdu>) -> Result<(), StoreError> {
    let mut pdus = in_order(pdus).into_iter().peekable();
    while pdus.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < limits::JOB_EVENTS
            && let Some(pdu) = pdus.next_if(|pdu| some.is_empty() || bytes + pdu.json().len() <= JOB_JSON)
        {
            bytes += pdu.json().len();
            some.push(pdu);
        }
        match keep_some(store, room, some.clone()).await {
            Err(StoreError::TooLarge(_)) => {}
            other => {
                other?;
                continue;
            }
        }
        for pdu in some {
            match keep_some(store, room, vec![pdu]).await {
                Err(error @ StoreError::TooLarge(_)) => tracing::warn!(%error, "an event is not taken"),
                other => other?,
            }
        }
    }
    Ok(())
}

async fn keep_some(store: &Store, room: RoomNumber, some: Vec<Pdu>) -> Result<(), StoreError> {
    let job = move |transaction: &mut Transaction<'_>| {
        some.iter().try_for_each(|pdu| keep_one(transaction, room, pdu))
    };
    store.write(job).await
}

fn keep_one(transaction: &mut Transaction<'_>, room: RoomNumber, pdu: &Pdu) -> Result<(), StoreError> {
    let version = transaction.room(room)?.version;
    let graph = transaction.graph(room);
    if transaction.event_number(room, pdu.event_id())?.is_some()
        || !missing_permissions(pdu, &graph, version)?.is_empty()
    {
        return Ok(());
    }
    let admission = match check_auth_events(pdu, &graph, version)? {
        Verdict::Allowed => Admission::Outlier,
        Verdict::Denied(_) => Admission::Rejected { before: None },
    };
    let number = transaction.append_event(room, &NewEvent { pdu, transaction: None, admission })?;
    redactions::catch_up(transaction, room, number, pdu)
}

/// The events, each behind those of them that permit it.
fn in_order(pdus: Vec<Pdu>) -> Vec<Pdu> {
    let mut order = Vec::with_capacity(pdus.len());
    let by_id: HashMap<&EventId, usize> =
        pdus.iter().enumerate().map(|(at, pdu)| (pdu.event_id(), at)).collect();
    let mut seen = HashSet::new();
    for at in 0..pdus.len() {
        let mut path = if seen.insert(at) { vec![(at, 0)] } else { continue };
        while let Some((at, next)) = path.last_mut() {
            let permission = pdus[*at].auth_events().get(*next);
            *next += 1;
            match permission.map(|id| by_id.get(&**id).copied()) {
                Some(Some(permission)) if seen.insert(permission) => path.push((permission, 0)),
                Some(_) => {}
                None => {
                    order.push(*at);
                    path.pop();
                }
            }
        }
    }
    let mut pdus: Vec<_> = pdus.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| pdus[at].take()).collect()
}

/// What the events of one job may be as JSON, in bytes, unless it is a single one.
const JOB_JSON: usize = limits::EVENT_BYTES;
