//! What `/sync` tells, and when. <https://spec.matrix.org/v1.19/client-server-api/#syncing>

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{act, create, encoded, next, read, say, set, sync, texts};
use crate::rig::{Member, Rig};

/// A room of two, and the token of the second's first sync in it.
async fn two() -> (Rig, Member, Member, String, String) {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat", "name": "Tea"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let since = next(&sync(&rig, &bob, "").await);
    (rig, alice, bob, room, since)
}

fn since(token: &str, filter: Value) -> String {
    format!("since={token}&filter={}", encoded(&filter.to_string()))
}

/// Types of events with their state keys, or with the text of a message.
fn kinds(events: &Value) -> Vec<(&str, &str)> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    events
        .iter()
        .map(|event| {
            let key = event["state_key"].as_str().or(event["content"]["body"].as_str());
            (event["type"].as_str().unwrap(), key.unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn a_gap_is_told_and_can_be_filled() {
    let (rig, alice, bob, room, token) = two().await;
    for n in 0..15 {
        say(&rig, &alice, &room, &n.to_string(), &format!("t{n}")).await;
        if n == 3 {
            set(&rig, &alice, &room, "m.room.topic", json!({"topic": "in the gap"})).await;
        }
    }
    let news = sync(&rig, &bob, &since(&token, json!({"room": {"timeline": {"limit": 5}}}))).await;
    let told = &news["rooms"]["join"][&room];
    assert_eq!(texts(&told["timeline"]), ["10", "11", "12", "13", "14"]);
    assert_eq!(told["timeline"]["limited"], true);
    assert_eq!(kinds(&told["state"]["events"]), [("m.room.topic", "")], "state moved in the gap");

    let from = told["timeline"]["prev_batch"].as_str().unwrap();
    let gap = format!("rooms/{room}/messages?dir=b&limit=50&from={from}&to={token}");
    let gap = read(&rig, &bob, &gap).await;
    let gap = json!({"events": gap["chunk"]});
    assert_eq!(texts(&gap), ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]);
    assert_eq!(kinds(&gap["events"]).len(), 11);

    let quiet = sync(&rig, &bob, &format!("since={}", next(&news))).await;
    assert!(quiet.get("rooms").is_none_or(|rooms| rooms == &json!({})), "{quiet}");
}

#[tokio::test]
async fn state_is_told_once_in_the_timeline_or_before_it() {
    let (rig, alice, bob, room, token) = two().await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "first"})).await;
    say(&rig, &alice, &room, "hello", "t1").await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "second"})).await;

    let news = sync(&rig, &bob, &format!("since={token}")).await;
    let told = &news["rooms"]["join"][&room];
    assert_eq!(
        kinds(&told["timeline"]["events"]),
        [("m.room.topic", ""), ("m.room.message", "hello"), ("m.room.topic", "")]
    );
    assert!(!told["timeline"]["limited"].as_bool().unwrap_or_default());
    assert!(kinds(&told["state"]["events"]).is_empty());

    // Of two in a row the first lies before the timeline's start.
    let short = sync(&rig, &bob, &since(&token, json!({"room": {"timeline": {"limit": 2}}}))).await;
    let told = &short["rooms"]["join"][&room];
    assert_eq!(told["state"]["events"][0]["content"]["topic"], "first");
    assert_eq!(told["timeline"]["events"][1]["content"]["topic"], "second");

    // What the timeline's filter hides is state all the same.
    let only = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let hidden = sync(&rig, &bob, &since(&token, only)).await;
    let told = &hidden["rooms"]["join"][&room];
    assert_eq!(kinds(&told["timeline"]["events"]), [("m.room.message", "hello")]);
    assert_eq!(told["state"]["events"][0]["content"]["topic"], "second");
}

