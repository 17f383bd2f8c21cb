//! What Alice, who lives here, is told of events that came from elsewhere.

use std::{collections::BTreeSet, path};

use ruma::{
    api::{Direction, client::filter::FilterDefinition},
    events::AnyTimelineEvent,
    serde::Raw,
};
use serde_json::Value;

use super::*;
use crate::{
    base::{
        clock::{Clock, Timestamp},
        ids::{DeviceNumber, Position},
        rng::Rng,
    },
    config::Config,
    room::{fixture::key_pair, redact},
    service::{
        App,
        app::Parts,
        notifications::{self, Notifications},
        read::{
            access::{Access, ReadError},
            page::{Walk, walk},
            reader::{Onlooker, Reader},
            relations, state, threads, time,
        },
        sync::{
            plan::{Query, StateAs},
            unlogged::Unlogged,
            v3::answer,
        },
    },
    store::events::Membership,
};

/// A client of Alice's that follows the room by `/sync` and believes what it is told.
#[derive(Default)]
struct Client {
    since: Option<Position>,
    timeline: Vec<Value>,
    /// The room's state while she is in it.
    state: Option<Flat>,
}

impl Client {
    /// Syncs, and gives the new part of the timeline.
    fn sync(&mut self, rig: &Rig) -> Vec<Value> {
        let (since, room_id) = (self.since, rig.server.room_id(rig.room));
        let (response, position) = rig.read_as_alice(move |view, onlooker| {
            let mut filter = FilterDefinition::default();
            filter.room.timeline.limit = Some(100_u32.into());
            let query = Query {
                onlooker,
                since,
                to_device: Position::default(),
                heard: None,
                lost: false,
                filter,
                full_state: false,
                state: StateAs::After,
            };
            let answer = answer(view, &Arc::new(query), Unlogged::default())?;
            Ok((serde_json::from_slice::<Value>(&answer.json).unwrap(), view.position()))
        });
        self.since = Some(position);
        let (rooms, mut news) = (&response["rooms"], Vec::new());
        let events = |list: &Value| list["events"].as_array().unwrap().clone();
        if let Some(room) = rooms["join"].get(room_id.as_str()) {
            let state = self.state.get_or_insert_default();
            for event in events(&room["state_after"]) {
                let field = |name: &str| event[name].as_str().unwrap().to_owned();
                state.insert((field("type"), field("state_key")), id(&event));
            }
            news = events(&room["timeline"]);
        } else if let Some(room) = rooms["leave"].get(room_id.as_str()) {
            self.state = None;
            news = events(&room["timeline"]);
        }
        self.timeline.extend(news.iter().cloned());
        news
    }
}

