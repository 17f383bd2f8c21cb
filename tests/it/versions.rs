//! What the server says that it can do. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    rig::Rig,
    rooms::{create, relating, say},
};

#[tokio::test]
async fn every_feature_that_is_told_is_there() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let event = say(&rig, &alice, &room, "one", "t1").await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t2");
    rig.send_as(&alice, "PUT", &path, relating("m.thread", &event, "two")).await.ok();
    let (client, user) = ("/_matrix/client", "@alice:example.org");
    let (v1, unstable) = (format!("{client}/v1"), format!("{client}/unstable"));
    let (rooms, receipt) =
        (format!("rooms/{room}"), format!("{client}/v3/rooms/{room}/receipt/m.read.private/{event}"));
    let redaction = format!("{client}/v3/{rooms}/send/m.room.redaction/t3");
    let cases = [
        ("org.matrix.msc2285.stable", "POST", receipt.clone(), json!({}), 200),
        ("org.matrix.msc3771", "POST", receipt, json!({"thread_id": "main"}), 200),
        (
            "org.matrix.msc2432",
            "GET",
            format!("{unstable}/org.matrix.msc2432/{rooms}/aliases"),
            json!(null),
            200,
        ),
        (
            "org.matrix.msc3030",
            "GET",
            format!("{unstable}/org.matrix.msc3030/{rooms}/timestamp_to_event?ts=0&dir=f"),
            json!(null),
            200,
        ),
        (
            "org.matrix.msc3440.stable",
            "GET",
            format!("{v1}/{rooms}/relations/{event}/m.thread"),
            json!(null),
            200,
        ),
        (
            "org.matrix.msc3715.stable",
            "GET",
            format!("{v1}/{rooms}/relations/{event}?dir=f"),
            json!(null),
            200,
        ),
        (
            "org.matrix.msc3856",
            "GET",
            format!("{unstable}/org.matrix.msc3856/{rooms}/threads"),
            json!(null),
            200,
        ),
        ("org.matrix.msc3856.stable", "GET", format!("{v1}/{rooms}/threads"), json!(null), 200),
        (
            "org.matrix.msc3916",
            "GET",
            format!("{unstable}/org.matrix.msc3916/media/config"),
            json!(null),
            200,
        ),
        ("org.matrix.msc3916.stable", "GET", format!("{v1}/media/config"), json!(null), 200),
        (
            "fi.mau.msc2246",
            "POST",
            "/_matrix/media/unstable/fi.mau.msc2246/create".to_owned(),
            json!({}),
            200,
        ),
        ("fi.mau.msc2246.stable", "POST", "/_matrix/media/v1/create".to_owned(), json!({}), 200),
        (
            "uk.half-shot.msc2666.query_mutual_rooms",
            "GET",
            format!("{unstable}/uk.half-shot.msc2666/user/mutual_rooms?user_id=@bob:example.org"),
            json!(null),
            200,
        ),
        (
            "uk.half-shot.msc2666.query_mutual_rooms.stable",
            "GET",
            format!("{v1}/mutual_rooms?user_id=@bob:example.org"),
            json!(null),
            200,
        ),
        (
            "uk.tcpip.msc4133",
            "PUT",
            format!("{unstable}/uk.tcpip.msc4133/profile/{user}/m.tz"),
            json!({"m.tz": "Europe/Berlin"}),
            200,
        ),
        (
            "uk.tcpip.msc4133.stable",
            "PUT",
            format!("{client}/v3/profile/{user}/m.tz"),
            json!({"m.tz": "Europe/Berlin"}),
            200,
        ),
        // She is no administrator.
        (
            "uk.timedout.msc4323",
            "GET",
            format!("{unstable}/uk.timedout.msc4323/admin/lock/{user}"),
            json!(null),
            403,
        ),
        ("uk.timedout.msc4323.stable", "GET", format!("{v1}/admin/lock/{user}"), json!(null), 403),
        (
            "org.matrix.msc4140",
            "GET",
            format!("{unstable}/org.matrix.msc4140/delayed_events"),
            json!(null),
            200,
        ),
        ("org.matrix.msc4140.stable", "GET", format!("{v1}/delayed_events/x"), json!(null), 404),
        (
            "org.matrix.msc4143",
            "GET",
            format!("{unstable}/org.matrix.msc4143/rtc/transports"),
            json!(null),
            200,
        ),
        (
            "org.matrix.simplified_msc3575",
            "POST",
            format!("{unstable}/org.matrix.simplified_msc3575/sync"),
            json!({}),
            200,
        ),
        ("org.matrix.msc4108", "POST", format!("{unstable}/org.matrix.msc4108/rendezvous"), json!({}), 400),
        (
            "org.matrix.msc4155",
            "PUT",
            format!("{client}/v3/user/{user}/account_data/org.matrix.msc4155.invite_permission_config"),
            json!({"blocked_servers": []}),
            200,
        ),
        (
            "org.matrix.msc4306",
            "PUT",
            format!("{unstable}/io.element.msc4306/{rooms}/thread/{event}/subscription"),
            json!({}),
            200,
        ),
        (
            "org.matrix.msc4308",
            "GET",
            format!("{unstable}/io.element.msc4308/thread_subscriptions?dir=b"),
            json!(null),
            200,
        ),
        ("com.beeper.msc4169", "PUT", redaction, json!({"redacts": event}), 200),
    ];
    let told = rig.get("/_matrix/client/versions").await.ok()["unstable_features"].clone();
    let told = told.as_object().unwrap();
    assert!(told.values().all(|there| *there == json!(true)));
    let names: BTreeSet<&str> = cases.iter().map(|(feature, ..)| *feature).collect();
    assert_eq!(told.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for (feature, method, path, body, status) in cases {
        let reply = rig.send_as(&alice, method, &path, body).await;
        assert_eq!(reply.status, status, "{feature}: {path}: {}", reply.body);
    }
    let gone =
        rig.send_as(&alice, "GET", &format!("{client}/v3/{rooms}/event/{event}"), Value::Null).await.ok();
    assert_eq!(gone["content"], json!({}), "a redaction may be sent like any event");
}
