//! What is told with an event of those that relate to it.
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use std::time::Duration;

use serde_json::{Value, json};

use super::{act, create, encoded, ids, read, read_v1, redact, relating, say, set, sync, tell};
use crate::rig::{Member, Rig};

const MESSAGE: &str = "m.room.message";

/// What is told with an event, as its id asks for it.
async fn told(rig: &Rig, who: &Member, room: &str, event: &str) -> Value {
    read(rig, who, &format!("rooms/{room}/event/{event}")).await["unsigned"]["m.relations"].clone()
}

fn find(events: &Value, id: &str) -> Value {
    let events = events.as_array().unwrap();
    events.iter().find(|event| event["event_id"] == id).unwrap_or(&Value::Null).clone()
}

/// A room of Alice's with Bob.
async fn scene() -> (Rig, Member, Member, String) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    (rig, alice, bob, room)
}

#[tokio::test]
async fn it_is_told_wherever_the_event_is() {
    let (rig, alice, bob, room) = scene().await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    tell(&rig, &bob, &room, (MESSAGE, "t2"), relating("m.thread", &root, "first")).await;
    let edit = tell(&rig, &alice, &room, (MESSAGE, "t3"), relating("m.replace", &root, "better")).await;
    let reply = tell(&rig, &bob, &room, (MESSAGE, "t4"), relating("m.thread", &root, "last")).await;
    let of_reply = tell(&rig, &bob, &room, (MESSAGE, "t5"), relating("m.replace", &reply, "the last")).await;
    let references = [
        tell(&rig, &bob, &room, (MESSAGE, "t6"), relating("m.reference", &root, "see")).await,
        tell(&rig, &bob, &room, (MESSAGE, "t7"), relating("m.reference", &root, "see")).await,
    ];
    let mut reaction = relating("m.annotation", &root, "");
    reaction["m.relates_to"]["key"] = json!("+1");
    tell(&rig, &bob, &room, ("m.reaction", "t8"), reaction).await;

    let check = |event: &Value, in_room: bool, name: &str| {
        let relations = &event["unsigned"]["m.relations"];
        let kinds: Vec<_> = relations.as_object().expect(name).keys().collect();
        assert_eq!(kinds, ["m.reference", "m.replace", "m.thread"], "{name}: reactions are left to clients");
        let chunk = [json!({"event_id": references[0]}), json!({"event_id": references[1]})];
        assert_eq!(relations["m.reference"], json!({"chunk": chunk}), "{name}");
        let (replace, thread) = (&relations["m.replace"], &relations["m.thread"]);
        assert_eq!(replace["event_id"], edit, "{name}");
        assert_eq!(replace["content"]["m.new_content"]["body"], "better", "{name}");
        assert_eq!(
            (&thread["count"], &thread["current_user_participated"]),
            (&json!(2), &json!(true)),
            "{name}"
        );
        let latest = &thread["latest_event"];
        assert_eq!(
            (&latest["event_id"], &latest["content"]["body"]),
            (&json!(reply), &json!("last")),
            "{name}"
        );
        let within = &latest["unsigned"]["m.relations"];
        assert_eq!(within["m.replace"]["event_id"], of_reply, "{name}: what relates to that, too");
        for event in [event, replace, latest, &within["m.replace"]] {
            assert_eq!(event.get("room_id").is_none(), in_room, "{name}");
        }
        assert_eq!(event["content"]["body"], "root", "{name}: the event itself stays as it is");
    };
    check(&read(&rig, &alice, &format!("rooms/{room}/event/{root}")).await, false, "event");
    for dir in ["b", "f"] {
        let page = read(&rig, &alice, &format!("rooms/{room}/messages?dir={dir}&limit=50")).await;
        check(&find(&page["chunk"], &root), false, "messages");
    }
    let context = read(&rig, &alice, &format!("rooms/{room}/context/{root}")).await;
    check(&context["event"], false, "context");
    let context = read(&rig, &alice, &format!("rooms/{room}/context/{edit}")).await;
    check(&find(&context["events_before"], &root), false, "context");
    let threads = read_v1(&rig, &alice, &format!("{room}/threads")).await;
    check(&threads["chunk"][0], false, "threads");
    let filter = |limit: u32| encoded(&json!({"room": {"timeline": {"limit": limit}}}).to_string());
    let limited = sync(&rig, &alice, &format!("filter={}", filter(8))).await;
    let timeline = &limited["rooms"]["join"][&room]["timeline"];
    assert_eq!(timeline["limited"], true);
    check(&find(&timeline["events"], &root), true, "sync");
    let whole = sync(&rig, &alice, &format!("filter={}", filter(50))).await;
    let timeline = &whole["rooms"]["join"][&room]["timeline"];
    assert_eq!(timeline["limited"], false);
    let event = find(&timeline["events"], &root);
    assert_eq!(event["unsigned"].get("m.relations"), None, "who is told everything sums it up");

    let replies = read_v1(&rig, &alice, &format!("{room}/relations/{root}/m.thread/m.room.message")).await;
    let reply = find(&replies["chunk"], &reply);
    assert_eq!(reply["unsigned"]["m.relations"]["m.replace"]["event_id"], of_reply);
    assert_eq!(reply["unsigned"]["m.relations"].get("m.thread"), None);
}

