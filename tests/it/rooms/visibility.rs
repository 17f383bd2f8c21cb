//! Every way to read a room, by every visibility, by everything that a user can have been to it: what is told is what
//! the specification says, stated here once more from the bare events.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

mod truth;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tayberry::base::rng::Rng;

use self::truth::{Moment, Related, State, Truth, entry, id, topic};
use super::{act, create, encoded, next, read, relating, say, set, sync, tell};
use crate::rig::{Member, Reply, Rig};

/// What can become of Dave, or of the room around him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Invited,
    Joins,
    Knocks,
    Leaves,
    Kicked,
    Banned,
    Unbanned,
    Forgets,
    Becomes(&'static str),
}

use Step::{Banned, Becomes, Forgets, Invited, Joins, Kicked, Knocks, Leaves, Unbanned};

const STORIES: [&[Step]; 16] = [
    &[],
    &[Invited],
    &[Invited, Leaves],
    &[Invited, Kicked],
    &[Invited, Joins],
    &[Invited, Joins, Leaves],
    &[Joins],
    &[Joins, Leaves],
    &[Joins, Kicked],
    &[Joins, Banned],
    &[Joins, Banned, Unbanned],
    &[Joins, Leaves, Invited],
    &[Joins, Leaves, Joins],
    &[Joins, Leaves, Forgets],
    &[Joins, Leaves, Forgets, Invited],
    &[Banned],
];

/// Those that take a room at whose door one knocks.
const KNOCKS: [&[Step]; 4] =
    [&[Knocks], &[Knocks, Leaves], &[Knocks, Kicked], &[Knocks, Invited, Joins, Leaves]];

/// Without the setting and with one that nobody understands, a room is `shared`.
const VISIBILITIES: [&str; 6] = ["world_readable", "shared", "invited", "joined", "", "org.example.unknown"];

// RULES R31, R32
#[tokio::test]
async fn every_visibility_by_every_membership() {
    let walk = Walk::start().await;
    for visibility in VISIBILITIES {
        for story in STORIES.into_iter().chain(KNOCKS) {
            walk.check(visibility, story).await;
        }
    }
}

#[tokio::test]
async fn every_change_of_visibility() {
    let walk = Walk::start().await;
    for from in &VISIBILITIES[..4] {
        for to in VISIBILITIES[..4].iter().filter(|to| *to != from) {
            for story in [
                &[Becomes(to)][..],
                &[Becomes(to), Invited, Joins],
                &[Invited, Becomes(to), Joins],
                &[Joins, Becomes(to), Leaves],
                &[Joins, Leaves, Becomes(to)],
                &[Joins, Leaves, Becomes(to), Forgets],
            ] {
                walk.check(from, story).await;
            }
        }
    }
}

#[tokio::test]
async fn random_stories() {
    let walk = Walk::start().await;
    let rng = Rng::seeded(1);
    for _ in 0..40 {
        let visibility = any(&rng, &VISIBILITIES);
        walk.check(visibility, &story(&rng)).await;
    }
}

/// A story in which each step may be taken after those before it.
fn story(rng: &Rng) -> Vec<Step> {
    let knocks = rng.below(3) == 0;
    let (mut steps, mut membership) = (Vec::new(), "none");
    for _ in 0..=rng.below(9) {
        let enter = if knocks { Knocks } else { Joins };
        let step = match membership {
            "none" => any(rng, &[enter, enter, Invited, Banned]),
            "leave" => any(rng, &[enter, enter, Invited, Banned, Forgets]),
            "knock" => any(rng, &[Invited, Invited, Leaves, Kicked, Banned]),
            "invite" => any(rng, &[Joins, Joins, Joins, Leaves, Kicked, Banned]),
            "join" => any(rng, &[Leaves, Kicked, Banned]),
            _ => any(rng, &[Unbanned, Forgets]),
        };
        membership = match any(rng, &[step, step, Becomes(any(rng, &VISIBILITIES))]) {
            Becomes(visibility) => {
                steps.push(Becomes(visibility));
                continue;
            }
            Invited => "invite",
            Joins => "join",
            Knocks => "knock",
            Leaves | Kicked | Unbanned => "leave",
            Banned => "ban",
            Forgets => membership,
        };
        steps.push(step);
    }
    steps
}

fn any<T: Copy>(rng: &Rng, among: &[T]) -> T {
    among[rng.below(among.len() as u64) as usize]
}

/// A server where Alice's rooms are, and Dave, who looks.
struct Walk {
    rig: Rig,
    alice: Member,
    dave: Member,
}