#[tokio::test]
async fn a_timeline_with_a_hole_leaves_nobody_with_old_state() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let levels = json!({"events": {"m.room.topic": 0}});
    let public = json!({"preset": "public_chat", "power_level_content_override": levels});
    let room = create(&rig, &alice, public).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let token = next(&sync(&rig, &bob, "").await);
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "first"})).await;
    say(&rig, &alice, &room, "between", "t1").await;
    set(&rig, &bob, &room, "m.room.topic", json!({"topic": "second"})).await;

    let others = json!({"room": {"timeline": {"not_senders": [bob.user_id]}}});
    let news = sync(&rig, &bob, &since(&token, others)).await;
    let told = &news["rooms"]["join"][&room];
    assert_eq!(kinds(&told["timeline"]["events"]), [("m.room.message", "between")]);
    assert_eq!(told["state"]["events"][0]["content"]["topic"], "second");
    assert_eq!(told["timeline"]["limited"], true);
    let from = told["timeline"]["prev_batch"].as_str().unwrap();
    let before = read(&rig, &bob, &format!("rooms/{room}/messages?dir=b&limit=1&from={from}")).await;
    assert_eq!(before["chunk"][0]["content"]["topic"], "first");
}

#[tokio::test]
async fn state_after_is_the_state_at_the_end() {
    let (rig, alice, bob, room, token) = two().await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "first"})).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "second"})).await;
    for (parameter, name) in [
        ("use_state_after", "state_after"),
        ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after"),
    ] {
        let news = sync(&rig, &bob, &format!("since={token}&{parameter}=true")).await;
        let told = &news["rooms"]["join"][&room];
        assert!(told.get("state").is_none());
        assert_eq!(kinds(&told[name]["events"]), [("m.room.topic", "")]);
        assert_eq!(told[name]["events"][0]["content"]["topic"], "second");
        assert_eq!(kinds(&told["timeline"]["events"]).len(), 2);
    }
}

#[tokio::test]
async fn the_first_sync_tells_all_and_full_state_tells_it_again() {
    let (rig, _, bob, room, token) = two().await;
    let all = ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.name"];
    let state_of = |answer: &Value| {
        let told = &answer["rooms"]["join"][&room];
        let mut told = [kinds(&told["state"]["events"]), kinds(&told["timeline"]["events"])].concat();
        told.retain(|(kind, _)| all.contains(kind));
        told.len()
    };
    assert_eq!(state_of(&sync(&rig, &bob, "").await), all.len());
    let again = sync(&rig, &bob, &format!("since={token}&full_state=true&timeout=30000")).await;
    assert_eq!(state_of(&again), all.len());
    assert!(kinds(&again["rooms"]["join"][&room]["timeline"]["events"]).is_empty());
}

#[tokio::test]
async fn members_are_loaded_lazily() {
    let (rig, alice, bob, room, _) = two().await;
    let (carol, dave) = (rig.register("carol").await, rig.register("dave").await);
    act(&rig, &carol, &room, "join", json!({})).await;
    act(&rig, &dave, &room, "join", json!({})).await;
    say(&rig, &carol, &room, "hello", "t1").await;
    let lazy = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 1}}});
    let members = |answer: &Value| {
        let state = &answer["rooms"]["join"][&room]["state"]["events"];
        let mut members: Vec<String> = kinds(state)
            .into_iter()
            .filter_map(|(kind, key)| (kind == "m.room.member").then_some(key.to_owned()))
            .collect();
        members.sort();
        members
    };
    let first = sync(&rig, &bob, &format!("filter={}", encoded(&lazy.to_string()))).await;
    assert_eq!(members(&first), [&bob.user_id[..], &carol.user_id], "their own and the sender's");
    assert_eq!(first["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 4);

    say(&rig, &alice, &room, "hello", "t1").await;
    let news = sync(&rig, &bob, &since(&next(&first), lazy)).await;
    assert_eq!(members(&news), [&alice.user_id[..]]);
}

#[tokio::test]
async fn members_who_came_in_a_gap_are_told_lazily_too() {
    let (rig, alice, bob, room, token) = two().await;
    let carol = rig.register("carol").await;
    act(&rig, &carol, &room, "join", json!({})).await;
    say(&rig, &bob, &room, "hello", "t1").await;
    let lazy = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 1}}});
    for full_state in ["", "&full_state=true"] {
        let news = sync(&rig, &bob, &format!("{}{full_state}", since(&token, lazy.clone()))).await;
        let told = &news["rooms"]["join"][&room];
        assert_eq!(told["timeline"]["limited"], true);
        let told = kinds(&told["state"]["events"]);
        assert!(told.contains(&("m.room.member", &carol.user_id)), "{full_state}");
        assert!(!told.contains(&("m.room.member", &alice.user_id)), "she was there before{full_state}");
    }
}

