//! What a gateway is told, and of what.
//! <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use tayberry::{base::limits, store::Transaction};

use super::{Gateway, Scene, configure, gateway::Answer, keys, until};
use crate::{
    net::Authority,
    rig::{Member, Rig},
    rooms::{act, create, ignore, read, redact, relating, say, set, tell},
};

/// Anna's phone is to hear of what Ben does.
struct Two {
    scene: Scene,
    gateway: Gateway,
    anna: Member,
    ben: Member,
    room: String,
}

impl Two {
    async fn meet(data: Value) -> Self {
        let scene = Scene::start().await;
        let gateway = scene.gateway().await;
        let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
        let name = format!("/_matrix/client/v3/profile/{}/displayname", ben.user_id);
        scene.rig.send_as(&ben, "PUT", &name, json!({"displayname": "Ben"})).await.ok();
        let room = scene.room(&[&anna, &ben]).await;
        scene.notify(&anna, &gateway, "phone", data).await;
        Self { scene, gateway, anna, ben, room }
    }

    fn rig(&self) -> &Rig {
        &self.scene.rig
    }

    async fn has(&self, count: usize) {
        until("it is told", || self.gateway.taken_of("phone").len() >= count).await;
    }

    /// Has the gateway hang with a first message, which it never takes; gives that.
    async fn hang(&self) -> Value {
        let is_asked = Arc::new(AtomicBool::new(false));
        let asked = is_asked.clone();
        self.gateway.answer(move |_| {
            asked.store(true, Ordering::SeqCst);
            Answer::Hang
        });
        let first = say(self.rig(), &self.ben, &self.room, "first", "first").await;
        until("it hangs", || is_asked.load(Ordering::SeqCst)).await;
        json!(first)
    }

    /// Has a gateway that hung take everything: of what came meanwhile the phone isn't told, but of a last message, which
    /// is all that is new.
    async fn tells_not(&self, untold: &[Value]) {
        let last = json!(say(self.rig(), &self.ben, &self.room, "last", "last").await);
        self.gateway.answer(|_| Answer::Take);
        self.gateway.end_hanging();
        self.scene.eventually("the last is told", || self.gateway.events_of("phone").contains(&last)).await;
        let told = self.gateway.events_of("phone");
        assert!(untold.iter().all(|event| !told.contains(event)), "{told:?}");
        assert_eq!(self.gateway.taken_of("phone").pop().unwrap()["counts"]["unread"], 1);
    }

    /// The events of which the phone was told before a message that is sent now.
    async fn told(&self, transaction: &str) -> Vec<Value> {
        let last = json!(say(self.rig(), &self.ben, &self.room, "last", transaction).await);
        until("the last is told", || self.gateway.events_of("phone").contains(&last)).await;
        let mut told = self.gateway.events_of("phone");
        told.retain(|event| *event != last);
        told
    }
}

async fn receipt(rig: &Rig, who: &Member, room: &str, event: &str, body: Value) {
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
    rig.send_as(who, "POST", &path, body).await.ok();
}

