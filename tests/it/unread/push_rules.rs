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

const OVERRIDE: [&str; 9] = [
    ".m.rule.master",
    ".m.rule.suppress_notices",
    ".m.rule.invite_for_me",
    ".m.rule.member_event",
    ".m.rule.is_user_mention",
    ".m.rule.is_room_mention",
    ".m.rule.tombstone",
    ".m.rule.reaction",
    ".m.rule.room.server_acl",
];

#[tokio::test]
async fn everybody_begins_with_the_specification_s_rules() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let all = read(&rig, &alice, "pushrules/").await;
    let global = &all["global"];
    let overrides = ids(&global["override"]);
    for id in OVERRIDE {
        assert!(overrides.contains(&id), "{id}");
    }
    assert_eq!(overrides[0], ".m.rule.master");
    assert_eq!(global["override"][0]["enabled"], false);
    for id in [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ] {
        assert!(ids(&global["underride"]).contains(&id), "{id}");
    }
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
        ("content/x?after=nothing", &word, (404, "M_NOT_FOUND")),
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