#[tokio::test]
async fn the_most_recent_valid_replacement_is_told() {
    let (rig, alice, bob, room) = scene().await;
    let said = say(&rig, &alice, &room, "said", "t1").await;
    let current = async || told(&rig, &alice, &room, &said).await["m.replace"]["event_id"].clone();
    assert_eq!(current().await, Value::Null);
    let mut edits = Vec::new();
    for at in 0..5 {
        rig.advance(Duration::from_millis(1));
        let edit = relating("m.replace", &said, &format!("{at}"));
        edits.push(tell(&rig, &alice, &room, (MESSAGE, &format!("e{at}")), edit).await);
        assert_eq!(current().await, edits[at], "the most recent");
    }
    rig.advance(Duration::from_millis(1));
    for at in 0..5 {
        let edit = relating("m.replace", &said, "at once");
        let edit = tell(&rig, &alice, &room, (MESSAGE, &format!("o{at}")), edit).await;
        edits.push(edit);
        assert_eq!(Some(current().await), edits[5..].iter().max().map(|id| json!(id)), "or the greatest id");
    }
    rig.advance(Duration::from_millis(1));
    let new = |text: &str| relating("m.replace", &said, text);
    let mut without = new("without new content");
    without.as_object_mut().unwrap().remove("m.new_content");
    tell(&rig, &bob, &room, (MESSAGE, "i1"), new("by another")).await;
    tell(&rig, &alice, &room, ("org.example.note", "i2"), new("of another type")).await;
    tell(&rig, &alice, &room, (MESSAGE, "i3"), without).await;
    set(&rig, &alice, &room, MESSAGE, new("as state")).await;
    let latest = edits.split_off(5).into_iter().max().unwrap();
    tell(&rig, &alice, &room, (MESSAGE, "i4"), relating("m.replace", &latest, "an edit of an edit")).await;
    assert_eq!(current().await, latest);
    assert_eq!(told(&rig, &alice, &room, &latest).await, Value::Null);

    let topic = set(&rig, &alice, &room, "m.room.topic", json!({"topic": "tea"})).await;
    tell(&rig, &alice, &room, ("m.room.topic", "i5"), relating("m.replace", &topic, "of state")).await;
    tell(&rig, &alice, &room, (MESSAGE, "i6"), relating("m.thread", &topic, "of state")).await;
    assert_eq!(told(&rig, &alice, &room, &topic).await, Value::Null, "nothing is told with state");
}

#[tokio::test]
async fn what_is_encrypted_is_replaced_by_what_is_encrypted() {
    let (rig, alice, _, room) = scene().await;
    let secret = |relation: Value| {
        let mut content = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"});
        content["m.relates_to"] = relation;
        content
    };
    let said = tell(&rig, &alice, &room, ("m.room.encrypted", "t1"), secret(Value::Null)).await;
    let relation = json!({"rel_type": "m.replace", "event_id": said});
    let edit = tell(&rig, &alice, &room, ("m.room.encrypted", "t2"), secret(relation)).await;
    rig.advance(Duration::from_millis(1));
    tell(&rig, &alice, &room, (MESSAGE, "t3"), relating("m.replace", &said, "in the clear")).await;
    assert_eq!(told(&rig, &alice, &room, &said).await["m.replace"]["event_id"], edit);
}