#[tokio::test]
async fn an_event_is_told_with_all_that_is_specified() {
    let two = Two::meet(json!({"default_payload": {"own": 1}})).await;
    let (rig, room, ben) = (two.rig(), &two.room, &two.ben);
    set(rig, &two.anna, room, "m.room.name", json!({"name": "Tea"})).await;
    let event = say(rig, ben, room, "hello", "1").await;
    two.has(1).await;
    let expected = json!({
        "event_id": event, "room_id": room, "type": "m.room.message", "sender": ben.user_id,
        "sender_display_name": "Ben", "room_name": "Tea", "prio": "high",
        "content": {"msgtype": "m.text", "body": "hello"}, "counts": {"unread": 1},
        "devices": [{
            "app_id": "org.example.app", "pushkey": "phone", "pushkey_ts": 1_800_000_000,
            "data": {"default_payload": {"own": 1}}, "tweaks": {"sound": "default"},
        }],
    });
    assert_eq!(two.gateway.taken(), [expected]);

    // In a larger room a message is silent, and a mention loud.
    let carl = rig.register("carl").await;
    act(rig, &carl, room, "join", json!({})).await;
    say(rig, ben, room, "quiet", "2").await;
    let mention = json!({"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [two.anna.user_id]}});
    tell(rig, ben, room, ("m.room.message", "3"), mention).await;
    tell(rig, ben, room, ("m.room.encrypted", "4"), json!({"algorithm": "x", "ciphertext": "y"})).await;
    two.has(4).await;
    let taken = two.gateway.taken();
    let shown =
        |n: usize| (&taken[n]["prio"], &taken[n]["devices"][0]["tweaks"], &taken[n]["counts"]["unread"]);
    assert_eq!(shown(1).1, &json!({}));
    assert_eq!(shown(1).0, "low");
    assert_eq!((shown(2).0, shown(2).1), (&json!("high"), &json!({"highlight": true, "sound": "default"})));
    assert_eq!((shown(3).0, shown(3).1, shown(3).2), (&json!("high"), &json!({}), &json!(4)));
}

#[tokio::test]
async fn a_pusher_may_want_no_more_than_the_id() {
    let two = Two::meet(json!({"format": "event_id_only", "own": "x"})).await;
    let event = say(two.rig(), &two.ben, &two.room, "hello", "1").await;
    two.has(1).await;
    assert_eq!(
        two.gateway.taken(),
        [json!({
            "event_id": event, "room_id": two.room, "prio": "high", "counts": {"unread": 1},
            "devices": [{
                "app_id": "org.example.app", "pushkey": "phone", "pushkey_ts": 1_800_000_000,
                "data": {"format": "event_id_only", "own": "x"}, "tweaks": {"sound": "default"},
            }],
        })]
    );
}

#[tokio::test]
async fn devices_hear_of_what_notifications_list_and_of_nothing_else() {
    let two = Two::meet(json!({})).await;
    let (rig, room, anna, ben) = (two.rig(), &two.room, &two.anna, &two.ben);
    let (carl, dora) = (rig.register("carl").await, rig.register("dora").await);
    let (elsewhere, left) = (two.scene.room(&[&carl, ben]).await, two.scene.room(&[&carl, anna]).await);
    for person in [&carl, &dora] {
        act(rig, person, room, "join", json!({})).await;
    }
    ignore(rig, anna, &[&dora]).await;
    act(rig, anna, &left, "leave", json!({})).await;

    say(rig, anna, room, "my own", "1").await;
    say(rig, &dora, room, "of one who is ignored", "2").await;
    say(rig, ben, &elsewhere, "where she isn't", "3").await;
    say(rig, &carl, &left, "where she isn't any more", "4").await;
    tell(rig, ben, room, ("m.room.message", "5"), json!({"msgtype": "m.notice", "body": "beep"})).await;
    set(rig, anna, room, "m.room.topic", json!({"topic": "mine"})).await;
    let heard = say(rig, &carl, room, "heard", "6").await;
    let mute = format!("/_matrix/client/v3/pushrules/global/sender/{}", carl.user_id);
    until("it is told", || two.gateway.events_of("phone").contains(&json!(heard))).await;
    rig.send_as(anna, "PUT", &mute, json!({"actions": []})).await.ok();
    let muted = json!(say(rig, &carl, room, "muted", "7").await);
    let told = two.told("8").await;
    let events: Vec<_> = told.into_iter().filter(|event| !event.is_null()).collect();
    assert_eq!(events, [json!(heard)]);
    rig.send_as(anna, "DELETE", &mute, Value::Null).await.ok();

    // By the same rules as the list, message for message.
    for n in 0..20 {
        let content = match n % 4 {
            0 => json!({"msgtype": "m.notice", "body": "beep"}),
            1 => json!({"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": [anna.user_id]}}),
            2 => {
                json!({"msgtype": "m.text", "body": "edit", "m.relates_to": {"rel_type": "m.replace", "event_id": heard}})
            }
            _ => json!({"msgtype": "m.text", "body": "plain"}),
        };
        let who = [ben, &carl, &dora][n % 3];
        tell(rig, who, room, ("m.room.message", &format!("n{n}")), content).await;
    }
    let last = say(rig, ben, room, "end", "9").await;
    until("the last is told", || two.gateway.events_of("phone").contains(&json!(last))).await;
    let listed = read(rig, anna, "notifications?limit=100").await;
    let mut listed: Vec<_> = listed["notifications"].as_array().unwrap().iter().collect();
    listed.reverse();
    let mut listed: Vec<_> = listed.into_iter().map(|entry| entry["event"]["event_id"].clone()).collect();
    // Her rules were silent on it then.
    listed.retain(|event| *event != muted);
    let mut told = two.gateway.events_of("phone");
    told.retain(|event| !event.is_null());
    assert_eq!(told, listed);
    assert!(told.len() > 8, "{told:?}");
}

#[tokio::test]
async fn invitations_are_told_unless_they_are_not_wanted() {
    let two = Two::meet(json!({})).await;
    let (rig, anna, ben) = (two.rig(), &two.anna, &two.ben);
    let room = create(rig, ben, json!({"name": "Secret", "invite": [anna.user_id]})).await;
    two.has(1).await;
    let invited = two.gateway.taken().remove(0);
    for (field, value) in [
        ("room_id", json!(room)),
        ("type", json!("m.room.member")),
        ("user_is_target", json!(true)),
        ("room_name", json!("Secret")),
        ("prio", json!("high")),
        ("counts", json!({"unread": 1})),
    ] {
        assert_eq!(invited[field], value, "{field}");
    }
    assert_eq!(invited["content"]["membership"], "invite");
    act(rig, anna, &room, "leave", json!({})).await;
    two.has(2).await;
    assert_eq!(two.gateway.taken()[1]["counts"], json!({"unread": 0}));

    let dora = rig.register("dora").await;
    ignore(rig, anna, &[&dora]).await;
    let unwanted = create(rig, &dora, json!({"invite": [anna.user_id]})).await;
    // <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>
    let eve = rig.register("eve").await;
    let kind = "org.matrix.msc4155.invite_permission_config";
    let path = format!("/_matrix/client/v3/user/{}/account_data/{kind}", anna.user_id);
    rig.send_as(anna, "PUT", &path, json!({"ignored_users": [eve.user_id]})).await.ok();
    let hidden = create(rig, &eve, json!({"invite": [anna.user_id]})).await;
    let told = two.told("1").await;
    for room in [unwanted, hidden] {
        assert!(two.gateway.taken().iter().all(|notification| notification["room_id"] != room), "{told:?}");
    }
    assert_eq!(two.gateway.taken().last().unwrap()["counts"], json!({"unread": 1}), "{told:?}");
}

#[tokio::test]
async fn a_device_hears_how_much_is_new_when_that_is_less() {
    let two = Two::meet(json!({})).await;
    let (rig, room, anna, ben) = (two.rig(), &two.room, &two.anna, &two.ben);
    let tablet = rig.log_in("anna").await;
    two.scene.notify(&tablet, &two.gateway, "tablet", json!({"format": "event_id_only"})).await;
    let other = two.scene.room(&[anna, ben]).await;
    say(rig, ben, room, "a", "1").await;
    let second = say(rig, ben, room, "b", "2").await;
    let third = say(rig, ben, &other, "c", "3").await;
    two.has(3).await;
    let unread = |key: &str| two.gateway.taken_of(key).last().map(|told| told["counts"]["unread"].clone());
    assert_eq!(unread("phone"), Some(json!(3)));

    receipt(rig, &tablet, room, &second, json!({})).await;
    two.has(4).await;
    until("the tablet hears of it", || unread("tablet") == Some(json!(1))).await;
    let told = two.gateway.taken_of("phone").pop().unwrap();
    assert_eq!(
        told,
        json!({"prio": "low", "counts": {"unread": 1}, "devices": [{
            "app_id": "org.example.app", "pushkey": "phone", "pushkey_ts": 1_800_000_000, "data": {},
        }]})
    );
    // A receipt that changes nothing is silent; whoever answers has read.
    receipt(rig, anna, room, &second, json!({"thread_id": "main"})).await;
    say(rig, anna, &other, "I see", "4").await;
    two.has(5).await;
    assert_eq!((unread("phone"), third.is_empty()), (Some(json!(0)), false));
    until("the tablet hears of it", || unread("tablet") == Some(json!(0))).await;
    assert_eq!(two.gateway.taken_of("phone").len(), 5);

    // Threads are read by themselves.
    let in_thread = json!({
        "msgtype": "m.text", "body": "d", "m.relates_to": {"rel_type": "m.thread", "event_id": second},
    });
    let reply = tell(rig, ben, room, ("m.room.message", "5"), in_thread).await;
    let main = say(rig, ben, room, "e", "6").await;
    two.has(7).await;
    receipt(rig, anna, room, &main, json!({"thread_id": "main"})).await;
    until("one is left", || unread("phone") == Some(json!(1))).await;
    receipt(rig, anna, room, &reply, json!({"thread_id": second})).await;
    until("none is left", || unread("phone") == Some(json!(0))).await;
}

#[tokio::test]
async fn what_was_read_or_redacted_meanwhile_is_not_told() {
    let two = Two::meet(json!({})).await;
    let (rig, room, anna, ben) = (two.rig(), &two.room, &two.anna, &two.ben);
    let first = two.hang().await;
    let read = say(rig, ben, room, "read", "2").await;
    receipt(rig, anna, room, &read, json!({})).await;
    let gone = say(rig, ben, room, "gone", "3").await;
    redact(rig, ben, room, &gone).await;
    two.tells_not(&[first, json!(read), json!(gone)]).await;
}

// https://spec.matrix.org/v1.19/client-server-api/#marking-notifications-as-read
#[tokio::test]
async fn what_was_answered_meanwhile_is_not_told() {
    let two = Two::meet(json!({})).await;
    let (rig, room, anna, ben) = (two.rig(), &two.room, &two.anna, &two.ben);
    let first = two.hang().await;
    let question = say(rig, ben, room, "question", "2").await;
    say(rig, anna, room, "answer", "3").await;
    two.tells_not(&[first, json!(question)]).await;
}

#[tokio::test]
async fn what_is_said_in_a_thread_answers_nothing_outside_of_it() {
    let two = Two::meet(json!({})).await;
    let (rig, room, anna, ben) = (two.rig(), &two.room, &two.anna, &two.ben);
    two.hang().await;
    let question = say(rig, ben, room, "question", "2").await;
    let in_thread = json!({
        "msgtype": "m.text", "body": "aside", "m.relates_to": {"rel_type": "m.thread", "event_id": question},
    });
    tell(rig, anna, room, ("m.room.message", "3"), in_thread).await;
    two.gateway.answer(|_| Answer::Take);
    two.gateway.end_hanging();
    two.scene.eventually("it is told", || two.gateway.events_of("phone").contains(&json!(question))).await;
}

#[tokio::test]
async fn a_pusher_tells_what_comes_after_it_and_that_once() {
    let mut two = Two::meet(json!({})).await;
    let (anna, ben, room) = (two.anna.clone(), two.ben.clone(), two.room.clone());
    let say = async |rig: &Rig, n: usize| json!(say(rig, &ben, &room, "hello", &n.to_string()).await);
    let tablet = two.rig().log_in("anna").await;
    let mut events = vec![say(two.rig(), 0).await];
    two.has(1).await;
    two.scene.notify(&tablet, &two.gateway, "tablet", json!({})).await;
    // The same once more, as apps set it at each start.
    two.scene.notify(&anna, &two.gateway, "phone", json!({})).await;
    events.push(say(two.rig(), 1).await);
    two.has(2).await;
    until("all is told", || two.rig().app.pushers_waiting() == 0).await;
    two.scene.rig.stop_workers().await;
    events.push(say(two.rig(), 2).await);
    two.scene.rig.start_workers();
    two.has(3).await;
    until("all is told", || two.rig().app.pushers_waiting() == 0).await;
    let lock = async |rig: &Rig, locked: bool| {
        let job = move |transaction: &mut Transaction<'_>| {
            let number = transaction.account("anna")?.unwrap().number;
            transaction.set_locked(number, locked)
        };
        rig.app.store.write(job).await.unwrap();
    };
    lock(two.rig(), true).await;
    say(two.rig(), 3).await;
    two.rig().app.look_for_pushes().await.unwrap();
    until("it is passed over", || two.rig().app.pushers_waiting() == 0).await;
    lock(two.rig(), false).await;
    events.push(say(two.rig(), 4).await);
    two.has(4).await;
    until("the tablet has them, too", || two.gateway.taken_of("tablet").len() == 3).await;
    assert_eq!(two.gateway.events_of("phone"), events);
    assert_eq!(two.gateway.events_of("tablet"), events[1..]);
}

