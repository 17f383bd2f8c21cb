//! Telling the operator of what is inappropriate.
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    service::operator::{self, Command, Outcome, UserReport},
};

use super::{act, create, ignore, say};
use crate::rig::Rig;

/// What the operator is shown.
async fn reports(rig: &Rig, after: u64) -> Vec<UserReport> {
    match operator::run(&rig.app, Command::ListReports { after }).await.unwrap() {
        Outcome::Reports { reports } => reports,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_operator_is_told_of_events_rooms_and_users() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    let event = say(&rig, &alice, &room, "rude", "t1").await;
    let report = async |path: &str, body: Value| {
        rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/{path}/report"), body).await
    };
    let of_event = async |event: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/report/{event}");
        rig.send_as(&bob, "POST", &path, json!({"reason": "rude", "score": -100})).await
    };
    let not_found = (404, "M_NOT_FOUND");

    // Nobody need be in a room to report it, but to report what was said there.
    assert_eq!(of_event(&event).await.error(), not_found);
    let of_room = report(&format!("rooms/{room}"), json!({"reason": "bad\nroom"})).await;
    assert_eq!(of_room.ok(), json!({}));
    act(&rig, &bob, &room, "join", json!({})).await;
    ignore(&rig, &bob, &[&alice]).await;
    assert_eq!(of_event(&event).await.ok(), json!({}), "also who is ignored is reported");
    act(&rig, &bob, &room, "leave", json!({})).await;
    assert_eq!(of_event(&event).await.error(), not_found, "no more");
    assert_eq!(report(&format!("users/{}", alice.user_id), json!({"reason": ""})).await.ok(), json!({}));
    for (path, body, error) in [
        ("rooms/!unknown:example.org", json!({"reason": "x"}), not_found),
        ("users/@unknown:example.org", json!({"reason": "x"}), not_found),
        ("users/@unknown:elsewhere.example", json!({"reason": "x"}), not_found),
        ("users/@alice:example.org", json!({}), (400, "M_BAD_JSON")),
        ("users/alice", json!({"reason": "x"}), (400, "M_INVALID_PARAM")),
    ] {
        assert_eq!(report(path, body).await.error(), error, "{path}");
    }
    act(&rig, &bob, &room, "join", json!({})).await;
    assert_eq!(of_event("$unknown").await.error(), not_found);

    let told: Vec<_> = reports(&rig, 0)
        .await
        .into_iter()
        .map(|report| {
            assert_eq!((report.by, report.at), (bob.user_id.clone(), 1_800_000_000_000));
            (report.room_id, report.event_id, report.user_id, report.reason)
        })
        .collect();
    let (room, event, user) = (Some(room.clone()), Some(event.clone()), Some(alice.user_id.clone()));
    let expected = [
        (room.clone(), None, None, "bad\nroom".to_owned()),
        (room, event, user.clone(), "rude".to_owned()),
        (None, None, user, String::new()),
    ];
    assert_eq!(told, expected);

    let second = reports(&rig, 0).await[1].number;
    assert_eq!(reports(&rig, second).await.len(), 1);
    operator::run(&rig.app, Command::DeleteReport { number: second }).await.unwrap();
    assert!(operator::run(&rig.app, Command::DeleteReport { number: second }).await.is_err());
    assert_eq!(reports(&rig, 0).await.len(), 2);
}

#[tokio::test]
async fn who_reports_a_lot_crowds_out_only_themselves() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let path = "/_matrix/client/v3/users/@alice:example.org/report";
    rig.send_as(&alice, "POST", path, json!({"reason": "myself"})).await.ok();
    let long = "ä".repeat(limits::REPORT_BYTES);
    for _ in 0..=limits::REPORTS {
        rig.send_as(&bob, "POST", path, json!({ "reason": long })).await.ok();
    }
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = reports(&rig, after).await;
        let Some(last) = page.last() else { break };
        after = last.number;
        all.extend(page);
    }
    assert_eq!(all.len(), limits::REPORTS + 1);
    assert_eq!((&*all[0].reason, all[0].number), ("myself", 1));
    assert!(all[1..].iter().all(|report| report.number > 2 && report.reason.len() <= limits::REPORT_BYTES));
}