impl Rig {
    fn read_as_alice<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>, Onlooker) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.server.read(move |view| {
            let user_id = <&UserId>::try_from(ALICE).unwrap().to_owned();
            let user = view.user_number(&user_id)?.unwrap();
            read(view, Onlooker { user, user_id, device: DeviceNumber(1), now: Timestamp(2_000_000) })
        })
    }

    /// What Alice finds by paging.
    fn page(&self, direction: Direction) -> Vec<Value> {
        let room_id = self.server.room_id(self.room);
        self.read_as_alice(move |view, onlooker| {
            let access = Access::of(view, &room_id, onlooker.user).unwrap();
            let graph = view.graph(access.room);
            let mut reader = Reader::new(view, &graph, &access, &onlooker);
            let steps = Walk { direction, from: None, to: None, limit: 100, stops: false };
            let page = walk(view, &access, &mut reader, &Default::default(), steps)?;
            page.events.iter().map(|(_, event)| Ok(value(&reader.write(event)?))).collect()
        })
    }

    /// What Alice gets for an event's id.
    fn look(&self, id: &EventId) -> Option<Value> {
        let (room_id, id) = (self.server.room_id(self.room), id.to_owned());
        self.read_as_alice(move |view, onlooker| {
            let access = Access::to_events(view, &room_id, onlooker.user)?.unwrap();
            let graph = view.graph(access.room);
            let reader = Reader::new(view, &graph, &access, &onlooker);
            let Some(number) = view.event_number(access.room, &id)? else { return Ok(None) };
            let event = reader.visible(number)?;
            event.map(|event| Ok(value(&reader.write(&event)?))).transpose()
        })
    }

    /// Reads what has a meaning for the server, too: members, their names and the state, whole and piece by piece.
    fn read_all(&self) {
        let app = App::new(Parts {
            config: Config::of_defaults(ruma::server_name!("one.example"), path::Path::new("unused")),
            store: self.server.store().clone(),
            signing_key: key_pair("one.example"),
            clock: Clock::manual(Timestamp(2_000_000)),
            rng: Rng::seeded(1),
        });
        let onlooker = self.read_as_alice(|_, onlooker| Ok(onlooker));
        let room_id = self.server.room_id(self.room);
        let who = || (onlooker.clone(), room_id.clone());
        let (state_size, joined) = (self.current().len(), self.alice_is_joined());
        let pages =
            [Direction::Forward, Direction::Backward].map(|direction| (direction, self.page(direction)));
        self.server.block_on(async {
            let (onlooker, room_id) = who();
            let Ok(mut listed) = state::all(&app, onlooker, room_id).await else { return assert!(!joined) };
            let mut all = b"[".to_vec();
            while let Some(page) = listed.next(&app).await.unwrap() {
                all.extend(page);
            }
            all.push(b']');
            let all: Vec<Value> = serde_json::from_slice(&all).unwrap();
            assert!(!joined || all.len() == state_size);
            for event in all {
                let field = |name: &str| event[name].as_str().unwrap().to_owned();
                let key = (field("type").into(), field("state_key"));
                let (onlooker, room_id) = who();
                let content = state::content(&app, onlooker, room_id, key).await.unwrap();
                assert_eq!(serde_json::from_str::<Value>(content.get()).unwrap(), event["content"]);
            }
            let (onlooker, room_id) = who();
            state::members(&app, onlooker, room_id, state::Members::default()).await.unwrap();
            let (onlooker, room_id) = who();
            let wanted = threads::Wanted { from: None, limit: 100, participated: true };
            threads::threads(&app, onlooker, room_id, wanted).await.unwrap();
            for (direction, page) in pages {
                for moment in [Timestamp(0), Timestamp(1_000_000), Timestamp(u64::MAX)] {
                    let (onlooker, room_id) = who();
                    let found = time::event_at(&app, onlooker, room_id, (moment, direction)).await;
                    assert!(matches!(found, Ok(_) | Err(ReadError::NotFound)));
                }
                for event in page {
                    let (onlooker, room_id) = who();
                    let wanted = relations::Wanted {
                        rel_type: None,
                        event_type: None,
                        direction,
                        from: None,
                        to: None,
                        limit: 100,
                        recurse: true,
                    };
                    relations::relations(&app, onlooker, (room_id, id(&event)), wanted).await.unwrap();
                }
            }
            let (onlooker, room_id) = who();
            assert_eq!(state::joined_members(&app, onlooker, room_id).await.is_ok(), joined);
        });
    }

    /// What Alice is notified of.
    fn notified(&self) -> Vec<Value> {
        self.read_as_alice(|view, onlooker| {
            let wanted = notifications::Wanted { from: None, limit: 100, highlights: false };
            let Notifications { notifications, next } =
                notifications::page(view, &onlooker, &wanted, None).unwrap();
            assert_eq!(next, None);
            Ok(notifications
                .iter()
                .map(|told| serde_json::from_str(told.event.json().get()).unwrap())
                .collect())
        })
    }

    fn alice_is_joined(&self) -> bool {
        self.server.membership(self.room, ALICE) == Some(Membership::Join)
    }

    /// Checks that nothing shows an event.
    #[track_caller]
    fn hides(&self, client: &mut Client, event: &EventId) {
        let told = [
            client.sync(self),
            self.page(Direction::Forward),
            self.page(Direction::Backward),
            self.notified(),
        ]
        .concat();
        assert!(told.iter().all(|told| id(told) != event), "{told:?}");
        assert_eq!(self.look(event), None);
    }

    /// Checks that every way of reading shows an event, and gives it.
    #[track_caller]
    fn shows(&self, client: &mut Client, event: &EventId) -> Value {
        let found = self.look(event).unwrap();
        for mut told in [client.sync(self), self.page(Direction::Forward), self.page(Direction::Backward)] {
            told.retain(|told| id(told) == event);
            assert_eq!(told.len(), 1);
            assert_eq!(told[0]["content"], found["content"]);
        }
        found
    }
}

fn value(event: &Raw<AnyTimelineEvent>) -> Value {
    serde_json::from_str(event.json().get()).unwrap()
}

fn id(event: &Value) -> OwnedEventId {
    event["event_id"].as_str().unwrap().try_into().unwrap()
}

/// A room as every version has it, a server that follows it, and Alice's client, which knows it.
fn scene(version: &str) -> (World, OwnedEventId, Rig, Client) {
    let (world, last) = World::new(version);
    let rig = Rig::like(&world);
    let mut client = Client::default();
    assert_eq!(client.sync(&rig).len(), 6);
    (world, last, rig, client)
}