#[tokio::test]
async fn a_room_without_a_name_comes_with_whom_to_call_it_by() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    say(&rig, &bob, &room, "hello", "t1").await;
    let lazy = |types: Value| {
        let mut state = json!({"lazy_load_members": true});
        if !types.is_null() {
            state["types"] = types;
        }
        json!({"room": {"state": state, "timeline": {"limit": 1}}})
    };
    let first = async |types: Value| {
        let filter = format!("filter={}", encoded(&lazy(types).to_string()));
        let mut answer = sync(&rig, &bob, &filter).await;
        answer["rooms"]["join"][&room].take()
    };
    let told = first(Value::Null).await;
    assert_eq!(told["summary"]["m.heroes"], json!([alice.user_id]));
    let of_alice = ("m.room.member", &*alice.user_id);
    assert!(kinds(&told["state"]["events"]).contains(&of_alice), "her name is in her member event");
    assert!(kinds(&first(json!([])).await["state"]["events"]).is_empty(), "the filter has the last word");

    for (kind, content) in [("m.room.name", json!({"name": "Tea"})), ("m.room.name", json!({"name": ""}))] {
        set(&rig, &alice, &room, kind, content.clone()).await;
        let told = first(Value::Null).await;
        let named = content["name"] != "";
        assert_eq!(told["summary"].get("m.heroes").is_none(), named, "{content}");
        assert_eq!(told["summary"]["m.joined_member_count"], 2);
    }

    // Who knew the name hears by whom to call the room once that is gone.
    set(&rig, &alice, &room, "m.room.name", json!({"name": "Tea"})).await;
    let token = next(&sync(&rig, &bob, "").await);
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "leaves"})).await;
    let quiet = sync(&rig, &bob, &since(&token, lazy(Value::Null))).await;
    assert!(quiet["rooms"]["join"][&room].get("summary").is_none());
    set(&rig, &alice, &room, "m.room.name", json!({})).await;
    let news = sync(&rig, &bob, &since(&next(&quiet), lazy(Value::Null))).await;
    let told = &news["rooms"]["join"][&room];
    assert_eq!(told["summary"]["m.heroes"], json!([alice.user_id]));
}

#[tokio::test]
async fn data_of_a_room_comes_with_the_room() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"invite": [bob.user_id]})).await;
    let path = format!("/_matrix/client/v3/user/{}/rooms/{room}/account_data/m.tag", bob.user_id);
    rig.send_as(&bob, "PUT", &path, json!({"tags": {"u.work": {}}})).await.ok();
    let token = next(&sync(&rig, &bob, "").await);
    act(&rig, &bob, &room, "join", json!({})).await;
    let news = sync(&rig, &bob, &format!("since={token}")).await;
    assert_eq!(kinds(&news["rooms"]["join"][&room]["account_data"]["events"]), [("m.tag", "")]);
    let later = sync(&rig, &bob, &format!("since={}&full_state=true", next(&news))).await;
    assert!(later["rooms"]["join"][&room].get("account_data").is_none());

    act(&rig, &bob, &room, "leave", json!({})).await;
    let include = format!("filter={}", encoded(&json!({"room": {"include_leave": true}}).to_string()));
    let all = sync(&rig, &bob, &include).await;
    assert_eq!(kinds(&all["rooms"]["leave"][&room]["account_data"]["events"]), [("m.tag", "")]);
}

