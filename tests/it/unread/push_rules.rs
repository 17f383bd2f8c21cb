//! The endpoints of push rules. <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use serde_json::{Value, json};

use crate::{
    rig::{Member, Reply, Rig},
    rooms::{next, read, sync},
};

async fn put(rig: &Rig, who: &Member, path: &str, body: Value) -> Reply {
    rig.send_as(who, "PUT", &format!("/_matrix/client/v3/pushrules/global/{path}"), body).await
}

async fn delete(rig: &Rig, who: &Member, path: &str) -> Reply {
    rig.send_as(who, "DELETE", &format!("/_matrix/client/v3/pushrules/global/{path}"), Value::Null).await
}

fn ids(rules: &Value) -> Vec<&str> {
    rules.as_array().unwrap().iter().map(|rule| rule["rule_id"].as_str().unwrap()).collect()
}

/// <https://spec.matrix.org/v1.19/client-server-api/#predefined-rules>
fn predefined() -> Value {
    let matches = |key: &str, pattern: &str| json!({"kind": "event_match", "key": key, "pattern": pattern});
    let is = |key: &str, value: Value| json!({"kind": "event_property_is", "key": key, "value": value});
    let rule = |id: &str, conditions: Vec<Value>, actions: Vec<Value>| {
        let enabled = id != "master";
        json!({
            "rule_id": format!(".m.rule.{id}"), "default": true, "enabled": enabled,
            "conditions": conditions, "actions": actions,
        })
    };
    let (notify, loud) = (json!("notify"), json!({"set_tweak": "highlight"}));
    let sound = |sound: &str| json!({"set_tweak": "sound", "value": sound});
    let to_alice = json!({
        "kind": "event_property_contains", "key": "content.m\\.mentions.user_ids", "value": "@alice:example.org",
    });
    let may_notify = json!({"kind": "sender_notification_permission", "key": "room"});
    let two = json!({"kind": "room_member_count", "is": "2"});
    let of_type = |kind: &str| matches("type", kind);
    let invite = vec![
        of_type("m.room.member"),
        matches("content.membership", "invite"),
        matches("state_key", "@alice:example.org"),
    ];
    let state = |kind: &str| vec![of_type(kind), matches("state_key", "")];
    let audible = |tone: &str| vec![notify.clone(), sound(tone)];
    let of_threads = |subscribed: bool, actions: Vec<Value>| {
        let name = if subscribed { "subscribed" } else { "unsubscribed" };
        json!({
            "rule_id": format!(".io.element.msc4306.rule.{name}_thread"), "default": true, "enabled": true,
            "conditions": [{"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}],
            "actions": actions,
        })
    };
    json!({
        "override": [
            rule("master", vec![], vec![]),
            rule("suppress_notices", vec![matches("content.msgtype", "m.notice")], vec![]),
            rule("invite_for_me", invite, audible("default")),
            rule("member_event", vec![of_type("m.room.member")], vec![]),
            rule("is_user_mention", vec![to_alice], [audible("default"), vec![loud.clone()]].concat()),
            rule(
                "is_room_mention",
                vec![is("content.m\\.mentions.room", json!(true)), may_notify],
                vec![notify.clone(), loud.clone()],
            ),
            rule("tombstone", state("m.room.tombstone"), vec![notify.clone(), loud]),
            rule("reaction", vec![of_type("m.reaction")], vec![]),
            rule("room.server_acl", state("m.room.server_acl"), vec![]),
            rule("suppress_edits", vec![is("content.m\\.relates_to.rel_type", json!("m.replace"))], vec![]),
        ],
        // <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
        "postcontent": [of_threads(false, vec![]), of_threads(true, audible("default"))],
        "underride": [
            rule("call", vec![of_type("m.call.invite")], audible("ring")),
            rule("encrypted_room_one_to_one", vec![two.clone(), of_type("m.room.encrypted")], audible("default")),
            rule("room_one_to_one", vec![two, of_type("m.room.message")], audible("default")),
            rule("message", vec![of_type("m.room.message")], vec![notify.clone()]),
            rule("encrypted", vec![of_type("m.room.encrypted")], vec![notify]),
        ],
    })
}

#[tokio::test]
async fn everybody_begins_with_the_specification_s_rules() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let all = read(&rig, &alice, "pushrules/").await;
    let global = &all["global"];
    assert_eq!(*global, predefined());
    assert_eq!(read(&rig, &alice, "pushrules/global/").await, *global);
    let first = sync(&rig, &alice, "").await;
    let data = json!([{"type": "m.push_rules", "content": all}]);
    assert_eq!(first["account_data"]["events"], data);
    let path = "user/@alice:example.org/account_data/m.push_rules";
    assert_eq!(read(&rig, &alice, path).await, all);
    let refused = rig.send_as(&alice, "PUT", &format!("/_matrix/client/v3/{path}"), all).await;
    assert_eq!(refused.error(), (405, "M_BAD_JSON"), "they are set one by one");
}

#[tokio::test]
async fn rules_are_added_ordered_changed_and_removed() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let since = next(&sync(&rig, &alice, "").await);
    let word = |pattern: &str| json!({"pattern": pattern, "actions": ["notify"]});
    for (path, body) in [
        ("content/tea", word("tea")),
        ("content/time", word("time")),
        ("content/cake?after=time", word("cake")),
        ("content/milk?before=tea", word("milk")),
    ] {
        put(&rig, &alice, path, body).await.ok();
    }
    let global = read(&rig, &alice, "pushrules/global/").await;
    let own: Vec<_> = ids(&global["content"]).into_iter().filter(|id| !id.starts_with('.')).collect();
    assert_eq!(own, ["time", "cake", "milk", "tea"], "the newest comes first where nothing else is said");

    put(&rig, &alice, "content/tea/enabled", json!({"enabled": false})).await.ok();
    put(&rig, &alice, "content/tea/actions", json!({"actions": []})).await.ok();
    assert_eq!(read(&rig, &alice, "pushrules/global/content/tea/enabled").await, json!({"enabled": false}));
    assert_eq!(read(&rig, &alice, "pushrules/global/content/tea/actions").await, json!({"actions": []}));
    let rule = json!({"rule_id": "tea", "pattern": "tea", "actions": [], "default": false, "enabled": false});
    assert_eq!(read(&rig, &alice, "pushrules/global/content/tea").await, rule);
    put(&rig, &alice, "content/tea?before=time", word("tea pot")).await.ok();
    let global = read(&rig, &alice, "pushrules/global/").await;
    assert_eq!(ids(&global["content"])[0], "tea");
    assert_eq!(global["content"][0]["enabled"], false, "a rule that is set again is as disabled as it was");

    put(&rig, &alice, "override/.m.rule.master/enabled", json!({"enabled": true})).await.ok();
    put(&rig, &alice, "underride/.m.rule.message/actions", json!({"actions": []})).await.ok();
    delete(&rig, &alice, "content/tea").await.ok();
    assert_eq!(delete(&rig, &alice, "content/tea").await.error(), (404, "M_NOT_FOUND"));
    let news = sync(&rig, &alice, &format!("since={since}")).await;
    let all = read(&rig, &alice, "pushrules/").await;
    assert_eq!(news["account_data"]["events"], json!([{"type": "m.push_rules", "content": all}]));
    assert_eq!(all["global"]["override"][0]["enabled"], true);
}