#[test]
fn both_sides_of_a_fork_are_told_and_the_state_that_won() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let one = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "1" }));
        let two = world.make(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "2" }));
        let said = world.make(CAROL, &[&last], "m.room.message", None, json!({ "body": "beside" }));
        for event in [two, one, said] {
            world.arrive(event.clone());
            assert_eq!(stands(rig.take(event.clone())), Standing::Live);
            rig.shows(&mut client, &world.id_of(&event));
            assert_eq!(client.state, Some(rig.current()));
        }
        assert_eq!(rig.current(), flat(&world, &world.current));
    }
}

#[test]
fn a_rejected_event_is_never_shown() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let topic = world.make(CAROL, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let topic_id = world.id_of(&topic);
        world.arrive(topic.clone());
        assert_eq!(stands(rig.take(topic)), Standing::Rejected);
        rig.hides(&mut client, &topic_id);
        let next = world.make(BOB, &[&topic_id], "m.room.message", None, json!({}));
        assert_eq!(stands(rig.take(next.clone())), Standing::Live);
        rig.shows(&mut client, &world.id_of(&next));
        rig.hides(&mut client, &topic_id);
        assert_eq!(client.state, Some(rig.current()));
    }
}

#[test]
fn a_soft_failed_event_is_never_shown() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let ban = world.make(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        let evading = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "still here" }));
        let topic = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "still here" }));
        let (ban_id, evading_id, topic_id) = (world.id_of(&ban), world.id_of(&evading), world.id_of(&topic));
        assert_eq!(stands(rig.take(ban.clone())), Standing::Live);
        rig.shows(&mut client, &ban_id);
        for event in [&evading, &topic] {
            assert_eq!(stands(rig.take(event.clone())), Standing::SoftFailed);
            rig.hides(&mut client, &world.id_of(event));
        }
        // Even once others build on it.
        for event in [ban, evading, topic] {
            world.arrive(event);
        }
        let both = world.make(ALICE, &[&ban_id, &evading_id, &topic_id], "m.room.message", None, json!({}));
        assert_eq!(stands(rig.take(both.clone())), Standing::Live);
        rig.shows(&mut client, &world.id_of(&both));
        rig.hides(&mut client, &evading_id);
        rig.hides(&mut client, &topic_id);
        assert_eq!(client.state, Some(rig.current()));
    }
}

#[test]
fn what_lacks_its_parents_or_its_signature_is_not_told() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let first = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "1" }));
        let first_id = world.id_of(&first);
        world.arrive(first.clone());
        let second = world.make(BOB, &[&first_id], "m.room.message", None, json!({ "body": "2" }));
        assert!(matches!(rig.take(second.clone()), Ingested::Needs(_)));
        rig.hides(&mut client, &world.id_of(&second));
        let mut forged = first.clone();
        let by_carol = world.signed(forged.clone(), <&UserId>::try_from(CAROL).unwrap());
        forged.insert("signatures".to_owned(), by_carol["signatures"].clone());
        assert!(matches!(rig.take(forged), Ingested::Dropped(Dropped::Signature(_))));
        rig.hides(&mut client, &first_id);
        for event in [first, second] {
            assert_eq!(stands(rig.take(event.clone())), Standing::Live);
            rig.shows(&mut client, &world.id_of(&event));
        }
    }
}

#[test]
fn what_does_not_match_its_hash_is_shown_redacted() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let event = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "as signed" }));
        let id = world.id_of(&event);
        let changed = tampered(event.clone(), "content", json!({ "body": "as forged" }));
        assert_eq!(stands(rig.take(changed)), Standing::Live);
        assert_eq!(rig.shows(&mut client, &id)["content"], json!({}));
        // The other is the same event, and comes too late.
        assert_eq!(stands(rig.take(event)), Standing::Live);
        assert_eq!(client.sync(&rig), [] as [Value; 0]);
        assert_eq!(rig.look(&id).unwrap()["content"], json!({}));
    }
}