#[tokio::test]
async fn leaving_is_told_once() {
    let (rig, alice, bob, room, token) = two().await;
    say(&rig, &alice, &room, "before", "t1").await;
    let kick = json!({"user_id": bob.user_id, "reason": "tea is over"});
    act(&rig, &alice, &room, "kick", kick).await;
    say(&rig, &alice, &room, "after", "t2").await;

    let news = sync(&rig, &bob, &format!("since={token}")).await;
    let left = &news["rooms"]["leave"][&room];
    assert_eq!(
        kinds(&left["timeline"]["events"]),
        [("m.room.message", "before"), ("m.room.member", &bob.user_id[..])]
    );
    assert_eq!(left["timeline"]["events"][1]["content"]["reason"], "tea is over");
    assert!(news["rooms"]["join"].get(&room).is_none());
    let later = sync(&rig, &bob, &format!("since={}", next(&news))).await;
    assert!(later["rooms"]["leave"].get(&room).is_none());

    assert!(sync(&rig, &bob, "").await["rooms"]["leave"].get(&room).is_none());
    let include = format!("filter={}", encoded(&json!({"room": {"include_leave": true}}).to_string()));
    let all = sync(&rig, &bob, &include).await;
    assert_eq!(texts(&all["rooms"]["leave"][&room]["timeline"]), ["before"]);
    act(&rig, &bob, &room, "forget", json!({})).await;
    assert!(sync(&rig, &bob, &include).await["rooms"]["leave"].get(&room).is_none());

    // Another device that was away meanwhile has to hear that the room is left, though not of what is forgotten later.
    let news = sync(&rig, &bob, &format!("since={token}")).await;
    let left = &news["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(kinds(left), [("m.room.message", "before"), ("m.room.member", &bob.user_id[..])]);
    let later = sync(&rig, &bob, &format!("since={}&full_state=true", next(&news))).await;
    assert!(later["rooms"]["leave"].get(&room).is_none());
}

#[tokio::test]
async fn who_comes_back_is_told_everything() {
    let (rig, alice, bob, room, token) = two().await;
    act(&rig, &bob, &room, "leave", json!({})).await;
    set(&rig, &alice, &room, "m.room.topic", json!({"topic": "meanwhile"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let news = sync(&rig, &bob, &format!("since={token}")).await;
    let told = &news["rooms"]["join"][&room];
    let told = [kinds(&told["state"]["events"]), kinds(&told["timeline"]["events"])].concat();
    for kind in ["m.room.create", "m.room.topic", "m.room.name"] {
        assert!(told.contains(&(kind, "")), "{kind}");
    }
}

// RULES R45
#[tokio::test]
async fn invitations_and_knocks_come_with_stripped_state() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"name": "Tea"})).await;
    let token = next(&sync(&rig, &bob, "").await);
    act(&rig, &alice, &room, "invite", json!({"user_id": bob.user_id, "reason": "come"})).await;
    let news = sync(&rig, &bob, &format!("since={token}")).await;
    let events = &news["rooms"]["invite"][&room]["invite_state"]["events"];
    let told = kinds(events);
    for kind in ["m.room.create", "m.room.name", "m.room.join_rules"] {
        assert!(told.contains(&(kind, "")), "{kind}");
    }
    assert!(told.contains(&("m.room.member", &bob.user_id[..])));
    for event in events.as_array().unwrap() {
        let fields: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["content", "sender", "state_key", "type"], "stripped");
    }
    let later = sync(&rig, &bob, &format!("since={}", next(&news))).await;
    assert!(later["rooms"]["invite"].get(&room).is_none(), "told once");

    act(&rig, &bob, &room, "leave", json!({})).await;
    let declined = sync(&rig, &bob, &format!("since={}", next(&later))).await;
    let left = &declined["rooms"]["leave"][&room];
    let own = [("m.room.member", &bob.user_id[..])];
    assert_eq!(kinds(&left["timeline"]["events"]), own, "or the invitation would stay in lists");
    assert_eq!(left["timeline"]["events"][0]["content"]["membership"], "leave");
    let after = sync(&rig, &bob, &format!("since={}&use_state_after=true", next(&later))).await;
    assert_eq!(kinds(&after["rooms"]["leave"][&room]["state_after"]["events"]), own);

    set(&rig, &alice, &room, "m.room.join_rules", json!({"join_rule": "knock"})).await;
    let path = format!("/_matrix/client/v3/knock/{room}");
    rig.send_as(&bob, "POST", &path, json!({"reason": "me too"})).await.ok();
    let knocks = sync(&rig, &bob, &format!("since={}", next(&declined))).await;
    let told = kinds(&knocks["rooms"]["knock"][&room]["knock_state"]["events"]);
    assert!(told.contains(&("m.room.name", "")) && told.contains(&("m.room.member", &bob.user_id[..])));
    let seen = sync(&rig, &alice, "").await;
    let timeline = &seen["rooms"]["join"][&room]["timeline"]["events"];
    assert!(kinds(timeline).contains(&("m.room.member", &bob.user_id[..])), "members see who knocks");
}