// RULES R40
#[tokio::test]
async fn only_by_choice_is_a_gateway_in_the_local_network() {
    let authority = Authority::new();
    let rig = Rig::with(|config| {
        configure(config, &authority);
        config.push.allow_private_gateways = false;
        // Which is a choice of its own.
        config.federation.allow_private_addresses = true;
    });
    let rig = rig.await;
    let scene = Scene { rig, authority };
    let gateway = scene.gateway().await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    scene.notify(&anna, &gateway, "phone", json!({})).await;
    say(&scene.rig, &ben, &room, "hello", "1").await;
    until("it is tried", || scene.rig.app.pushes_failing() == 1).await;
    assert_eq!(gateway.taken(), [] as [Value; 0]);
    let scene = scene.again().await;
    scene.eventually("it is told", || gateway.taken().len() == 1).await;
}

// <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
#[tokio::test]
async fn of_threads_those_are_told_that_the_user_follows() {
    let two = Two::meet(json!({})).await;
    let (rig, room) = (two.rig(), &two.room);
    let (tea, cake) =
        (say(rig, &two.ben, room, "tea", "1").await, say(rig, &two.ben, room, "cake", "2").await);
    let path = format!("/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{tea}/subscription");
    rig.send_as(&two.anna, "PUT", &path, json!({})).await.ok();
    let mut said = Vec::new();
    for (n, root) in [&tea, &cake].into_iter().enumerate() {
        let content = relating("m.thread", root, "hi");
        said.push(json!(tell(rig, &two.ben, room, ("m.room.message", &format!("r{n}")), content).await));
    }
    assert_eq!(two.told("3").await, [json!(tea), json!(cake), said[0].clone()]);
    assert_eq!(two.gateway.taken_of("phone").last().unwrap()["counts"]["unread"], 4);
}