#[test]
fn a_redaction_is_shown_once_it_redacts() {
    for version in versions() {
        for (by, applies) in [(BOB, true), (ALICE, true), (CAROL, false)] {
            let (mut world, last, rig, mut client) = scene(version);
            let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "x" }));
            let target = world.id_of(&message);
            let redaction = world.redaction(by, &[&last], &target);
            let redaction_id = world.id_of(&redaction);
            // Until version 2 the authorisation rules judge it, and whatever stands is shown.
            let judged = ["1", "2"].contains(&version);
            let expected = if judged && !applies { Standing::Rejected } else { Standing::Live };
            assert_eq!(stands(rig.take(redaction)), expected);
            match judged && applies {
                true => _ = rig.shows(&mut client, &redaction_id),
                false => rig.hides(&mut client, &redaction_id),
            }
            assert_eq!(stands(rig.take(message)), Standing::Live);
            let shown = rig.shows(&mut client, &target);
            if applies {
                assert_eq!(shown["content"], json!({}));
                assert_eq!(shown["unsigned"]["redacted_because"]["event_id"], redaction_id.as_str());
                assert!(rig.look(&redaction_id).is_some());
            } else {
                assert_eq!(shown["content"], json!({ "body": "x" }));
                rig.hides(&mut client, &redaction_id);
            }
        }
    }
}

#[test]
fn a_soft_failed_redaction_redacts_nothing() {
    for version in versions() {
        let (mut world, last, rig, mut client) = scene(version);
        let message = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "x" }));
        let target = world.id_of(&message);
        world.arrive(message.clone());
        let redaction = world.redaction(BOB, &[&target], &target);
        let ban = world.make(ALICE, &[&target], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        for event in [message, ban] {
            assert_eq!(stands(rig.take(event)), Standing::Live);
        }
        assert_eq!(stands(rig.take(redaction.clone())), Standing::SoftFailed);
        rig.hides(&mut Client::default(), &world.id_of(&redaction));
        assert_eq!(rig.shows(&mut client, &target)["content"], json!({ "body": "x" }));
    }
}

// RULES R31
#[test]
fn what_was_said_beside_ones_coming_back_is_as_hidden_as_before() {
    for version in versions() {
        for (visibility, hidden) in [("shared", false), ("joined", true)] {
            let (mut world, last, rig, mut client) = scene(version);
            let take = |world: &mut World, prev: &EventId, sender, kind, key, content| {
                let event = world.make(sender, &[prev], kind, key, content);
                world.arrive(event.clone());
                assert_eq!(stands(rig.take(event.clone())), Standing::Live);
                world.id_of(&event)
            };
            let (member, message) = ("m.room.member", "m.room.message");
            let setting = json!({ "history_visibility": visibility });
            let set = take(&mut world, &last, ALICE, "m.room.history_visibility", Some(""), setting);
            let root = take(&mut world, &set, BOB, message, None, json!({ "body": "root" }));
            let left = take(&mut world, &root, ALICE, member, Some(ALICE), json!({ "membership": "leave" }));
            take(&mut world, &left, ALICE, member, Some(ALICE), json!({ "membership": "join" }));
            let mut said = Vec::new();
            for rel_type in ["m.thread", "m.reference", "m.replace"] {
                let content = json!({
                    "msgtype": "m.text", "body": "beside", "m.new_content": { "body": "beside" },
                    "m.relates_to": { "rel_type": rel_type, "event_id": root },
                });
                said.push(take(&mut world, &left, BOB, message, None, content));
            }
            let told = &rig.look(&root).unwrap()["unsigned"]["m.relations"];
            let notified: Vec<_> = rig.notified().iter().map(id).collect();
            if hidden {
                said.iter().for_each(|event| rig.hides(&mut client, event));
                assert_eq!(*told, Value::Null);
            } else {
                said.iter().for_each(|event| _ = rig.shows(&mut Client::default(), event));
                assert_eq!(told.as_object().unwrap().len(), 3);
                assert_eq!(notified, [said[1].clone(), said[0].clone()]);
            }
        }
    }
}

#[test]
fn the_most_recent_replacement_counts_and_not_the_last_to_come() {
    for version in versions() {
        let (mut world, last, rig, _) = scene(version);
        let said = world.make(BOB, &[&last], "m.room.message", None, json!({ "body": "1" }));
        let said_id = world.id_of(&said);
        world.arrive(said.clone());
        rig.take(said);
        let edits: Vec<_> = (0..4)
            .map(|at| {
                let relation = json!({ "rel_type": "m.replace", "event_id": said_id });
                let content = json!({ "at": at, "m.new_content": {}, "m.relates_to": relation });
                world.make(BOB, &[&said_id], "m.room.message", None, content)
            })
            .collect();
        let mut latest = 0;
        for at in [1, 3, 0, 2] {
            assert_eq!(stands(rig.take(edits[at].clone())), Standing::Live);
            latest = latest.max(at);
            let told = &rig.look(&said_id).unwrap()["unsigned"]["m.relations"]["m.replace"];
            assert_eq!(id(told), world.id_of(&edits[latest]), "{at}");
        }
    }
}

