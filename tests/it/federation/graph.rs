//! What a server asks of a room's graph. <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use std::{collections::BTreeSet, time::Duration};

use ruma::RoomId;
use serde_json::{Value, json};
use tayberry::{
    base::json::canonical_object,
    room::pdu::Pdu,
    store::{
        Transaction,
        events::{Admission, NewEvent},
    },
};

use super::{CAROL, FEDERATION, public, signed};
use crate::{
    net::inbound::Asked,
    rig::Reply,
    rooms::{create, redact, say, set},
};

impl Asked {
    async fn read(&self, path: &str) -> Reply {
        self.ask("GET", &format!("{FEDERATION}/v1/{path}"), Value::Null).await
    }

    async fn missing(&self, room: &str, earliest: &[&str], latest: &[&str], limit: usize) -> Reply {
        let body = json!({"earliest_events": earliest, "latest_events": latest, "limit": limit});
        self.ask("POST", &format!("{FEDERATION}/v1/get_missing_events/{room}"), body).await
    }
}

fn bodies(events: &Value) -> Vec<Option<&str>> {
    let messages = events.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.message");
    messages.map(|event| event["content"]["body"].as_str()).collect()
}

// RULES R31
#[tokio::test]
async fn servers_that_are_not_in_a_room_or_kept_out_learn_nothing_of_it() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    let said = say(&asked.rig, &anna, &room, "tea", "1").await;
    let paths = [
        format!("state/{room}?event_id={said}"),
        format!("state_ids/{room}?event_id={said}"),
        format!("event_auth/{room}/{said}"),
        format!("backfill/{room}?v={said}&limit=5"),
        format!("timestamp_to_event/{room}?ts=0&dir=f"),
    ];
    let refused = async || {
        for path in &paths {
            assert_eq!(asked.read(path).await.error(), (403, "M_FORBIDDEN"), "{path}");
        }
        assert_eq!(asked.missing(&room, &[], &[&said], 5).await.error(), (403, "M_FORBIDDEN"));
    };
    refused().await;
    let event = format!("event/{said}");
    assert_eq!(asked.read(&event).await.error(), (404, "M_NOT_FOUND"));
    let nowhere = paths[0].replace(&room, "!nowhere:example.org");
    assert_eq!(asked.read(&nowhere).await.error(), (403, "M_FORBIDDEN"));

    asked.act("join", &room, CAROL, "11").await;
    for path in paths.iter().chain([&event]) {
        asked.read(path).await.ok();
    }
    for path in [format!("state/{room}?event_id=$x"), format!("event_auth/{room}/$x"), "event/$x".to_owned()]
    {
        assert_eq!(asked.read(&path).await.error(), (404, "M_NOT_FOUND"), "{path}");
    }

    // RULES R29
    // Of two memberships in a fork the later one holds.
    asked.rig.advance(Duration::from_secs(1));
    let template = asked.make("leave", &room, CAROL, "11").await.ok()["event"].clone();
    let (id, leave) = signed("11", template);
    set(&asked.rig, &anna, &room, "m.room.server_acl", json!({"allow": ["*"], "deny": ["HS.example"]})).await;
    refused().await;
    assert_eq!(asked.read(&event).await.error(), (403, "M_FORBIDDEN"));
    for wish in ["join", "leave", "knock"] {
        assert_eq!(asked.make(wish, &room, CAROL, "11").await.error(), (403, "M_FORBIDDEN"), "{wish}");
        assert_eq!(asked.send(wish, &room, &id, &leave).await.error(), (403, "M_FORBIDDEN"), "{wish}");
    }
    let ben = asked.rig.register("ben").await;
    let mut invite = leave.clone();
    invite["content"] = json!({"membership": "invite"});
    invite["state_key"] = json!(ben.user_id);
    let (invite_id, invite) = signed("11", invite);
    let invitation = json!({"room_version": "11", "event": invite, "invite_room_state": []});
    let path = format!("{FEDERATION}/v2/invite/{room}/{invite_id}");
    assert_eq!(asked.ask("PUT", &path, invitation).await.error(), (403, "M_FORBIDDEN"));
    set(&asked.rig, &anna, &room, "m.room.server_acl", json!({"allow": ["*"]})).await;
    asked.send("leave", &room, &id, &leave).await.ok();
    refused().await;
}

