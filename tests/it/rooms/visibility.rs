//! Every way to read a room, by every visibility, by everything that a user can have been to it: what is told is what
//! the specification says, stated here once more from the bare events.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{act, create, encoded, read, say, set, sync};
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

/// A server where Alice's rooms are, and Dave, who looks.
struct Walk {
    rig: Rig,
    alice: Member,
    dave: Member,
}

/// A room after a story.
struct Scene {
    room: String,
    /// What there was to see after each step, and what Dave's next sync answered.
    steps: Vec<(Truth, Value)>,
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
        self.check_state(&scene, truth).await;
        self.check_syncs(&scene, truth).await;
        // Out of the way of the next.
        let leave = format!("/_matrix/client/v3/rooms/{}/leave", scene.room);
        self.rig.send_as(&self.dave, "POST", &leave, json!({})).await;
        let forget = format!("/_matrix/client/v3/rooms/{}/forget", scene.room);
        self.rig.send_as(&self.dave, "POST", &forget, json!({})).await;
    }

    /// Makes a room and lets the story happen, with a message and a topic before, between and after its steps.
    async fn play(&self, visibility: &str, story: &[Step]) -> Scene {
        let Self { rig, alice, dave } = self;
        let rule = if story.contains(&Knocks) { "knock" } else { "public" };
        let state = json!([
            {"type": "m.room.history_visibility", "content": setting(visibility)},
            {"type": "m.room.join_rules", "content": {"join_rule": rule}},
        ]);
        let mut since = sync(rig, dave, &everything()).await["next_batch"].as_str().unwrap().to_owned();
        let room = create(rig, alice, json!({"preset": "private_chat", "initial_state": state})).await;
        let mut forgotten = false;
        let mut steps = Vec::new();
        for at in 0..=story.len() {
            if let Some(step) = at.checked_sub(1).map(|at| story[at]) {
                self.take(&room, step).await;
                forgotten = step == Forgets || forgotten && step != Joins;
            }
            say(rig, alice, &room, &format!("said {at}"), &format!("{room}{at}")).await;
            set(rig, alice, &room, "m.room.topic", json!({"topic": format!("topic {at}")})).await;
            let news = sync(rig, dave, &format!("{}&since={since}", everything())).await;
            news["next_batch"].as_str().unwrap().clone_into(&mut since);
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

    async fn check_events(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        for (at, Moment { event, .. }) in truth.moments.iter().enumerate() {
            let id = id(event);
            let alone = self.look(scene, &format!("event/{id}")).await;
            let context = self.look(scene, &format!("context/{id}?limit=100")).await;
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

    async fn check_state(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let own = format!("state/m.room.member/{}", self.dave.user_id);
        let mut replies = Vec::new();
        for path in ["state", "members", "state/m.room.topic/", &own] {
            replies.push(self.look(scene, path).await);
        }
        if let Some(state) = truth.state() {
            let entry = |kind: &str, key: &str| state.get(&(kind.to_owned(), key.to_owned()));
            let members = state.values().filter(|event| event["type"] == "m.room.member").map(id).collect();
            assert_eq!(ids(&replies[0].body), state.values().map(id).collect(), "{name}");
            assert_eq!(ids(&replies[1].body["chunk"]), members, "{name}");
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
        let joined = truth.now().after.membership == "join";
        let reply = self.look(scene, "joined_members").await;
        assert_eq!(reply.status, if joined { 200 } else { 403 }, "{name}: {}", reply.body);
        let present = joined || truth.now().after.visibility == "world_readable";
        let reply = self.look(scene, "aliases").await;
        assert_eq!(reply.status, if present { 200 } else { 403 }, "{name}: {}", reply.body);
    }

    async fn check_syncs(&self, scene: &Scene, truth: &Truth) {
        let name = &scene.name;
        let (first, topics) = told(&sync(&self.rig, &self.dave, &everything()).await, &scene.room);
        let permitted = truth.topics();
        assert!(topics.is_subset(&permitted), "{name}: {topics:?}, not {permitted:?}");
        let pending = ["invite", "knock"].contains(&&truth.now().after.membership[..]);
        match truth.end() {
            Some(_) if !pending => assert_eq!(first, truth.paged(), "{name}"),
            _ => assert!(first.is_subset(&truth.visible()), "{name}: {first:?}"),
        }
        let mut seen = BTreeSet::new();
        for (at, (then, news)) in scene.steps.iter().enumerate() {
            let (events, topics) = told(news, &scene.room);
            assert!(events.is_subset(&then.visible()), "{name}, at {at}: {events:?}");
            assert!(topics.is_subset(&then.topics()), "{name}, at {at}: {topics:?}");
            seen.extend(events);
        }
        let present = truth.moments.iter().filter(|moment| moment.is_present());
        let unseen: Vec<_> = present.filter(|moment| !seen.contains(&id(&moment.event))).collect();
        assert!(unseen.is_empty(), "{name}: no sync told of {unseen:?}");
    }
}

/// A room's events, and what the specification lets a user see of them.
struct Truth {
    moments: Vec<Moment>,
    forgotten: bool,
}

/// An event, and what was around it.
#[derive(Debug)]
struct Moment {
    event: Value,
    before: Setting,
    after: Setting,
    /// The state after it.
    state: BTreeMap<(String, String), Value>,
}

/// What the rules ask of a state.
#[derive(Clone, Debug)]
struct Setting {
    visibility: String,
    membership: String,
}

impl Truth {
    fn of(events: &[Value], user: &str, forgotten: bool) -> Self {
        let mut state = BTreeMap::new();
        let mut setting = Setting { visibility: "shared".to_owned(), membership: "leave".to_owned() };
        let moments = events.iter().map(|event| {
            let before = setting.clone();
            let kind = event["type"].as_str().unwrap();
            let text = |field: &str| event["content"][field].as_str().unwrap_or_default().to_owned();
            if let Some(key) = event["state_key"].as_str() {
                match kind {
                    "m.room.history_visibility" => setting.visibility = text("history_visibility"),
                    "m.room.member" if key == user => setting.membership = text("membership"),
                    _ => {}
                }
                state.insert((kind.to_owned(), key.to_owned()), event.clone());
            }
            Moment { event: event.clone(), before, after: setting.clone(), state: state.clone() }
        });
        Self { moments: moments.collect(), forgotten }
    }

    fn now(&self) -> &Moment {
        self.moments.last().unwrap()
    }

    /// The last moment at which the user was in the room, if they were and remember it.
    fn end(&self) -> Option<usize> {
        self.moments.iter().rposition(Moment::is_present).filter(|_| !self.forgotten)
    }

    fn place(&self, event: &Value) -> usize {
        self.moments.iter().position(|moment| id(&moment.event) == id(event)).unwrap()
    }

    /// Whether the user may see an event. Its own setting counts on either side of it.
    fn allows(&self, at: usize) -> bool {
        let Moment { before, after, .. } = &self.moments[at];
        self.allows_by(at, before) || self.allows_by(at, after)
    }

    /// Whether the user may read the whole state after an event. Whoever left knows what they left.
    fn allows_state(&self, at: usize) -> bool {
        self.allows_by(at, &self.moments[at].after) || self.end() == Some(at)
    }

    fn allows_by(&self, at: usize, Setting { visibility, membership }: &Setting) -> bool {
        if visibility == "world_readable" {
            return true;
        }
        // Whoever did not join sees nothing else, and whoever left nothing that came later.
        if self.end().is_none_or(|end| end < at) {
            return false;
        }
        match (&visibility[..], &membership[..]) {
            (_, "join") | ("invited", "invite") => true,
            ("invited" | "joined", _) => false,
            _ => self.moments[at + 1..].iter().any(|later| later.after.membership == "join"),
        }
    }

    fn visible(&self) -> BTreeSet<String> {
        self.some(|at| self.allows(at))
    }

    /// What is met by paging: whoever left gets as far as they followed the room.
    fn paged(&self) -> BTreeSet<String> {
        self.some(|at| self.allows(at) && self.end().is_none_or(|end| at <= end))
    }

    fn some(&self, wanted: impl Fn(usize) -> bool) -> BTreeSet<String> {
        let wanted = (0..self.moments.len()).filter(|at| wanted(*at));
        wanted.map(|at| id(&self.moments[at].event)).collect()
    }

    /// The room's state for the user: as it is, or as it was when they left.
    fn state(&self) -> Option<&BTreeMap<(String, String), Value>> {
        match self.end() {
            Some(end) => Some(&self.moments[end].state),
            None => Some(&self.now().state).filter(|_| self.now().after.visibility == "world_readable"),
        }
    }

    /// The topics of the moments that the user may see.
    fn topics(&self) -> BTreeSet<String> {
        let visible = (0..self.moments.len()).filter(|at| self.allows(*at));
        visible
            .filter_map(|at| self.moments[at].state.get(&("m.room.topic".to_owned(), String::new())))
            .map(topic)
            .collect()
    }
}

impl Moment {
    fn is_present(&self) -> bool {
        self.before.membership == "join" || self.after.membership == "join"
    }
}

fn setting(visibility: &str) -> Value {
    if visibility.is_empty() { json!({}) } else { json!({"history_visibility": visibility}) }
}

/// The query of a sync that leaves nothing out.
fn everything() -> String {
    let filter = json!({"room": {"include_leave": true, "timeline": {"limit": 100}}});
    format!("filter={}", encoded(&filter.to_string()))
}

fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap().to_owned()
}

fn ids(events: &Value) -> BTreeSet<String> {
    events.as_array().into_iter().flatten().map(id).collect()
}

fn topic(event: &Value) -> String {
    event["content"]["topic"].as_str().unwrap().to_owned()
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