#[test]
fn a_soft_failed_event_is_redacted_where_a_state_has_it() {
    for version in versions() {
        let (mut world, last, rig, _) = scene(version);
        let topic = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let target = world.id_of(&topic);
        let redaction = world.redaction(ALICE, &[&last], &target);
        let ban = world.make(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        for event in [redaction, ban] {
            assert_eq!(stands(rig.take(event)), Standing::Live);
        }
        assert_eq!(stands(rig.take(topic)), Standing::SoftFailed);
        assert!(rig.event(&target).header.redacted_by.is_some());
    }
}

fn target(world: &World, id: &EventId) -> Option<OwnedEventId> {
    redact::target(&world.pdu(id).unwrap(), world.version)
}

/// Whether an event redacts what it names; none if it is no redaction.
fn redacts(world: &World, id: &EventId) -> Option<bool> {
    let target = world.pdu(&target(world, id)?).unwrap();
    Some(redact::applies(&world.pdu(id).unwrap(), &target, &world.before(id), world, world.version).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_knows_the_state_of_a_random_room_and_nothing_that_failed(
        steps in steps(),
        version in prop::sample::select(versions()),
        order in prop::collection::vec(any::<(u32, bool)>(), 24),
    ) {
        let (mut world, _, rig, mut client) = scene(version);
        let mut waiting: Vec<_> = world.play(&steps).into_iter().zip(&order).collect();
        waiting.sort_by_key(|(_, (order, _))| *order);
        while !waiting.is_empty() {
            waiting.retain(|(event, (_, pause))| {
                let waits = matches!(rig.take(event.clone()), Ingested::Needs(_));
                if *pause {
                    client.sync(&rig);
                    assert_eq!(client.state.is_some(), rig.alice_is_joined());
                    if let Some(known) = &client.state {
                        // A resolution can drop an entry for good, which no sync can say.
                        for (key, id) in rig.current() {
                            assert_eq!(known.get(&key), Some(&id), "{key:?}");
                        }
                    }
                }
                waits
            });
        }
        client.sync(&rig);
        let live = |id: &OwnedEventId| rig.event(id).header.standing == Standing::Live;
        let (idle, live): (BTreeSet<_>, BTreeSet<_>) =
            world.ids().into_iter().filter(live).partition(|id| redacts(&world, id) == Some(false));
        for id in &live {
            let by = rig.event(id).header.redacted_by;
            let known = world.ids().into_iter().filter(|by| live.contains(by) && target(&world, by) == Some(id.clone()));
            let known: Vec<_> = known.map(|by| rig.event(&by).number).collect();
            prop_assert!(by.map_or(known.is_empty(), |by| known.contains(&by)));
        }
        let told: BTreeSet<_> = client.timeline.iter().map(id).collect();
        prop_assert!(told.is_subset(&live) && told.is_disjoint(&idle));
        if client.state.is_some() {
            // What redacted before its target came is not told any more, but found.
            prop_assert!(live.difference(&told).all(|id| redacts(&world, id) == Some(true)));
            prop_assert_eq!(rig.page(Direction::Forward).iter().map(id).collect::<BTreeSet<_>>(), live);
        }
    }

    #[test]
    fn whatever_a_server_signs_everything_can_be_read(
        twists in twists(),
        version in prop::sample::select(versions()),
    ) {
        let (mut world, mut last, rig, mut client) = scene(version);
        for twist in &twists {
            let event = world.twisted(&last, twist);
            if let Outcome::Accepted = world.arrive(event.clone()) {
                last = world.id_of(&event);
                prop_assert_eq!(stands(rig.take(event)), Standing::Live);
                client.sync(&rig);
            } else {
                rig.take(event);
            }
        }
        let mut known = rig.page(Direction::Backward);
        known.reverse();
        prop_assert_eq!(known, rig.page(Direction::Forward));
        Client::default().sync(&rig);
        rig.read_all();
        prop_assert_eq!(rig.findings(), []);

        // What may be sent here then stands elsewhere.
        for draft in [
            draft("m.room.message", None, json!({ "body": "still here" })),
            draft("m.room.topic", Some(""), json!({ "topic": "still here" })),
            draft("m.room.member", Some("@dave:one.example"), json!({ "membership": "invite" })),
        ] {
            if let Ok(id) = rig.server.send(rig.room, ALICE, draft, None) {
                let outcome = world.arrive(rig.event(&id).pdu.object());
                prop_assert!(matches!(outcome, Outcome::Accepted), "{:?}", outcome);
            }
        }
    }
}