#[tokio::test]
async fn filters_choose_rooms_events_and_fields() {
    let (rig, alice, bob, room, token) = two().await;
    let other = create(&rig, &bob, json!({})).await;
    say(&rig, &alice, &room, "from alice", "t1").await;
    say(&rig, &bob, &room, "from bob", "t2").await;
    let chosen = |filter: Value| {
        let query = since(&token, filter);
        let (rig, bob) = (&rig, &bob);
        async move { sync(rig, bob, &query).await["rooms"]["join"].clone() }
    };
    let told = chosen(json!({"room": {"rooms": [room]}})).await;
    assert!(told.get(&other).is_none() && told.get(&room).is_some());
    let told = chosen(json!({"room": {"not_rooms": [room]}})).await;
    assert!(told.get(&other).is_some() && told.get(&room).is_none());
    let told = chosen(json!({"room": {"timeline": {"not_senders": [bob.user_id]}}})).await;
    assert_eq!(texts(&told[&room]["timeline"]), ["from alice"]);
    let told = chosen(json!({"room": {"timeline": {"types": ["m.room.mess*"], "limit": 1}}})).await;
    assert_eq!(texts(&told[&room]["timeline"]), ["from bob"]);
    let told = chosen(json!({"event_fields": ["content.body", "type"]})).await;
    let event = &told[&room]["timeline"]["events"][0];
    assert_eq!(event["content"], json!({"body": "from alice"}));
    assert!(event.get("unsigned").is_none());

    // A stored filter does the same.
    let path = format!("/_matrix/client/v3/user/{}/filter", bob.user_id);
    let filter = json!({"room": {"timeline": {"senders": [alice.user_id]}}});
    let kept = rig.send_as(&bob, "POST", &path, filter).await.ok();
    let id = kept["filter_id"].as_str().unwrap();
    let told = sync(&rig, &bob, &format!("since={token}&filter={id}")).await;
    assert_eq!(texts(&told["rooms"]["join"][&room]["timeline"]), ["from alice"]);
    for bad in ["nothing", encoded("{").as_str(), encoded("{\"room\": 7}").as_str()] {
        let path = format!("/_matrix/client/v3/sync?filter={bad}");
        assert_eq!(rig.send_as(&bob, "GET", &path, Value::Null).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_waiting_client_hears_at_once() {
    let (rig, alice, bob, room, token) = two().await;
    let waiting = async |token: &str| {
        let query = format!("since={token}&timeout=60000");
        timeout(Duration::from_secs(20), sync(&rig, &bob, &query)).await.expect("it hears")
    };
    let (news, ()) = tokio::join!(waiting(&token), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        say(&rig, &alice, &room, "hello", "t1").await;
    });
    assert_eq!(texts(&news["rooms"]["join"][&room]["timeline"]), ["hello"]);

    // So it does of a room that is new to it, and of its own data.
    let token = next(&news);
    let (news, other) = tokio::join!(waiting(&token), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        create(&rig, &alice, json!({"invite": [bob.user_id]})).await
    });
    assert!(news["rooms"]["invite"].get(&other).is_some());
    let token = next(&news);
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.example.mood", bob.user_id);
    let (news, _) = tokio::join!(waiting(&token), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rig.send_as(&bob, "PUT", &path, json!({"mood": "fine"})).await.ok()
    });
    assert_eq!(kinds(&news["account_data"]["events"]), [("org.example.mood", "")]);
    assert!(news.get("rooms").is_none_or(|rooms| rooms == &json!({})));

    // Who has nothing to hear is answered when the time is up.
    let quiet = sync(&rig, &bob, &format!("since={}&timeout=50", next(&news))).await;
    assert_eq!(next(&quiet), next(&news));
}

