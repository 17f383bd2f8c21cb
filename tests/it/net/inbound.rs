//! What other servers ask this one: whom it believes, and what it tells.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{future::pending, net::SocketAddr, sync::Arc};

use http::HeaderValue;
use ruma::ServerName;
use serde_json::{Value, json};
use tayberry::{
    api,
    base::limits,
    config::Config,
    http::{Bind, Limits, Listener, Server, Settings},
    net::x_matrix::{Signable, sign},
};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{HOUR, Memory, document, pair, public};
use crate::{
    encryption::{Signer, upload},
    rig::{Reply, Rig, try_request},
    rooms::create,
};

/// A server, and another one with a key, which asks it.
pub(crate) struct Asked {
    pub(crate) rig: Rig,
    memory: Memory,
}

impl Asked {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let memory = Memory::default();
        let rig = Rig::through(Arc::new(memory.clone()), configure).await;
        let asked = Self { rig, memory };
        asked.publish();
        asked
    }

    /// Lets the other server tell keys that are good for an hour from now.
    pub(crate) fn publish(&self) {
        let soon = self.rig.app.clock.now().plus(HOUR);
        let old = json!({
            "ed25519:old": {"key": public(3), "expired_ts": 1_000},
            "ed25519:soon": {"key": public(4), "expired_ts": soon.0},
        });
        self.memory.0.lock().unwrap().answer = Some(document("a", 1, soon, old).to_string());
    }

    /// Lets the other server answer nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.memory.0.lock().unwrap().answer = None;
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Reply {
        let header = header(method, path, &body, "example.org", ("a", 1));
        self.rig.send_with(method, path, Some(&header), body).await
    }
}

/// What the other server signs with a key.
fn header(method: &str, uri: &str, body: &Value, to: &str, (version, seed): (&str, u8)) -> String {
    let content = body.to_string();
    let content = Some(content.as_str()).filter(|_| !body.is_null());
    let [from, to] = ["hs.example:1", to].map(|name| ServerName::parse(name).unwrap());
    let header: HeaderValue =
        sign(Signable { method, uri, content }, &from, &to, &pair(version, seed)).unwrap();
    header.to_str().unwrap().to_owned()
}

const QUERY: &str = "/_matrix/federation/v1/user/keys/query";
const ROOMS: &str = "/_matrix/federation/v1/publicRooms";
const PROFILE: &str = "/_matrix/federation/v1/query/profile";

#[tokio::test]
async fn only_what_is_signed_as_a_whole_by_a_good_key_is_answered() {
    let asked = Asked::new().await;
    let body = json!({"device_keys": {"@anna:example.org": []}});
    let good = header("POST", QUERY, &body, "example.org", ("a", 1));
    let without = good.replace("destination=\"example.org\",", "");
    assert_ne!(without, good);
    for header in [&good, &without] {
        asked.rig.send_with("POST", QUERY, Some(header), body.clone()).await.ok();
    }
    let signed = |method, uri, body, to, key| Some(header(method, uri, &body, to, key));
    for (what, header) in [
        ("no header", None),
        ("another scheme", Some("Bearer abc".to_owned())),
        ("half a header", Some("X-Matrix origin=hs.example:1".to_owned())),
        ("method", signed("PUT", QUERY, body.clone(), "example.org", ("a", 1))),
        ("path", signed("POST", PROFILE, body.clone(), "example.org", ("a", 1))),
        ("query", signed("POST", &format!("{QUERY}?a=b"), body.clone(), "example.org", ("a", 1))),
        ("body", signed("POST", QUERY, json!({"device_keys": {}}), "example.org", ("a", 1))),
        ("no body", signed("POST", QUERY, Value::Null, "example.org", ("a", 1))),
        ("destination", signed("POST", QUERY, body.clone(), "example.com", ("a", 1))),
        ("another key by this id", signed("POST", QUERY, body.clone(), "example.org", ("a", 2))),
        ("a key that was given up", signed("POST", QUERY, body.clone(), "example.org", ("old", 3))),
        ("a key that is to be given up", signed("POST", QUERY, body.clone(), "example.org", ("soon", 4))),
        ("an unknown key", signed("POST", QUERY, body.clone(), "example.org", ("b", 1))),
    ] {
        let reply = asked.rig.send_with("POST", QUERY, header.as_deref(), body.clone()).await;
        assert_eq!(reply.error(), (401, "M_UNAUTHORIZED"), "{what}");
    }
    // Nor is anybody once the keys are good no more and can't be had anew.
    asked.rig.advance(HOUR * 2);
    asked.memory.0.lock().unwrap().answer = None;
    let reply = asked.rig.send_with("POST", QUERY, Some(&good), body).await;
    assert_eq!(reply.error(), (401, "M_UNAUTHORIZED"));
}