// RULES R31
#[tokio::test]
async fn what_nobody_of_a_server_saw_it_gets_redacted() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    for (visibility, seen) in
        [("shared", true), ("world_readable", true), ("invited", false), ("joined", false)]
    {
        let state = json!([{
            "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": visibility},
        }]);
        let body = json!({"preset": "public_chat", "room_version": "11", "initial_state": state});
        let room = create(&asked.rig, &anna, body).await;
        let before = say(&asked.rig, &anna, &room, "before", "1").await;
        asked.act("join", &room, CAROL, "11").await;
        let gone = say(&asked.rig, &anna, &room, "gone", "2").await;
        redact(&asked.rig, &anna, &room, &gone).await;
        let after = say(&asked.rig, &anna, &room, "after", "3").await;
        let body = async |id: &str| {
            let told = asked.read(&format!("event/{id}")).await.ok();
            assert_eq!((&told["origin"], told["pdus"].as_array().unwrap().len()), (&json!("example.org"), 1));
            told["pdus"][0]["content"]["body"].as_str().map(str::to_owned)
        };
        assert_eq!(body(&before).await.is_some(), seen, "{visibility}");
        assert_eq!((body(&gone).await, body(&after).await), (None, Some("after".to_owned())));
        let expected = [Some("after"), None, seen.then_some("before")];
        let told = asked.read(&format!("backfill/{room}?v={after}&limit=100")).await.ok();
        assert_eq!(bodies(&told["pdus"]), expected, "{visibility}");
        let told = asked.missing(&room, &[], &[&after], 20).await.ok();
        assert_eq!(bodies(&told["events"]), [expected[2], expected[1]], "{visibility}");
    }
}

#[tokio::test]
async fn an_event_is_found_in_whatever_room_by_whoever_named_it() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    for version in ["1", "3", "11"] {
        let (room, other) = (public(&asked, &anna, version).await, public(&asked, &anna, version).await);
        let [here, there] = [&room, &other].map(|room| say(&asked.rig, &anna, room, "tea", room));
        let (here, there) = (here.await, there.await);
        asked.act("join", &room, CAROL, version).await;
        let path = |id: &str| format!("event/{}", id.replace('/', "%2F"));
        let told = asked.read(&path(&here)).await.ok();
        assert_eq!(bodies(&told["pdus"]), [Some("tea")], "version {version}");
        assert_eq!(asked.read(&path(&there)).await.error(), (404, "M_NOT_FOUND"), "version {version}");
        asked.rig.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn what_stands_outside_of_the_graph_is_told_as_a_part_of_a_state_only() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    let template = asked.make("join", &room, CAROL, "11").await.ok()["event"].clone();
    asked.act("join", &room, CAROL, "11").await;
    let [state, message] = [Some(""), None].map(|state_key| {
        let mut event = template.clone();
        (event["type"], event["content"]) = (json!("org.example.tea"), json!({"tea": "green"}));
        let fields = event.as_object_mut().unwrap();
        match state_key {
            Some(key) => _ = fields.insert("state_key".to_owned(), json!(key)),
            None => _ = fields.remove("state_key"),
        }
        signed("11", event)
    });
    for (_, event) in [&state, &message] {
        let (object, room_id) = (event.to_string(), room.clone());
        let job = move |transaction: &mut Transaction<'_>| {
            let room = transaction.room_number(<&RoomId>::try_from(&room_id[..]).unwrap())?.unwrap();
            let version = transaction.room(room)?.version;
            let pdu = Pdu::parse(&canonical_object(&object).unwrap().into(), version).unwrap();
            let event = NewEvent { pdu: &pdu, transaction: None, admission: Admission::Outlier };
            transaction.append_event(room, &event)
        };
        asked.rig.app.store.write(job).await.unwrap();
    }
    let told = asked.read(&format!("event/{}", state.0)).await.ok();
    assert_eq!(told["pdus"][0]["content"], json!({"tea": "green"}));
    assert_eq!(asked.read(&format!("event/{}", message.0)).await.error(), (404, "M_NOT_FOUND"));
}

// RULES R31
#[tokio::test]
async fn a_time_leads_to_an_event_that_a_server_may_see() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let joined = json!([{
        "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"},
    }]);
    let body = json!({"preset": "public_chat", "room_version": "11", "initial_state": joined});
    let room = create(&asked.rig, &anna, body).await;
    let at = async |time: u64, direction: &str| {
        asked.read(&format!("timestamp_to_event/{room}?ts={time}&dir={direction}")).await
    };
    let begin = asked.rig.app.clock.now().0;
    assert_eq!(at(begin, "f").await.error(), (403, "M_FORBIDDEN"));
    asked.rig.advance(Duration::from_secs(1));
    say(&asked.rig, &anna, &room, "before", "1").await;
    asked.rig.advance(Duration::from_secs(1));
    asked.act("join", &room, CAROL, "11").await;
    asked.rig.advance(Duration::from_secs(1));
    let after = say(&asked.rig, &anna, &room, "after", "2").await;
    let found = at(begin + 2_500, "f").await.ok();
    assert_eq!(found, json!({"event_id": after, "origin_server_ts": begin + 3_000}));
    assert_eq!(
        at(begin + 500, "f").await.ok()["origin_server_ts"],
        begin + 2_000,
        "what was before it saw not"
    );
    assert_eq!(at(begin + 3_500, "f").await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn past_events_come_within_bounds_and_in_order() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    asked.act("join", &room, CAROL, "11").await;
    let mut said = Vec::new();
    for number in 0..120 {
        said.push(say(&asked.rig, &anna, &room, &number.to_string(), &number.to_string()).await);
    }
    for (limit, count) in [(0, 0), (1, 1), (7, 7), (1_000, 100)] {
        let told =
            asked.read(&format!("backfill/{room}?v={}&v=$unknown&limit={limit}", said[119])).await.ok();
        let expected: Vec<_> = (0..120).rev().take(count).map(|number| number.to_string()).collect();
        let expected: Vec<_> = expected.iter().map(|text| Some(text.as_str())).collect();
        assert_eq!(bodies(&told["pdus"]), expected);
    }
    for (earliest, limit, expected) in [(110, 20, 111..119), (110, 3, 116..119), (0, 1_000, 99..119)] {
        let told = asked.missing(&room, &[&said[earliest]], &[&said[119]], limit).await.ok();
        let expected: Vec<_> = expected.map(|number| number.to_string()).collect();
        let expected: Vec<_> = expected.iter().map(|text| Some(text.as_str())).collect();
        assert_eq!(bodies(&told["events"]), expected);
    }
    let told = asked.missing(&room, &[], &[&said[119], &said[118]], 1).await.ok();
    assert_eq!(bodies(&told["events"]), [Some("117")], "what it has is not told");
}

