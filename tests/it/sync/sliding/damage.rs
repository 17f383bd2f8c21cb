//! Rooms that are damaged on the disk: the others are told, and those once they can be read again.

use std::{fs::File, os::unix::fs::FileExt};

use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};
use tayberry::{
    base::{
        blocking,
        ids::{EventNumber, RoomNumber, UserNumber},
    },
    store::{StoreError, View},
};

use super::{Client, keys, texts, told};
use crate::{
    log::Log,
    rig::{Member, Rig},
    rooms::{act, create, say, set},
};

/// A value of the event store that is not as it was written. All of it must have reached LMDB.
struct Damage {
    file: File,
    at: u64,
    was: u8,
}

impl Damage {
    /// Damages the value of a key, by which `reads` fails.
    async fn of(
        rig: &Rig,
        key: &[u8],
        reads: impl Fn(&View<'_>) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> Self {
        let path = rig.folder().join("events/data.mdb");
        let bytes = std::fs::read(&path).unwrap();
        // Behind the key stands its value, and before it how long it is. Some are of pages that are used no more.
        let node = [&(key.len() as u16).to_ne_bytes()[..], key].concat();
        for at in (0..bytes.len() - node.len()).filter(|at| bytes[*at..].starts_with(&node)) {
            let at = at + node.len();
            let file = File::options().write(true).open(&path).unwrap();
            let damage = Self { file, at: at as u64, was: bytes[at] };
            damage.put(!damage.was);
            let (reads, read) = (reads.clone(), rig.app.store.clone());
            match read.read(move |view| reads(view)).await {
                Err(StoreError::Corrupt { .. }) => return damage,
                _ => damage.put(damage.was),
            }
        }
        panic!("the store has no such value");
    }

    fn put(&self, byte: u8) {
        self.file.write_all_at(&[byte], self.at).unwrap();
    }

    fn mend(self) {
        self.put(self.was);
    }
}

/// What this server calls somebody, the rooms and an event of each.
async fn numbers(
    rig: &Rig,
    who: &Member,
    rooms: &[(&String, &String)],
) -> (UserNumber, Vec<(RoomNumber, EventNumber)>) {
    let user = ruma::OwnedUserId::try_from(who.user_id.as_str()).unwrap();
    let ids: Vec<_> = rooms
        .iter()
        .map(|(room, event)| {
            let room = OwnedRoomId::try_from(room.as_str()).unwrap();
            (room, OwnedEventId::try_from(event.as_str()).unwrap())
        })
        .collect();
    let read = move |view: &View<'_>| {
        let numbers = ids.iter().map(|(room, event)| {
            let room = view.room_number(room)?.unwrap();
            Ok::<_, StoreError>((room, view.event_number(room, event)?.unwrap()))
        });
        Ok::<_, StoreError>((view.user_number(&user)?.unwrap(), numbers.collect::<Result<Vec<_>, _>>()?))
    };
    rig.app.store.read(read).await.unwrap()
}

/// All rooms, and those with a name that has this in it.
fn body() -> Value {
    let list = |filters: Value| {
        let state = json!([["m.room.topic", ""]]);
        json!({"ranges": [[0, 9]], "timeline_limit": 9, "required_state": state, "filters": filters})
    };
    let on = json!({"enabled": true});
    json!({
        "lists": {"all": list(json!({})), "named": list(json!({"room_name_like": "tea", "room_types": [null]}))},
        "extensions": {"e2ee": on, "account_data": on, "receipts": on, "typing": on},
    })
}