#[tokio::test]
async fn what_can_t_be_a_rule_is_refused() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let word = json!({"pattern": "x", "actions": ["notify"]});
    for (path, body, error) in [
        ("content/.mine", &word, (400, "M_INVALID_PARAM")),
        ("content/x?after=.m.rule.x", &word, (400, "M_INVALID_PARAM")),
        ("content/x?after=nothing", &word, (400, "M_UNKNOWN")),
        ("content/x?before=nothing", &word, (400, "M_UNKNOWN")),
        ("content/x%2Fy", &word, (400, "M_INVALID_PARAM")),
        ("content/x%5Cy", &word, (400, "M_INVALID_PARAM")),
        ("room/x", &word, (400, "M_INVALID_PARAM")),
        ("sender/x", &word, (400, "M_INVALID_PARAM")),
        ("nonsense/x", &word, (400, "M_INVALID_PARAM")),
        ("content/x", &json!({"actions": ["notify"]}), (400, "M_BAD_JSON")),
        ("content/x/enabled", &json!({"enabled": true}), (404, "M_NOT_FOUND")),
        ("content/x/actions", &json!({"actions": []}), (404, "M_NOT_FOUND")),
        ("override/x", &json!({"actions": 7, "conditions": []}), (400, "M_BAD_JSON")),
    ] {
        assert_eq!(put(&rig, &alice, path, body.clone()).await.error(), error, "{path}");
    }
    assert_eq!(delete(&rig, &alice, "override/.m.rule.master").await.error(), (400, "M_INVALID_PARAM"));
    let large = json!({"pattern": "x".repeat(65_000), "actions": ["notify"]});
    assert_eq!(put(&rig, &alice, "content/x", large).await.error(), (413, "M_TOO_LARGE"));
}