#[tokio::test]
async fn a_state_is_that_before_the_event_with_all_that_permits_it() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    asked.act("join", &room, CAROL, "11").await;
    let topic = set(&asked.rig, &anna, &room, "m.room.topic", json!({"topic": "Tea"})).await;
    // More than goes out in one piece.
    let mut last = String::new();
    for number in 0..40 {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.leaf/{number}");
        let leaf = json!({"leaf": "x".repeat(4_000)});
        last =
            asked.rig.send_as(&anna, "PUT", &path, leaf).await.ok()["event_id"].as_str().unwrap().to_owned();
    }
    let kinds = |events: &Value, kind: &str| {
        events.as_array().unwrap().iter().filter(|event| event["type"] == kind).count()
    };
    for (at, topics, leaves) in [(&topic, 0, 0), (&last, 1, 39)] {
        let told = asked.read(&format!("state/{room}?event_id={at}")).await.ok();
        assert_eq!(kinds(&told["pdus"], "m.room.topic"), topics);
        assert_eq!(kinds(&told["pdus"], "org.example.leaf"), leaves);
        assert_eq!(kinds(&told["pdus"], "m.room.member"), 2);
        assert_eq!(kinds(&told["auth_chain"], "m.room.create"), 1);
        let ids = asked.read(&format!("state_ids/{room}?event_id={at}")).await.ok();
        let set = |value: &Value| -> BTreeSet<String> {
            value.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
        };
        let of = |events: &Value| -> BTreeSet<String> {
            let named = events.as_array().unwrap().iter().map(|event| {
                let rules = ruma::RoomVersionId::V11.rules().unwrap();
                let object = serde_json::from_value(event.clone()).unwrap();
                format!("${}", ruma::signatures::reference_hash(&object, &rules).unwrap())
            });
            named.collect()
        };
        assert_eq!(set(&ids["pdu_ids"]), of(&told["pdus"]));
        assert_eq!(set(&ids["auth_chain_ids"]), of(&told["auth_chain"]));
    }
    let chain = asked.read(&format!("event_auth/{room}/{last}")).await.ok();
    let mut chain: Vec<_> =
        chain["auth_chain"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    chain.sort_unstable();
    assert_eq!(chain, ["m.room.create", "m.room.member", "m.room.power_levels"]);
}

// RULES R7
#[tokio::test]
async fn no_server_is_told_what_was_redacted() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = public(&asked, &anna, "11").await;
    asked.act("join", &room, CAROL, "11").await;
    let topic = set(&asked.rig, &anna, &room, "m.room.topic", json!({"topic": "hush"})).await;
    let said = say(&asked.rig, &anna, &room, "hush", "1").await;
    let last = say(&asked.rig, &anna, &room, "tea", "2").await;
    let everything = async || {
        let mut told = vec![asked.missing(&room, &[], &[&last], 20).await.ok()];
        for path in [
            format!("event/{topic}"),
            format!("event/{said}"),
            format!("backfill/{room}?v={last}&limit=100"),
            format!("state/{room}?event_id={last}"),
            format!("event_auth/{room}/{said}"),
        ] {
            told.push(asked.read(&path).await.ok());
        }
        let template = asked.make("join", &room, "@dave:hs.example:1", "11").await.ok();
        let (id, event) = signed("11", template["event"].clone());
        told.push(asked.send("join", &room, &id, &event).await.ok());
        told.iter().filter(|told| told.to_string().contains("hush")).count()
    };
    assert_eq!(everything().await, 6, "all but the auth chain has it");
    redact(&asked.rig, &anna, &room, &topic).await;
    redact(&asked.rig, &anna, &room, &said).await;
    assert_eq!(everything().await, 0);
    asked.rig.advance(Duration::from_secs(7 * 86_400));
    asked.rig.app.erase_redacted().await.unwrap();
    asked.publish();
    assert_eq!(everything().await, 0);
}
