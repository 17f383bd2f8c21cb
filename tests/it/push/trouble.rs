//! Gateways that refuse, delay, hang and die: every event is told in the end, and only a rejection ends a pusher.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tayberry::{
    base::{limits, rng::Rng},
    net::Bounds,
    store::Topic,
};

use super::{Gateway, Scene, gateway::Answer, keys, pusher, set, until};
use crate::{
    net::HOUR,
    network::Slow,
    rig::Rig,
    rooms::{act, create, say},
};

/// Has gateways hang, each of which more is to be told than there are places.
async fn hang(scene: &Scene, room: &str, slow: &[Gateway], have_answered: bool) {
    let ben = scene.rig.register("ben").await;
    act(&scene.rig, &ben, room, "join", json!({})).await;
    for (n, gateway) in slow.iter().enumerate() {
        for m in 0..=limits::PUSHES / limits::PUSHES_PER_USER {
            let person = scene.rig.register(&format!("p{n}.{m}")).await;
            act(&scene.rig, &person, room, "join", json!({})).await;
            for key in 0..limits::PUSHES_PER_USER {
                scene.notify(&person, gateway, &format!("{n}.{m}.{key}"), json!({})).await;
            }
        }
    }
    if have_answered {
        say(&scene.rig, &ben, room, "all is well", "well").await;
        let has_all = |gateway: &Gateway| gateway.taken().len() > limits::PUSHES;
        until("they answer", || slow.iter().all(has_all)).await;
        until("all is told", || scene.rig.app.pushers_waiting() == 0).await;
    }
    slow.iter().for_each(|gateway| gateway.answer(|_| Answer::Hang));
}

#[tokio::test]
async fn gateways_that_hang_delay_nobody_else() {
    // Those that nobody knows yet have a place each; those that were known to answer have more.
    for (count, have_answered, most) in [(4, false, 1), (3, true, limits::PUSHES_PER_GATEWAY)] {
        let scene = Scene::start().await;
        let carl = scene.rig.register("carl").await;
        let room = scene.room(&[&carl]).await;
        let mut slow = Vec::new();
        for _ in 0..count {
            slow.push(scene.gateway().await);
        }
        hang(&scene, &room, &slow, have_answered).await;
        let (anna, good) = (scene.rig.register("anna").await, scene.gateway().await);
        act(&scene.rig, &anna, &room, "join", json!({})).await;
        scene.notify(&anna, &slow[0], "hung", json!({})).await;
        scene.notify(&anna, &good, "phone", json!({})).await;
        for n in 0..5 {
            let event = say(&scene.rig, &carl, &room, "hello", &n.to_string()).await;
            until("it is told", || good.events_of("phone").contains(&json!(event))).await;
        }
        let have_most = || slow.iter().all(|gateway| gateway.asked() == most);
        until("all their places are taken", have_most).await;
        assert_eq!(good.events_of("phone").len(), 5);
    }
}

#[tokio::test]
async fn what_a_gateway_does_not_take_it_gets_later_and_once() {
    let scene = Scene::start().await;
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    scene.notify(&anna, &gateway, "phone", json!({})).await;
    let mut expected = vec![json!(say(&scene.rig, &ben, &room, "a", "1").await)];
    until("it is told", || gateway.taken().len() == 1).await;
    let mut scene = scene;
    for (n, trouble) in [
        Answer::Status(500),
        Answer::Status(429),
        Answer::Status(404),
        Answer::Status(302),
        Answer::Die { taken: false },
    ]
    .into_iter()
    .enumerate()
    {
        gateway.answer(move |_| trouble);
        for part in ["x", "y"] {
            expected.push(json!(say(&scene.rig, &ben, &room, "b", &format!("{n}{part}")).await));
        }
        until("it fails", || scene.rig.app.pushes_failing() == 1).await;
        if n % 2 == 0 {
            scene = scene.again().await;
        }
        gateway.answer(|_| Answer::Take);
        scene.eventually("it is told", || gateway.events_of("phone").len() == expected.len()).await;
        assert_eq!(gateway.events_of("phone"), expected, "{trouble:?}");
        assert_eq!(keys(&scene.rig, &anna).await, ["phone"]);
    }
    // What says nothing sensible has it all the same.
    gateway.answer(|_| Answer::Garbage);
    expected.push(json!(say(&scene.rig, &ben, &room, "c", "garbage").await));
    until("it is told", || gateway.events_of("phone").len() == expected.len()).await;
    until("its answer came", || scene.rig.app.pushers_waiting() == 0).await;
    gateway.answer(|_| Answer::Take);
    // A restart in order tells nothing again.
    let scene = scene.again().await;
    expected.push(json!(say(&scene.rig, &ben, &room, "c", "end").await));
    until("it is told", || gateway.events_of("phone").contains(expected.last().unwrap())).await;
    assert_eq!(gateway.events_of("phone"), expected);
}