/// A room after a story.
struct Scene {
    room: String,
    /// What there was to see after each step, and what Dave's next sync answered: with all events, and with few.
    steps: Vec<(Truth, [Value; 2])>,
    name: String,
}

impl Walk {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let (alice, dave) = (rig.register("alice").await, rig.register("dave").await);
        Self { rig, alice, dave }
    }

    async fn check(&self, visibility: &str, story: &[Step]) {
        let scene = self.play(visibility, story).await;
        let (truth, _) = scene.steps.last().unwrap();
        self.check_events(&scene, truth).await;
        self.check_pages(&scene, truth).await;
        self.check_relations(&scene, truth).await;
        self.check_times(&scene, truth).await;
        self.check_notifications(&scene, truth).await;
        self.check_state(&scene, truth).await;
        self.check_syncs(&scene, truth).await;
        // Out of the way of the next.
        let leave = format!("/_matrix/client/v3/rooms/{}/leave", scene.room);
        self.rig.send_as(&self.dave, "POST", &leave, json!({})).await;
        let forget = format!("/_matrix/client/v3/rooms/{}/forget", scene.room);
        self.rig.send_as(&self.dave, "POST", &forget, json!({})).await;
    }

    /// Makes a room and lets the story happen, with a message and a topic before, between and after its steps, and with
    /// what relates to the first message.
    async fn play(&self, visibility: &str, story: &[Step]) -> Scene {
        let Self { rig, alice, dave } = self;
        let rule = if story.contains(&Knocks) { "knock" } else { "public" };
        let state = json!([
            {"type": "m.room.history_visibility", "content": setting(visibility)},
            {"type": "m.room.join_rules", "content": {"join_rule": rule}},
        ]);
        let start = next(&sync(rig, dave, &query(MANY)).await);
        let mut since = [start.clone(), start];
        let room = create(rig, alice, json!({"preset": "private_chat", "initial_state": state})).await;
        let (mut forgotten, mut root) = (false, None);
        let mut steps = Vec::new();
        for at in 0..=story.len() {
            if let Some(step) = at.checked_sub(1).map(|at| story[at]) {
                self.take(&room, step).await;
                forgotten = step == Forgets || forgotten && step != Joins;
            }
            rig.advance(Duration::from_secs(1));
            let said = say(rig, alice, &room, &format!("said {at}"), &format!("{room}{at}")).await;
            let root = root.get_or_insert(said);
            for rel_type in ["m.thread", ["m.replace", "m.reference"][at % 2]] {
                let transaction = format!("{room}{at}{rel_type}");
                let content = relating(rel_type, root, &format!("{rel_type} {at}"));
                tell(rig, alice, &room, ("m.room.message", &transaction), content).await;
            }
            set(rig, alice, &room, "m.room.topic", json!({"topic": format!("topic {at}")})).await;
            let mut news = [Value::Null, Value::Null];
            for (at, limit) in [MANY, FEW].into_iter().enumerate() {
                news[at] = sync(rig, dave, &format!("{}&since={}", query(limit), since[at])).await;
                since[at] = next(&news[at]);
            }
            let all = read(rig, alice, &format!("rooms/{room}/messages?dir=f&limit=100")).await;
            steps.push((Truth::of(all["chunk"].as_array().unwrap(), &dave.user_id, forgotten), news));
        }
        Scene { room, steps, name: format!("{visibility:?} {story:?}") }
    }

    async fn take(&self, room: &str, step: Step) {
        let Self { rig, alice, dave } = self;
        let him = json!({"user_id": dave.user_id});
        match step {
            Invited => act(rig, alice, room, "invite", him).await,
            Joins => act(rig, dave, room, "join", json!({})).await,
            Leaves => act(rig, dave, room, "leave", json!({})).await,
            Kicked => act(rig, alice, room, "kick", him).await,
            Banned => act(rig, alice, room, "ban", him).await,
            Unbanned => act(rig, alice, room, "unban", him).await,
            Forgets => act(rig, dave, room, "forget", json!({})).await,
            Knocks => {
                let path = format!("/_matrix/client/v3/knock/{room}");
                rig.send_as(dave, "POST", &path, json!({})).await.ok();
            }
            Becomes(visibility) => {
                set(rig, alice, room, "m.room.history_visibility", setting(visibility)).await;
            }
        }
    }

    /// What Dave gets for a path below the room's.
    async fn look(&self, scene: &Scene, path: &str) -> Reply {
        let path = format!("/_matrix/client/v3/rooms/{}/{path}", scene.room);
        self.rig.send_as(&self.dave, "GET", &path, Value::Null).await
    }

    /// What Dave gets for a path below the room's, of a newer version.
    async fn look_v1(&self, scene: &Scene, path: &str) -> Reply {
        let path = format!("/_matrix/client/v1/rooms/{}/{path}", scene.room);
        self.rig.send_as(&self.dave, "GET", &path, Value::Null).await
    }

    async fn check_events(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        for (at, Moment { event, .. }) in truth.moments.iter().enumerate() {
            let id = id(event);
            let alone = self.look(scene, &format!("event/{id}")).await;
            let context = self.look(scene, &format!("context/{id}?limit=300")).await;
            if !truth.allows(at) {
                assert_eq!(alone.error(), (404, "M_NOT_FOUND"), "{name}: {event}");
                assert_eq!(context.error(), (404, "M_NOT_FOUND"), "{name}: {event}");
                continue;
            }
            assert_eq!(alone.ok()["content"], event["content"], "{name}");
            let context = context.ok();
            let mut around = ids(&context["events_before"]);
            around.extend(ids(&context["events_after"]));
            around.insert(id.clone());
            let mut expected = truth.paged();
            expected.insert(id);
            assert_eq!(around, expected, "{name}: around {event}");
            let last = context["events_after"].as_array().and_then(|after| after.last()).unwrap_or(event);
            let last = truth.place(last);
            let state = truth.moments[last].state.values().map(self::id).filter(|_| truth.allows_state(last));
            assert_eq!(ids(&context["state"]), state.collect(), "{name}: around {event}");
        }
    }

    async fn check_pages(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        for query in ["dir=f&limit=100", "dir=b&limit=100", "dir=f&limit=2", "dir=b&limit=2"] {
            let (mut seen, mut from) = (BTreeSet::new(), String::new());
            loop {
                let reply = self.look(scene, &format!("messages?{query}{from}")).await;
                if truth.state().is_none() {
                    assert_eq!(reply.error(), (403, "M_FORBIDDEN"), "{name}");
                    break;
                }
                let page = reply.ok();
                seen.extend(ids(&page["chunk"]));
                let Some(end) = page["end"].as_str() else {
                    assert_eq!(seen, truth.paged(), "{name} {query}");
                    break;
                };
                from = format!("&from={end}");
            }
        }
    }

    async fn check_relations(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let (at, root) = truth.root();
        let related = truth.related();
        let told = self.look_v1(scene, &format!("relations/{root}?limit=100")).await;
        let recursive = self.look_v1(scene, &format!("relations/{root}?limit=100&recurse=true")).await;
        let threads = self.look_v1(scene, "threads").await;
        if truth.allows(at) {
            let all: BTreeSet<String> = related.values().flatten().cloned().collect();
            assert_eq!(ids(&told.ok()["chunk"]), all, "{name}");
            assert_eq!(ids(&recursive.ok()["chunk"]), all, "{name}");
            let event = self.look(scene, &format!("event/{root}")).await.ok();
            check_bundle(&event, &related, name);
        } else {
            assert_eq!(told.error(), (404, "M_NOT_FOUND"), "{name}");
            assert_eq!(recursive.error(), (404, "M_NOT_FOUND"), "{name}");
        }
        if truth.state().is_some() {
            let is_told = truth.allows(at) && related.contains_key("m.thread");
            let told = threads.ok();
            assert_eq!(ids(&told["chunk"]), is_told.then_some(root.clone()).into_iter().collect(), "{name}");
            if is_told {
                check_bundle(&told["chunk"][0], &related, name);
            }
            let page = self.look(scene, "messages?dir=f&limit=100").await.ok();
            if let Some(event) = page["chunk"].as_array().unwrap().iter().find(|event| id(event) == root) {
                check_bundle(event, &related, name);
            }
        } else {
            assert_eq!(threads.error(), (403, "M_FORBIDDEN"), "{name}");
        }
    }

    async fn check_times(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let time = |event: &Value| event["origin_server_ts"].as_u64().unwrap();
        let events: Vec<&Value> = truth.moments.iter().map(|moment| &moment.event).collect();
        let seen: Vec<&&Value> = events.iter().filter(|event| truth.paged().contains(&id(event))).collect();
        let mut times: BTreeSet<u64> = events.iter().map(|event| time(event)).collect();
        times.extend(times.last().map(|last| last + 1));
        for at in times {
            for (dir, nearest) in [
                ("f", seen.iter().find(|event| time(event) >= at)),
                ("b", seen.iter().rfind(|event| time(event) <= at)),
            ] {
                let reply = self.look_v1(scene, &format!("timestamp_to_event?ts={at}&dir={dir}")).await;
                match nearest {
                    _ if truth.state().is_none() => assert_eq!(reply.error(), (403, "M_FORBIDDEN"), "{name}"),
                    None => assert_eq!(reply.error(), (404, "M_NOT_FOUND"), "{name} {at} {dir}"),
                    Some(event) => {
                        let expected = json!({"event_id": id(event), "origin_server_ts": time(event)});
                        assert_eq!(reply.ok(), expected, "{name} {at} {dir}");
                    }
                }
            }
        }
    }

    async fn check_notifications(&self, scene: &Scene, truth: &Truth) {
        let told = read(&self.rig, &self.dave, "notifications?limit=100").await;
        assert_eq!(told.get("next_token"), None);
        let told = told["notifications"].as_array().unwrap().iter();
        let told = told.filter(|told| told["room_id"] == scene.room).map(|told| id(&told["event"]));
        assert_eq!(told.collect::<BTreeSet<_>>(), truth.notified(), "{}", scene.name);
    }

    async fn check_state(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let own = format!("state/m.room.member/{}", self.dave.user_id);
        let mut replies = Vec::new();
        for path in ["state", "members", "state/m.room.topic/", &own] {
            replies.push(self.look(scene, path).await);
        }
        if let Some(state) = truth.state() {
            let entry = |kind: &str, key: &str| state.get(&(kind.to_owned(), key.to_owned()));
            assert_eq!(ids(&replies[0].body), state.values().map(id).collect(), "{name}");
            assert_eq!(ids(&replies[1].body["chunk"]), members(state), "{name}");
            assert_eq!(replies[2].body, entry("m.room.topic", "").unwrap()["content"], "{name}");
            match entry("m.room.member", &self.dave.user_id) {
                Some(member) => assert_eq!(replies[3].body, member["content"], "{name}"),
                None => assert_eq!(replies[3].error(), (404, "M_NOT_FOUND"), "{name}"),
            }
        } else {
            for reply in replies {
                assert_eq!(reply.error(), (403, "M_FORBIDDEN"), "{name}");
            }
        }
        for (then, [news, _]) in &scene.steps {
            let at = then.moments.len() - 1;
            let at = truth.end().map_or(at, |end| at.min(end));
            let token = next(news);
            let reply = self.look(scene, &format!("members?at={token}")).await;
            if truth.state().is_some() && truth.allows_state(at) {
                assert_eq!(ids(&reply.ok()["chunk"]), members(&truth.moments[at].state), "{name}");
            } else {
                assert_eq!(reply.error(), (403, "M_FORBIDDEN"), "{name}");
            }
        }
        let joined = truth.now().after.membership == "join";
        let reply = self.look(scene, "joined_members").await;
        assert_eq!(reply.status, if joined { 200 } else { 403 }, "{name}: {}", reply.body);
        let present = joined || truth.now().after.visibility == "world_readable";
        let reply = self.look(scene, "aliases").await;
        assert_eq!(reply.status, if present { 200 } else { 403 }, "{name}: {}", reply.body);
    }

    async fn check_syncs(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let pending = ["invite", "knock"].contains(&&truth.now().after.membership[..]);
        for limit in [MANY, FEW] {
            let answer = sync(&self.rig, &self.dave, &query(limit)).await;
            let (mut events, topics) = told(&answer, &scene.room);
            assert!(events.is_subset(&truth.told(truth.visible())), "{name}: {events:?}");
            assert!(topics.is_subset(&truth.topics()), "{name}: {topics:?}");
            if truth.end().is_some() && !pending {
                events.extend(self.before_timeline(scene, &answer).await);
                assert_eq!(events, truth.told(truth.paged()), "{name}");
                let mut state = State::new();
                play(&mut state, &answer, &scene.room);
                truth.check_told(&state, name);
            }
        }
        let mut seen = BTreeSet::new();
        let mut states = [State::new(), State::new()];
        for (at, (then, news)) in scene.steps.iter().enumerate() {
            for (state, news) in states.iter_mut().zip(news) {
                let (events, topics) = told(news, &scene.room);
                assert!(events.is_subset(&then.told(then.visible())), "{name}, at {at}: {events:?}");
                assert!(topics.is_subset(&then.topics()), "{name}, at {at}: {topics:?}");
                seen.extend(events);
                play(state, news, &scene.room);
                then.check_told(state, &format!("{name}, at {at}"));
            }
        }
        let unseen: Vec<_> = truth.present(0).difference(&seen).cloned().collect();
        assert!(unseen.is_empty(), "{name}: no sync told of {unseen:?}");
        if truth.forgotten || pending {
            return;
        }
        // A client that slept through the rest is told of it all at once.
        for (at, (then, [news, _])) in scene.steps.iter().enumerate() {
            let query = format!("{}&since={}", query(MANY), next(news));
            let (events, topics) = told(&sync(&self.rig, &self.dave, &query).await, &scene.room);
            assert!(events.is_subset(&truth.told(truth.visible())), "{name}, slept at {at}: {events:?}");
            assert!(topics.is_subset(&truth.topics()), "{name}, slept at {at}: {topics:?}");
            let unseen: Vec<_> = truth.present(then.moments.len()).difference(&events).cloned().collect();
            assert!(unseen.is_empty(), "{name}, slept at {at}: not told of {unseen:?}");
        }
    }

    /// What is found by paging back from where a sync's timeline begins, if that leaves something out.
    async fn before_timeline(&self, scene: &Scene, answer: &Value) -> BTreeSet<String> {
        let rooms = &answer["rooms"];
        let room = rooms["join"].get(&scene.room).unwrap_or(&rooms["leave"][&scene.room]);
        if room["timeline"]["limited"] != true {
            return BTreeSet::new();
        }
        let from = room["timeline"]["prev_batch"].as_str().unwrap();
        ids(&self.look(scene, &format!("messages?dir=b&limit=100&from={from}")).await.ok()["chunk"])
    }
}