#[tokio::test]
async fn what_is_damaged_of_one_room_keeps_no_other_back_and_comes_once_it_is_mended() {
    // So that all of the log is of this thread.
    blocking::keep_here();
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..5 {
        let room = create(&rig, &alice, json!({"preset": "public_chat", "name": "Tearoom"})).await;
        act(&rig, &bob, &room, "join", json!({})).await;
        rooms.push(room);
    }
    let [whole, event, state, record, stay] = &rooms[..] else { panic!("there are five") };
    let mut client = Client::new(&rig, &bob);
    assert_eq!(told(&client.next(body()).await).len(), 5);
    let mut said = Vec::new();
    for room in &rooms {
        let topic = set(&rig, &alice, room, "m.room.topic", json!({"topic": "green"})).await;
        let text = say(&rig, &alice, room, "hello", &format!("t{}", said.len())).await;
        said.push(if room == state { topic } else { text });
    }
    let pos = client.pos.clone();

    // By then all of it is in LMDB.
    let rig = rig.again(|_| ()).await;
    let log = Log::capture();
    let named: Vec<_> = rooms.iter().zip(&said).collect();
    let (user, numbers) = numbers(&rig, &bob, &named).await;
    let mut damages = Vec::new();
    for (room, event) in [numbers[1], numbers[2]] {
        let reads = move |view: &View<'_>| view.event(room, event).map(drop);
        damages.push(Damage::of(&rig, &event.to_be_bytes(), reads).await);
    }
    let room = numbers[3].0;
    let reads = move |view: &View<'_>| view.room(room).map(drop);
    damages.push(Damage::of(&rig, &room.to_be_bytes(), reads).await);
    let room = numbers[4].0;
    let key = [&user.to_be_bytes()[..], &room.to_be_bytes()].concat();
    let reads = move |view: &View<'_>| view.stay(user, room).map(drop);
    damages.push(Damage::of(&rig, &key, reads).await);

    let mut client = Client { pos, ..Client::new(&rig, &bob) };
    let answer = client.next(body()).await;
    assert_eq!(told(&answer), [whole], "{answer}");
    assert_eq!(texts(&answer["rooms"][whole]), ["hello"]);
    assert_eq!(answer["lists"], json!({"all": {"count": 3}, "named": {"count": 3}}));
    let path = format!("/_matrix/client/v3/rooms/{whole}/receipt/m.read/{}", said[0]);
    rig.send_as(&alice, "POST", &path, json!({})).await.ok();
    let answer = client.next(body()).await;
    assert!(told(&answer).is_empty() && answer["extensions"]["receipts"]["rooms"].get(whole).is_some());
    let answer = Client::new(&rig, &bob);
    let mut begun = body();
    begun["conn_id"] = json!("other");
    let answer = answer.ask(begun).await.ok();
    assert_eq!(told(&answer), [whole], "whoever begins is told the others, too");
    let lines = log.text();
    let logged = |what: &str| lines.lines().filter(|line| line.contains(what)).count();
    assert!(logged("ERROR") >= 4 && logged("the store is damaged: table events") >= 2, "{lines}");
    assert!(logged("the store is damaged: table rooms") >= 1, "{lines}");
    assert!(logged("the store is damaged: table stays") >= 1, "{lines}");

    damages.into_iter().for_each(Damage::mend);
    let answer = client.next(body()).await;
    assert_eq!(told(&answer).len(), 4, "{answer}");
    for room in [event, state, record, stay] {
        let room = &answer["rooms"][room];
        assert_eq!((texts(room), keys(room)), (vec!["hello"], vec![("m.room.topic", "")]), "{room}");
        assert!(room.get("initial").is_none() && room.get("limited").is_none(), "{room}");
    }
    assert_eq!(answer["lists"], json!({"all": {"count": 5}, "named": {"count": 5}}));
    assert!(told(&client.next(body()).await).is_empty());
}

#[tokio::test]
async fn a_name_that_is_damaged_is_like_no_other() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..2 {
        rooms.push(create(&rig, &alice, json!({})).await);
    }
    let [whole, harmed] = &rooms[..] else { panic!("there are two") };
    let mut names = Vec::new();
    for room in &rooms {
        names.push(set(&rig, &alice, room, "m.room.name", json!({"name": "Tea"})).await);
    }
    let rig = rig.again(|_| ()).await;
    let named: Vec<_> = rooms.iter().zip(&names).collect();
    let (room, event) = numbers(&rig, &alice, &named).await.1[1];
    let reads = move |view: &View<'_>| view.event(room, event).map(drop);
    let damage = Damage::of(&rig, &event.to_be_bytes(), reads).await;
    let mut client = Client::new(&rig, &alice);
    let answer = client.next(body()).await;
    assert_eq!(told(&answer), [whole]);
    assert_eq!(answer["lists"], json!({"all": {"count": 2}, "named": {"count": 1}}));
    damage.mend();
    let answer = client.next(body()).await;
    assert_eq!((told(&answer), &answer["rooms"][harmed]["name"]), (vec![harmed.as_str()], &json!("Tea")));
}