#[tokio::test]
async fn what_is_new_in_many_rooms_is_told_at_once() {
    let two = Two::meet(json!({})).await;
    let rig = two.rig();
    for n in 0..limits::BADGE_ROOMS + 8 {
        let room = create(rig, &two.ben, json!({"preset": "public_chat"})).await;
        act(rig, &two.anna, &room, "join", json!({})).await;
        say(rig, &two.ben, &room, "hello", &n.to_string()).await;
    }
    let last = limits::BADGE_ROOMS + 8;
    two.has(last).await;
    // A server that knows nothing yet counts all of them before it tells the next one.
    let scene = two.scene.again().await;
    let event = say(&scene.rig, &two.ben, &two.room, "and here", "here").await;
    until("it is told", || two.gateway.events_of("phone").contains(&json!(event))).await;
    let counts = |n: usize| two.gateway.taken()[n]["counts"]["unread"].clone();
    assert_eq!((counts(last - 1), counts(last)), (json!(last), json!(last + 1)));
}

// An app that has its endpoint from a distributor asks there whether that is a gateway, too, and sets a pusher like this.
// <https://unifiedpush.org/developers/gateway/#matrix-gateway>
#[tokio::test]
async fn an_app_of_unified_push_is_told_at_its_endpoints_gateway() {
    let scene = Scene::start().await;
    let gateway = Gateway::at("/_matrix/push/v1/notify", &scene.authority, "h2").await;
    let (anna, ben) = (scene.rig.register("anna").await, scene.rig.register("ben").await);
    let room = scene.room(&[&anna, &ben]).await;
    let host = gateway.url().split('/').nth(2).unwrap().to_owned();
    assert!(host.starts_with("127."), "it is in the local network");
    let endpoints = ["upOne?up=1", "upTwo?up=1"].map(|path| format!("https://{host}/{path}"));
    for endpoint in &endpoints {
        scene.notify(&anna, &gateway, endpoint, json!({"format": "event_id_only"})).await;
    }
    let event = say(&scene.rig, &ben, &room, "hello", "1").await;
    until("both are told", || gateway.taken().len() == 2).await;
    for endpoint in &endpoints {
        assert_eq!(gateway.events_of(endpoint), [json!(event)]);
    }
    // The distributor has forgotten one of them.
    let gone = endpoints[0].clone();
    gateway.answer(move |told| match told["devices"][0]["pushkey"] == json!(gone) {
        true => Answer::Reject,
        false => Answer::Take,
    });
    say(&scene.rig, &ben, &room, "hello", "2").await;
    until("both are told", || gateway.taken().len() == 4).await;
    until("it ends", || scene.rig.app.pushers_waiting() == 0).await;
    assert_eq!(keys(&scene.rig, &anna).await, endpoints[1..]);
    say(&scene.rig, &ben, &room, "hello", "3").await;
    until("the other one is told", || gateway.events_of(&endpoints[1]).len() == 3).await;
    assert_eq!(gateway.events_of(&endpoints[0]).len(), 2);
}