/// <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
// RULES R24
#[tokio::test]
async fn a_request_is_for_the_servers_name_and_not_for_the_place_where_it_is() {
    const PLACE: &str = "matrix.example.org:443";
    let place = ServerName::parse(PLACE).unwrap();
    let asked = Asked::with(|config| config.well_known.server = Some(place)).await;
    let send = async |header: &str| asked.rig.send_with("GET", ROOMS, Some(header), Value::Null).await;
    let own = header("GET", ROOMS, &Value::Null, "example.org", ("a", 1));
    send(&own).await.ok();
    for to in [PLACE, "matrix.example.org", "example.org:8448", "Example.org"] {
        let signed = header("GET", ROOMS, &Value::Null, to, ("a", 1));
        assert_eq!(send(&signed).await.error(), (401, "M_UNAUTHORIZED"), "{to}");
        // Whether it says so or not, it is signed for another name.
        let silent = signed.replace(&format!("destination=\"{to}\","), "");
        let renamed = signed.replace(&format!("destination=\"{to}\""), "destination=\"example.org\"");
        for header in [silent, renamed] {
            assert_ne!(header, signed);
            assert_eq!(send(&header).await.error(), (401, "M_UNAUTHORIZED"), "{header}");
        }
        // And what is signed for this one says in vain that it is for another.
        let said = own.replace("destination=\"example.org\"", &format!("destination=\"{to}\""));
        assert_eq!(send(&said).await.error(), (401, "M_UNAUTHORIZED"), "{said}");
    }
}

#[tokio::test]
async fn nobody_is_asked_for_keys_for_what_is_not_for_this_server() {
    let asked = Asked::new().await;
    let elsewhere = header("GET", PROFILE, &Value::Null, "example.com", ("a", 1));
    let own = elsewhere.replace("hs.example:1", "example.org").replace("example.com", "example.org");
    for header in [elsewhere, own] {
        let reply = asked.rig.send_with("GET", PROFILE, Some(&header), Value::Null).await;
        assert_eq!(reply.error(), (401, "M_UNAUTHORIZED"));
    }
    assert!(asked.memory.0.lock().unwrap().asked.is_empty());
}

/// The same server where it limits how often it is asked.
async fn limited(asked: &Asked) -> (SocketAddr, JoinHandle<()>) {
    let listeners = vec![Listener::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()))];
    let settings = Settings { listeners, rate_limit: true, limits: Limits::default() };
    let server = Server::bind(settings, asked.rig.app.clone(), api::routes()).await.unwrap();
    (server.addresses()[0], tokio::spawn(server.run(pending())))
}

/// Looks into its directory with this proof.
async fn look(address: SocketAddr, header: &str) -> Reply {
    let stream = TcpStream::connect(address).await.unwrap();
    try_request(stream, "GET", ROOMS, Some(header), Value::Null).await.unwrap()
}

#[tokio::test]
async fn who_has_many_servers_asked_has_a_limit() {
    let asked = Asked::new().await;
    let (address, task) = limited(&asked).await;
    let good = header("GET", ROOMS, &Value::Null, "example.org", ("a", 1));
    let send = async |header: &str| look(address, header).await;
    send(&good).await.ok();
    let mut answers = Vec::new();
    for number in 0..limits::ADDRESS_BURST * 2 {
        answers.push(send(&good.replace("hs.example:1", &format!("{number}.example:1"))).await.status);
    }
    let asked_for = asked.memory.0.lock().unwrap().asked.len();
    assert!(asked_for <= limits::ADDRESS_BURST as usize && asked_for > 10, "{asked_for}");
    assert_eq!((answers[0], answers.last()), (401, Some(&429)));
    // Whose key is known is not concerned.
    send(&good).await.ok();
    task.abort();
}