fn setting(visibility: &str) -> Value {
    if visibility.is_empty() { json!({}) } else { json!({"history_visibility": visibility}) }
}

/// Checks what is told with an event of those that relate to it.
fn check_bundle(event: &Value, related: &Related, name: &str) {
    let relations = &event["unsigned"]["m.relations"];
    let of = |rel_type: &str| related.get(rel_type).map(Vec::as_slice).unwrap_or_default();
    let (thread, chunk) = (&relations["m.thread"], &relations["m.reference"]["chunk"]);
    let references: Vec<String> = chunk.as_array().into_iter().flatten().map(id).collect();
    assert_eq!(references, of("m.reference"), "{name}");
    assert_eq!(
        relations["m.replace"]["event_id"].as_str(),
        of("m.replace").last().map(String::as_str),
        "{name}"
    );
    assert_eq!(thread["count"].as_u64().unwrap_or_default(), of("m.thread").len() as u64, "{name}");
    let latest = thread["latest_event"]["event_id"].as_str();
    assert_eq!(latest, of("m.thread").last().map(String::as_str), "{name}");
}

/// The query of a sync with at most so many events of each room, those that were left included.
fn query(limit: u32) -> String {
    let filter = json!({"room": {"include_leave": true, "timeline": {"limit": limit}}});
    format!("filter={}", encoded(&filter.to_string()))
}