#[tokio::test]
async fn what_a_gateway_does_not_take_it_gets_after_the_servers_death() {
    let scene = Scene::start().await;
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    scene.notify(&anna, &gateway, "phone", json!({})).await;
    let mut expected = vec![json!(say(&scene.rig, &ben, &room, "a", "1").await)];
    until("it is told", || gateway.taken().len() == 1).await;
    let mut scene = scene;
    for (n, trouble) in
        [Answer::Hang, Answer::Status(500), Answer::Die { taken: true }].into_iter().enumerate()
    {
        gateway.answer(move |_| trouble);
        let asked = gateway.asked();
        for part in ["x", "y"] {
            expected.push(json!(say(&scene.rig, &ben, &room, "b", &format!("{n}{part}")).await));
        }
        until("it is asked", || gateway.asked() > asked).await;
        scene = scene.after_crash().await;
        gateway.answer(|_| Answer::Take);
        scene
            .eventually("it is told", || gateway.events_of("phone").contains(expected.last().unwrap()))
            .await;
        // Some may be told once more, nothing not at all.
        let mut told = gateway.events_of("phone");
        let mut known = Vec::new();
        told.retain(|event| {
            !known.contains(event) && {
                known.push(event.clone());
                true
            }
        });
        assert_eq!(told, expected, "{trouble:?}");
    }
}

#[tokio::test]
async fn a_gateway_has_so_much_time_and_says_so_much() {
    let slow = Arc::new(Slow::default());
    let rig = Rig::through(slow.clone(), |_| {}).await;
    let (anna, ben) = (rig.register("anna").await, rig.register("ben").await);
    let room = create(&rig, &anna, json!({"preset": "public_chat"})).await;
    act(&rig, &ben, &room, "join", json!({})).await;
    set(&rig, &anna, pusher("phone", "https://push.example/_matrix/push/v1/notify")).await.ok();
    say(&rig, &ben, &room, "hello", "1").await;
    until("it fails", || rig.app.pushes_failing() == 1).await;
    let Bounds { total, head, idle, body_bytes } = slow.0.lock().unwrap()[0];
    assert_eq!([total, head, idle], [limits::PUSH_TIME; 3]);
    assert_eq!(body_bytes, limits::PUSH_ANSWER_BYTES);
    // It is tried again, and nothing is passed over.
    rig.advance(HOUR * 2);
    rig.app.store.wake(&[Topic::Push]);
    until("it is tried again", || slow.0.lock().unwrap().len() > 1).await;
    assert_eq!(rig.app.pushers_waiting(), 1);
    assert_eq!(keys(&rig, &anna).await, ["phone"]);
}

#[tokio::test]
async fn what_a_gateway_does_not_take_it_gets_without_its_content() {
    let scene = Scene::start().await;
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    scene.notify(&anna, &gateway, "phone", json!({})).await;
    gateway.answer(|notification| match notification.get("content") {
        Some(content) if content["body"] == "poison" => Answer::Status(413),
        _ => Answer::Take,
    });
    let poison = say(&scene.rig, &ben, &room, "poison", "1").await;
    let next = say(&scene.rig, &ben, &room, "tea", "2").await;
    scene.eventually("both are told", || gateway.taken().len() == 2).await;
    assert_eq!(gateway.events_of("phone"), [json!(poison), json!(next)]);
    let taken = gateway.taken();
    assert_eq!((taken[0].get("content"), &taken[1]["content"]["body"]), (None, &json!("tea")));
}

#[tokio::test]
async fn only_whom_it_rejects_a_gateway_is_not_asked_to_notify_again() {
    let scene = Scene::start().await;
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    for key in ["gone", "another", "phone"] {
        scene.notify(&anna, &gateway, key, json!({})).await;
    }
    gateway.answer(|notification| match notification["devices"][0]["pushkey"].as_str() {
        Some("gone") => Answer::Reject,
        _ => Answer::Take,
    });
    for n in 0..3 {
        say(&scene.rig, &ben, &room, "hello", &n.to_string()).await;
    }
    until("the others hear of all", || {
        gateway.taken_of("phone").len() == 3 && gateway.taken_of("another").len() == 3
    })
    .await;
    // That it names others is not for it to say of them.
    assert_eq!(keys(&scene.rig, &anna).await, ["another", "phone"]);
    assert_eq!(gateway.taken_of("gone").len(), 1);
}

/// What two gateways do, by a seed.
#[derive(Clone)]
struct Weather {
    rng: Rng,
    calm: Arc<AtomicBool>,
    rejected: Arc<Mutex<BTreeSet<String>>>,
}

impl Weather {
    fn answer(&self, notification: &Value) -> Answer {
        let key = notification["devices"][0]["pushkey"].as_str().unwrap();
        let mut rejected = self.rejected.lock().unwrap();
        // Once is for ever.
        if rejected.contains(key) {
            return Answer::Reject;
        }
        if self.calm.load(Ordering::SeqCst) {
            return Answer::Take;
        }
        match self.rng.below(16) {
            0..5 => Answer::Take,
            5..7 => Answer::Late,
            7 => Answer::Status(500),
            8 => Answer::Status(429),
            9 => Answer::Status(400),
            10 => Answer::Garbage,
            11 => Answer::Hang,
            12 => Answer::Die { taken: true },
            13 | 14 => Answer::Die { taken: false },
            _ if self.rng.below(8) == 0 => {
                rejected.insert(key.to_owned());
                Answer::Reject
            }
            _ => Answer::Status(502),
        }
    }
}