#[tokio::test]
async fn a_server_that_asks_too_often_is_told_to_wait() {
    let asked = Asked::new().await;
    let (address, task) = limited(&asked).await;
    let good = header("GET", ROOMS, &Value::Null, "example.org", ("a", 1));
    let send = async |header: &str| look(address, header).await;
    // What nobody proved is on nobody's account.
    for _ in 0..3 {
        assert_eq!(send(&good.replace("sig=\"", "sig=\"AAAA")).await.status, 401);
    }
    for _ in 0..limits::SERVER_BURST {
        send(&good).await.ok();
    }
    let refused = send(&good).await;
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(refused.body["retry_after_ms"], 20);
    asked.rig.advance(limits::SERVER_INTERVAL);
    send(&good).await.ok();
    task.abort();
}

#[tokio::test]
async fn without_federation_nobody_is_answered_nor_asked() {
    let asked = Asked::with(|config| config.federation.enabled = false).await;
    assert_eq!(asked.ask("GET", PROFILE, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(asked.ask("GET", "/_matrix/federation/v1/nothing", Value::Null).await.status, 404);
    assert!(asked.memory.0.lock().unwrap().asked.is_empty());
}

// RULES R21
#[tokio::test]
async fn rooms_that_others_cannot_join_are_not_told_to_them() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let room = json!({
        "room_alias_name": "tea", "visibility": "public", "creation_content": {"m.federate": false},
    });
    create(&asked.rig, &anna, room).await;
    for (method, body) in [("GET", Value::Null), ("POST", json!({}))] {
        let told = asked.ask(method, "/_matrix/federation/v1/publicRooms", body).await.ok();
        assert_eq!((&told["chunk"], &told["total_room_count_estimate"]), (&json!([]), &json!(0)));
    }
    let path = "/_matrix/federation/v1/query/directory?room_alias=%23tea:example.org";
    assert_eq!(asked.ask("GET", path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let own = asked.rig.get("/_matrix/client/v3/publicRooms").await.ok();
    assert_eq!(own["total_room_count_estimate"], 1);
    asked.rig.get("/_matrix/client/v3/directory/room/%23tea:example.org").await.ok();
}

#[tokio::test]
async fn servers_are_told_of_people_and_aliases() {
    let asked = Asked::new().await;
    let anna = asked.rig.register("anna").await;
    let own = format!("/_matrix/client/v3/profile/{}", anna.user_id);
    for (field, value) in [("displayname", json!("Anna")), ("org.example.tea", json!("green"))] {
        let body = json!({field: value});
        asked.rig.send_as(&anna, "PUT", &format!("{own}/{field}"), body).await.ok();
    }
    let profile = async |query: &str| asked.ask("GET", &format!("{PROFILE}?{query}"), Value::Null).await;
    assert_eq!(
        profile("user_id=@anna:example.org").await.ok(),
        json!({"displayname": "Anna", "org.example.tea": "green"})
    );
    assert_eq!(
        profile("user_id=@anna:example.org&field=displayname").await.ok(),
        json!({"displayname": "Anna"})
    );
    for nobody in ["@ben:example.org", "@anna:hs.example:1"] {
        assert_eq!(profile(&format!("user_id={nobody}")).await.error(), (404, "M_NOT_FOUND"));
    }

    let room =
        create(&asked.rig, &anna, json!({"room_alias_name": "tea", "visibility": "public", "name": "Tea"}))
            .await;
    let directory = async |alias: &str| {
        let path = format!("/_matrix/federation/v1/query/directory?room_alias=%23{alias}:example.org");
        asked.ask("GET", &path, Value::Null).await
    };
    assert_eq!(directory("tea").await.ok(), json!({"room_id": room, "servers": ["example.org"]}));
    assert_eq!(directory("coffee").await.error(), (404, "M_NOT_FOUND"));

    let public_rooms = "/_matrix/federation/v1/publicRooms";
    for (method, path, body, found) in [
        ("GET", format!("{public_rooms}?limit=5"), Value::Null, true),
        ("POST", public_rooms.to_owned(), json!({"filter": {"generic_search_term": "tea"}}), true),
        ("POST", public_rooms.to_owned(), json!({"filter": {"generic_search_term": "coffee"}}), false),
    ] {
        let told = asked.ask(method, &path, body).await.ok();
        let rooms: Vec<_> =
            told["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].clone()).collect();
        assert_eq!(rooms, if found { vec![json!(room)] } else { vec![] }, "{method} {path}");
        assert_eq!(told["total_room_count_estimate"], 1);
    }
}

#[tokio::test]
async fn servers_are_told_and_given_keys_of_this_servers_users_only() {
    let asked = Asked::new().await;
    let anna = Signer::register(&asked.rig, "anna").await;
    let (user, device) = (&anna.member.user_id, &anna.member.device_id);
    let keys = json!({
        "signed_curve25519:AAAAAQ": anna.one_time_key("first"),
        "signed_curve25519:AAAAAg": anna.one_time_key("second"),
    });
    upload(&asked.rig, &anna.member, json!({"one_time_keys": keys})).await.ok();
    let told = asked.ask("POST", QUERY, json!({"device_keys": {user: [], "@x:hs.example:1": []}})).await.ok();
    let mut expected = anna.device_keys();
    let mut found = told["device_keys"][user][device].clone();
    for object in [&mut expected, &mut found] {
        object.as_object_mut().unwrap().remove("unsigned");
    }
    assert_eq!(found, expected);
    // How somebody calls a device is for those who know them.
    let path = format!("/_matrix/client/v3/devices/{device}");
    asked.rig.send_as(&anna.member, "PUT", &path, json!({"display_name": "Phone"})).await.ok();
    let own = asked.rig.send_as(
        &anna.member,
        "POST",
        "/_matrix/client/v3/keys/query",
        json!({"device_keys": {user: []}}),
    );
    assert_eq!(own.await.ok()["device_keys"][user][device]["unsigned"]["device_display_name"], "Phone");
    let told = asked.ask("POST", QUERY, json!({"device_keys": {user: []}})).await.ok();
    assert!(!told.to_string().contains("Phone"));
    assert_eq!(told["device_keys"].as_object().unwrap().len(), 1);
    assert!(told.get("user_signing_keys").is_none());

    let devices = async |user: &str| {
        asked.ask("GET", &format!("/_matrix/federation/v1/user/devices/{user}"), Value::Null).await
    };
    let listed = devices(user).await.ok();
    assert_eq!((&listed["user_id"], &listed["devices"][0]["device_id"]), (&json!(user), &json!(device)));
    assert_eq!(listed["devices"][0]["keys"]["keys"], expected["keys"]);
    assert_eq!(listed["devices"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains("Phone"));
    for nobody in ["@ben:example.org", "@x:hs.example:1"] {
        assert_eq!(devices(nobody).await.error(), (404, "M_NOT_FOUND"));
    }
    assert!(listed["stream_id"].as_u64().unwrap() > 0);

    let claim = json!({"one_time_keys": {
        user: {device: "signed_curve25519"},
        "@x:hs.example:1": {"DEVICE": "signed_curve25519"},
    }});
    let mut given = Vec::new();
    for _ in 0..3 {
        let reply = asked.ask("POST", "/_matrix/federation/v1/user/keys/claim", claim.clone()).await.ok();
        let keys = reply["one_time_keys"].as_object().unwrap();
        assert!(!keys.contains_key("@x:hs.example:1"));
        given.extend(keys.get(user).map(|devices| devices[device].clone()));
    }
    // In the order in which they came, each once.
    let expected = ["AAAAAQ", "AAAAAg"].map(|id| {
        let id = format!("signed_curve25519:{id}");
        json!({&id: keys[&id]})
    });
    assert_eq!(given, expected);
}

/// <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>
#[tokio::test]
async fn servers_are_told_where_this_one_is_if_it_is_elsewhere() {
    const PATH: &str = "/.well-known/matrix/server";
    assert_eq!(Rig::start().await.get(PATH).await.error(), (404, "M_NOT_FOUND"));
    let place = ServerName::parse("matrix.example.org:443").unwrap();
    let rig = Rig::with(|config| config.well_known.server = Some(place)).await;
    assert_eq!(rig.get(PATH).await.ok(), json!({"m.server": "matrix.example.org:443"}));
}