/// More events than any story has, and so few that a timeline begins in the middle of a step.
const MANY: u32 = 100;
const FEW: u32 = 2;

fn ids(events: &Value) -> BTreeSet<String> {
    events.as_array().into_iter().flatten().map(id).collect()
}

fn members(state: &State) -> BTreeSet<String> {
    state.values().filter(|event| event["type"] == "m.room.member").map(id).collect()
}

/// What a client does with a sync: it takes the state that it is told and plays the timeline over it.
fn play(state: &mut State, answer: &Value, room: &str) {
    for section in ["join", "leave"] {
        for part in ["state", "timeline"] {
            let events = answer["rooms"][section][room][part]["events"].as_array().into_iter().flatten();
            for event in events {
                state.extend(entry(event));
            }
        }
    }
}

/// What a sync told of a room where the user is or was: the events, and the topics in its state or among them.
fn told(answer: &Value, room: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut events, mut topics) = (BTreeSet::new(), BTreeSet::new());
    for section in ["join", "leave"] {
        let told = &answer["rooms"][section][room];
        events.extend(ids(&told["timeline"]["events"]));
        for part in ["state", "timeline"] {
            let all = told[part]["events"].as_array().into_iter().flatten();
            topics.extend(all.filter(|event| event["type"] == "m.room.topic").map(topic));
        }
    }
    (events, topics)
}
