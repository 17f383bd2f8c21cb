//! People, names and directories of other servers, as this server's users ask for them.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use serde_json::{Value, json};

use super::pair::ask;
use crate::{
    network::Network,
    rig::{Member, Reply, Rig},
    rooms::{create, encoded},
};

const ONE: &str = "one.example:1";
const TWO: &str = "two.example:1";

/// Two servers, and somebody of the second.
async fn story() -> (Network, Rig, Rig, Member) {
    let network = Network::default();
    let (one, two) = (network.start(ONE, |_| {}).await, network.start(TWO, |_| {}).await);
    let bob = two.register("bob").await;
    (network, one, two, bob)
}

// RULES R51
#[tokio::test]
async fn a_profile_is_asked_of_the_users_server() {
    let (network, one, two, bob) = story().await;
    let profile = format!("/_matrix/client/v3/profile/{}", bob.user_id);
    for (field, value) in [("displayname", json!("Bob")), ("org.example.tea", json!({"kind": "green"}))] {
        two.send_as(&bob, "PUT", &format!("{profile}/{field}"), json!({field: value})).await.ok();
    }
    let whole = json!({"displayname": "Bob", "org.example.tea": {"kind": "green"}});
    assert_eq!(one.get(&profile).await.ok(), whole);
    assert_eq!(one.get(&format!("{profile}/displayname")).await.ok(), json!({"displayname": "Bob"}));
    for path in [format!("{profile}/avatar_url"), format!("/_matrix/client/v3/profile/@dan:{TWO}")] {
        assert_eq!(one.get(&path).await.error(), (404, "M_NOT_FOUND"), "{path}");
    }
    // Nobody is asked for one's own.
    one.get("/_matrix/client/v3/profile/@bob:one.example:1").await;
    assert!(network.asked("/query/").iter().all(|asked| asked.of == TWO));
    network.cut(TWO);
    for path in [&profile, &format!("{profile}/displayname")] {
        assert_eq!(one.get(path).await.error(), (502, "M_UNKNOWN"));
    }
}

#[tokio::test]
async fn an_alias_is_asked_of_the_server_that_gave_it() {
    let (network, one, two, bob) = story().await;
    let room = create(&two, &bob, json!({"room_alias_name": "tea"})).await;
    let alias =
        async |name: &str| one.get(&format!("/_matrix/client/v3/directory/room/{}", encoded(name))).await;
    assert_eq!(alias("#tea:two.example:1").await.ok(), json!({"room_id": room, "servers": [TWO]}));
    assert_eq!(alias("#coffee:two.example:1").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alias("#tea:one.example:1").await.error(), (404, "M_NOT_FOUND"));
    network.cut(TWO);
    assert_eq!(alias("#tea:two.example:1").await.error(), (502, "M_UNKNOWN"));
}

#[tokio::test]
async fn a_directory_is_asked_of_its_server() {
    let (network, one, two, bob) = story().await;
    let anna = one.register("anna").await;
    for name in ["Green tea", "Black tea", "Coffee"] {
        create(&two, &bob, json!({"name": name, "visibility": "public"})).await;
    }
    let read = async |method: &str, server: &str, query: &str, body: Value| -> Reply {
        let path = format!("/_matrix/client/v3/publicRooms?server={server}{query}");
        one.send_as(&anna, method, &path, body).await
    };
    let names = |page: &Value| -> Vec<String> {
        let rooms = page["chunk"].as_array().unwrap().iter();
        rooms.map(|room| room["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = read("GET", TWO, "&limit=2", Value::Null).await.ok();
    let second = read("GET", TWO, &format!("&since={}", first["next_batch"].as_str().unwrap()), Value::Null)
        .await
        .ok();
    let mut all = names(&first);
    assert_eq!((all.len(), &first["total_room_count_estimate"]), (2, &json!(3)));
    all.extend(names(&second));
    all.sort();
    assert_eq!(all, ["Black tea", "Coffee", "Green tea"]);
    let found = read("POST", TWO, "", json!({"filter": {"generic_search_term": "green"}})).await.ok();
    assert_eq!(names(&found), ["Green tea"]);
    assert!(names(&read("GET", ONE, "", Value::Null).await.ok()).is_empty());
    let token = json!({"since": "x"});
    assert_eq!(read("POST", TWO, "", token).await.error(), (400, "M_INVALID_PARAM"));
    network.cut(TWO);
    assert_eq!(read("GET", TWO, "", Value::Null).await.error(), (502, "M_UNKNOWN"));
    assert_eq!(read("POST", TWO, "", json!({})).await.error(), (502, "M_UNKNOWN"));
}

/// <https://spec.matrix.org/v1.19/server-server-api/#unsupported-endpoints>
#[tokio::test]
async fn a_query_of_an_unknown_type_is_refused_to_whoever_proves_it() {
    let (_network, one, two, _) = story().await;
    let path = "/_matrix/federation/v1/query/tea?kind=green";
    assert_eq!(two.get(path).await.error(), (401, "M_UNAUTHORIZED"));
    assert_eq!(ask(&one, &two, "GET", path, Value::Null).await.error(), (404, "M_UNRECOGNIZED"));
    assert_eq!(ask(&one, &two, "PUT", path, json!({})).await.error(), (405, "M_UNRECOGNIZED"));
}