#[tokio::test]
async fn waiting_clients_take_nobody_s_turn() {
    let (rig, _, bob, _, token) = two().await;
    let query = format!("since={token}&timeout=60000");
    let other = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        timeout(Duration::from_secs(20), sync(&rig, &bob, "")).await.expect("it has its turn")
    };
    tokio::select! {
        _ = sync(&rig, &bob, &query) => panic!("nothing happened"),
        _ = sync(&rig, &bob, &query) => panic!("nothing happened"),
        _ = sync(&rig, &bob, &query) => panic!("nothing happened"),
        _ = sync(&rig, &bob, &query) => panic!("nothing happened"),
        _ = other => {}
    }
}

#[tokio::test]
async fn a_token_of_another_time_loses_nothing() {
    let (rig, alice, bob, room, _) = two().await;
    say(&rig, &alice, &room, "hello", "t1").await;
    let answer = sync(&rig, &bob, "since=s99999999").await;
    let told = &answer["rooms"]["join"][&room];
    assert_eq!(told["timeline"]["limited"], true);
    assert_eq!(texts(&told["timeline"]), ["hello"]);
    act(&rig, &bob, &room, "leave", json!({})).await;
    let answer = sync(&rig, &bob, "since=s99999999").await;
    assert!(answer["rooms"]["leave"].get(&room).is_some(), "the client may believe that he is there");
    for bad in ["x", "s-1", "s1_2", "%00"] {
        let path = format!("/_matrix/client/v3/sync?since={bad}");
        let reply = rig.send_as(&bob, "GET", &path, Value::Null).await;
        assert_eq!(reply.error(), (400, "M_INVALID_PARAM"), "{bad}");
    }
}

#[tokio::test]
async fn an_event_tells_its_reader_their_membership_and_their_transaction() {
    let (rig, alice, bob, room, _) = two().await;
    let before = say(&rig, &alice, &room, "before", "t1").await;
    let carol = rig.register("carol").await;
    act(&rig, &carol, &room, "join", json!({})).await;
    let after = say(&rig, &carol, &room, "after", "t2").await;
    let unsigned = async |who: &Member, id: &str| {
        read(&rig, who, &format!("rooms/{room}/event/{}", encoded(id))).await["unsigned"].clone()
    };
    assert_eq!(unsigned(&carol, &before).await["membership"], "leave");
    assert_eq!(unsigned(&bob, &before).await["membership"], "join");
    let own = unsigned(&carol, &after).await;
    assert_eq!((&own["membership"], &own["transaction_id"]), (&json!("join"), &json!("t2")));
    let elsewhere = unsigned(&rig.log_in("carol").await, &after).await;
    assert!(elsewhere.get("transaction_id").is_none(), "another device did not send it");
}
