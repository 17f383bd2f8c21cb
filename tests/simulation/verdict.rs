//! What must hold in the end, of honest servers: all that are in a room have the same state of it; each has every event
//! that any of them acknowledged while it was there; every message to a device that was acknowledged came, and came once;
//! everybody is told the same of everybody's devices; and `verify` finds nothing.
//!
//! What may differ: where an event stands (one that moved the room on here may have come too late there, and be soft-failed),
//! what was before a server came (it gets that from others as far as they give it), which events of the hostile server
//! somebody has, and whatever isn't kept: who types, and receipts, which nobody sends again to who couldn't be reached.

use std::{collections::BTreeMap, sync::Arc};

use ruma::OwnedEventId;
use serde_json::{Value, json};
use tayberry::{
    service::operator::{self, Command, Outcome},
    store::events::Standing,
};

use crate::{
    hostile::{Bad, FORGED},
    people::{Room, joined},
    world::{HONEST, World},
};

/// Checks everything.
pub(crate) async fn judge(world: &Arc<World>) {
    let rooms = world.state().rooms.clone();
    for room in &rooms {
        states(world, room).await;
        lies(world, room).await;
        events(world, room, true).await;
    }
    messages(world);
    devices(world).await;
    for name in HONEST {
        is_sound(world, name).await;
    }
}

/// The ids of a state's events.
type State = BTreeMap<(String, String), String>;

/// Servers that are in a room have the same state of it.
async fn states(world: &Arc<World>, room: &Room) {
    let mut told: Option<(&str, State)> = None;
    for name in HONEST {
        let state = joined(world, name, room, |view, number| {
            let mut state = State::new();
            for entry in view.state(number, view.room(number)?.state) {
                let (key, event) = entry?;
                let key = view.key_name(number, key)?;
                let id = view.event_id(number, event)?.to_string();
                state.insert((key.kind, key.state_key.unwrap_or_default()), id);
            }
            Ok(state)
        });
        let Some(state) = state.await else { continue };
        world.log(name, format_args!("{} has {} entries of state", room.id, state.len()));
        match &told {
            None => told = Some((name, state)),
            Some((first, other)) if *other != state => {
                let mut keys: Vec<_> = state.keys().chain(other.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys.into_iter().filter(|key| state.get(*key) != other.get(*key)) {
                    let (own, others) = (state.get(key), other.get(key));
                    world.fail(format_args!(
                        "{}: {name} has {own:?} at {key:?}, {first} has {others:?}",
                        room.id
                    ));
                }
            }
            Some(_) => {}
        }
    }
}

/// What a server acknowledged it has, and so have those that were in the room without a pause since then: all of them if
/// everybody said something since, else those that the server knew of.
pub(crate) async fn events(world: &Arc<World>, room: &Room, have_all_spoken: bool) {
    let (acknowledged, stays) = {
        let state = world.state();
        (state.acknowledged.clone(), state.stays.clone())
    };
    for event in acknowledged.into_iter().filter(|event| event.room == room.number) {
        for name in HONEST {
            let stay = stays.get(&(name, room.number));
            if stay.is_none_or(|since| *since > event.at) || !(have_all_spoken || event.to.contains(&name)) {
                continue;
            }
            let id = OwnedEventId::try_from(event.id.as_str()).unwrap();
            let standing = joined(world, name, room, move |view, number| {
                let event = view.event_number(number, &id)?;
                event.map(|event| Ok(view.header(number, event)?.standing)).transpose()
            });
            let standing = standing.await.flatten();
            if !matches!(standing, Some(Standing::Live | Standing::Backfilled | Standing::SoftFailed)) {
                world.fail(format_args!("{}: {name} has {event:?} as {standing:?}", room.id));
            }
        }
    }
}

/// Nobody was taken in.
async fn lies(world: &Arc<World>, room: &Room) {
    let bad = world.hostile.bad.lock().unwrap().clone();
    for (_, id, bad) in bad.into_iter().filter(|(of, ..)| *of == room.id) {
        for name in HONEST {
            let id = OwnedEventId::try_from(id.as_str()).unwrap();
            let known = joined(world, name, room, move |view, number| {
                let Some(event) = view.event_number(number, &id)? else { return Ok(None) };
                let json = view.event(number, event)?.pdu.json().to_owned();
                Ok(Some((view.header(number, event)?.standing, json)))
            });
            let Some((standing, json)) = known.await.flatten() else { continue };
            let is_taken_in = match &bad {
                Bad::Forged => true,
                Bad::Changed(text) => json.contains(&format!("\"{text}\"")),
                Bad::Late => standing == Standing::Live,
            };
            if is_taken_in {
                world.fail(format_args!(
                    "{}: {name} has as {standing:?}, though it is {bad:?}: {json}",
                    room.id
                ));
            }
        }
    }
}

/// Each message to a device that a server took came, and came once.
fn messages(world: &World) {
    let (sent, mut received) = {
        let state = world.state();
        (state.messages.clone(), state.received.clone())
    };
    received.sort_unstable();
    for twice in received.windows(2).filter(|two| two[0] == two[1]) {
        world.fail(format_args!("message {} came twice", twice[0].0));
    }
    for (number, to) in received.iter().filter(|(number, _)| *number >= FORGED) {
        world.fail(format_args!("message {number}, which p{to} got, was made up"));
    }
    for (number, to) in sent {
        if received.binary_search(&(number, to)).is_err() {
            world.fail(format_args!("message {number} never came to p{to}"));
        }
    }
}

/// Everybody is told of a device what its own server tells.
async fn devices(world: &Arc<World>) {
    let people = world.state().people.clone();
    for owner in &people {
        let query = json!({"device_keys": {&owner.id: []}});
        let mut told: Option<Value> = None;
        for asker in HONEST.iter().filter_map(|name| people.iter().find(|person| person.home == *name)) {
            let Some((200, answer)) = asker.ask(world, "POST", "keys/query", query.clone()).await else {
                world.fail(format_args!("{} can't ask for keys", asker.id));
                continue;
            };
            let mut keys = answer["device_keys"][&owner.id].clone();
            // What a device is called others are not told.
            for (_, device) in keys.as_object_mut().into_iter().flatten() {
                device.as_object_mut().unwrap().remove("unsigned");
            }
            match &told {
                None => told = Some(keys),
                Some(told) if *told != keys => {
                    world.fail(format_args!("{} is told {keys} of {}, and not {told}", asker.id, owner.id));
                }
                Some(_) => {}
            }
        }
    }
}

/// Nothing breaks an invariant of a server's store.
async fn is_sound(world: &Arc<World>, name: &'static str) {
    let app = world.state().hosts[name].app.clone();
    let mut from = None;
    loop {
        let outcome = operator::run(&app, Command::Verify { from }).await;
        let Ok(Outcome::Verified { part }) = outcome else {
            world.fail(format_args!("{name} can't be verified"));
            return;
        };
        for finding in &part.report.findings {
            world.fail(format_args!("verify of {name}: {finding:?}"));
        }
        from = part.next;
        if from.is_none() {
            return;
        }
    }
}