#[tokio::test]
async fn a_redaction_takes_back_what_it_redacts() {
    let (rig, alice, bob, room) = scene().await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let mut replies = Vec::new();
    for at in 0..3 {
        let reply = relating("m.thread", &root, "reply");
        replies.push(tell(&rig, &bob, &room, (MESSAGE, &format!("r{at}")), reply).await);
    }
    let mut edits = Vec::new();
    for at in 0..2 {
        rig.advance(Duration::from_millis(1));
        let edit = relating("m.replace", &root, "better");
        edits.push(tell(&rig, &alice, &room, (MESSAGE, &format!("e{at}")), edit).await);
    }
    let reference = tell(&rig, &bob, &room, (MESSAGE, "t2"), relating("m.reference", &root, "see")).await;
    redact(&rig, &bob, &room, &replies[2]).await;
    redact(&rig, &alice, &room, &edits[1]).await;
    let relations = told(&rig, &alice, &room, &root).await;
    assert_eq!(relations["m.thread"]["count"], 2);
    assert_eq!(relations["m.thread"]["latest_event"]["event_id"], replies[1]);
    assert_eq!(relations["m.replace"]["event_id"], edits[0]);
    assert_eq!(ids(&read_v1(&rig, &alice, &format!("{room}/relations/{root}")).await["chunk"]).len(), 4);

    redact(&rig, &alice, &room, &root).await;
    let relations = told(&rig, &alice, &room, &root).await;
    assert_eq!(relations.get("m.replace"), None, "nothing replaces what is gone");
    assert_eq!(relations["m.thread"]["count"], 2, "its thread stays");
    assert_eq!(relations["m.reference"]["chunk"], json!([{"event_id": reference}]));
    redact(&rig, &bob, &room, &reference).await;
    redact(&rig, &bob, &room, &replies[0]).await;
    redact(&rig, &bob, &room, &replies[1]).await;
    assert_eq!(told(&rig, &alice, &room, &root).await, Value::Null);
}

#[tokio::test]
async fn who_took_part_in_a_thread_is_told_so() {
    let (rig, alice, bob, room) = scene().await;
    let carol = rig.register("carol").await;
    act(&rig, &carol, &room, "join", json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    tell(&rig, &bob, &room, (MESSAGE, "t2"), relating("m.thread", &root, "x")).await;
    tell(&rig, &carol, &room, (MESSAGE, "t3"), relating("m.reference", &root, "x")).await;
    for (who, participated) in [(&alice, true), (&bob, true), (&carol, false)] {
        let thread = told(&rig, who, &room, &root).await["m.thread"].clone();
        assert_eq!(thread["current_user_participated"], participated, "{}", who.user_id);
    }
}

#[tokio::test]
async fn a_thread_begins_at_what_relates_to_nothing() {
    let (rig, alice, bob, room) = scene().await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let thread = |to: &str| relating("m.thread", to, "x");
    let reply = tell(&rig, &alice, &room, (MESSAGE, "t2"), thread(&root)).await;
    let edit = tell(&rig, &alice, &room, (MESSAGE, "t3"), relating("m.replace", &root, "x")).await;
    let send = async |who: &Member, transaction: &str, content: Value| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/{MESSAGE}/{transaction}");
        rig.send_as(who, "PUT", &path, content).await
    };
    for (transaction, to) in [("n1", &reply), ("n2", &edit)] {
        assert_eq!(send(&bob, transaction, thread(to)).await.error(), (400, "M_UNKNOWN"));
    }
    let rich = json!({"body": "x", "m.relates_to": {"m.in_reply_to": {"event_id": root}}});
    let rich = tell(&rig, &alice, &room, (MESSAGE, "t4"), rich).await;
    send(&bob, "n3", thread(&rich)).await.ok();
    send(&bob, "n4", thread("$unknown")).await.ok();
    let stranger = rig.register("stranger").await;
    assert_eq!(send(&stranger, "n5", thread(&reply)).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn the_same_annotation_is_refused() {
    let (rig, alice, bob, room) = scene().await;
    let said = say(&rig, &alice, &room, "said", "t1").await;
    let annotate = async |who: &Member, kind: &str, key: &str, transaction: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{transaction}");
        let relation = json!({"rel_type": "m.annotation", "event_id": said, "key": key});
        rig.send_as(who, "PUT", &path, json!({"m.relates_to": relation})).await
    };
    let first = annotate(&alice, "m.reaction", "+1", "a1").await.ok();
    let refused = annotate(&alice, "m.reaction", "+1", "a2").await;
    assert_eq!(refused.error(), (400, "M_DUPLICATE_ANNOTATION"));
    assert_eq!(annotate(&alice, "m.reaction", "+1", "a1").await.ok(), first, "the same request is no other");
    annotate(&alice, "m.reaction", "-1", "a3").await.ok();
    annotate(&alice, "org.example.vote", "+1", "a4").await.ok();
    annotate(&bob, "m.reaction", "+1", "a5").await.ok();
    redact(&rig, &alice, &room, first["event_id"].as_str().unwrap()).await;
    annotate(&alice, "m.reaction", "+1", "a6").await.ok();
}