#[tokio::test]
async fn every_event_is_told_in_the_end_whatever_gateways_do() {
    for seed in 1..=3 {
        let rng = Rng::seeded(seed);
        let mut scene = Scene::start().await;
        let gateways = [
            Gateway::start(&scene.authority, "h2").await,
            Gateway::start(&scene.authority, "http/1.1").await,
        ];
        let weather = Weather { rng: rng.clone(), calm: Arc::default(), rejected: Arc::default() };
        for gateway in &gateways {
            let weather = weather.clone();
            gateway.answer(move |notification| weather.answer(notification));
        }
        let mut people = Vec::new();
        for name in ["anna", "ben", "carl"] {
            people.push(scene.rig.register(name).await);
        }
        let all: Vec<_> = people.iter().collect();
        let rooms = [scene.room(&all).await, scene.room(&all[..2]).await];
        // The events of which each device is to hear, with their rooms.
        let mut expected: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        for (n, person) in people.iter().enumerate() {
            for (m, gateway) in gateways.iter().enumerate() {
                let (key, is_short) = (format!("{n}.{m}"), rng.below(2) == 0);
                let data = if is_short { json!({"format": "event_id_only"}) } else { json!({}) };
                scene.notify(person, gateway, &key, data).await;
                expected.insert(key, Vec::new());
            }
        }
        for step in 0..40 {
            match rng.below(10) {
                0 => gateways.iter().for_each(Gateway::end_hanging),
                1 => scene = scene.again().await,
                2 => scene.rig.advance(HOUR),
                _ => {}
            }
            let (room, who) = (rng.below(2) as usize, rng.below(2) as usize);
            let event = say(&scene.rig, &people[who], &rooms[room], "hello", &step.to_string()).await;
            for n in (0..3).filter(|n| room == 0 || *n < 2) {
                for m in 0..2 {
                    let expected = expected.get_mut(&format!("{n}.{m}")).unwrap();
                    // Whoever says something has read what came before. The third one says nothing.
                    match n == who {
                        true => expected.retain(|(of, _)| *of != room),
                        false => expected.push((room, json!(event))),
                    }
                }
            }
        }
        weather.calm.store(true, Ordering::SeqCst);
        let mut lacking = Vec::new();
        for _ in 0..1_000 {
            gateways.iter().for_each(Gateway::end_hanging);
            scene.hours_pass().await;
            let rejected = weather.rejected.lock().unwrap().clone();
            expected.retain(|key, _| !rejected.contains(key));
            let mut left = BTreeSet::new();
            for person in &people {
                left.extend(keys(&scene.rig, person).await);
            }
            assert!(expected.keys().all(|key| left.contains(key)), "seed {seed}: {left:?}");
            lacking.clear();
            lacking.extend(left.into_iter().filter(|key| !expected.contains_key(key)));
            for (key, events) in &expected {
                let told: Vec<_> = gateways.iter().flat_map(|gateway| gateway.events_of(key)).collect();
                let lacks = events.iter().any(|(_, event)| !told.contains(event));
                lacking.extend(lacks.then(|| key.clone()));
            }
            if lacking.is_empty() {
                break;
            }
        }
        assert_eq!(lacking, [""; 0], "seed {seed}");
    }
}

#[tokio::test]
async fn what_is_old_by_the_time_a_gateway_takes_something_is_only_counted() {
    let scene = Scene::start().await;
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    scene.notify(&anna, &gateway, "phone", json!({})).await;
    let open = Arc::new(AtomicBool::new(false));
    let is_open = open.clone();
    gateway.answer(move |_| if is_open.load(Ordering::SeqCst) { Answer::Take } else { Answer::Status(500) });
    for text in ["a", "b"] {
        say(&scene.rig, &ben, &room, text, text).await;
    }
    until("it is tried", || scene.rig.app.pushes_failing() == 1).await;
    scene.rig.advance(limits::PUSH_AGE);
    open.store(true, Ordering::SeqCst);
    scene.rig.advance(HOUR * 2);
    scene.rig.app.store.wake(&[Topic::Push]);
    until("how much is new is told", || !gateway.taken_of("phone").is_empty()).await;
    let told = gateway.taken_of("phone").remove(0);
    assert_eq!((told.get("event_id"), &told["counts"]["unread"]), (None, &json!(2)));
    let fresh = say(&scene.rig, &ben, &room, "c", "c").await;
    until("what is fresh is told", || gateway.events_of("phone") == [Value::Null, json!(fresh)]).await;
    assert_eq!(gateway.taken_of("phone").last().unwrap()["counts"]["unread"], 3);
}
