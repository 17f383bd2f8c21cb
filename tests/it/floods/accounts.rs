//! Floods of what hashes passwords, which takes a core and 19 MB each time.

use serde_json::json;
use tayberry::base::limits;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let register = |from: [u8; 4], name: String| async move {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        site.ask(from, "POST", "/register", None, body).await
    };
    let of_one = (0..300).map(|number| register([127, 0, 1, 1], format!("one-{number}")));
    let replies = flooded.through(all(32, of_one)).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert!(made.len() >= limits::ADDRESS_BURST as usize, "{} accounts", made.len());
    assert_refused(&refused, 429, "M_LIMIT_EXCEEDED");
    assert!(refused.iter().all(|reply| reply.body["retry_after_ms"].as_u64().is_some()));

    let of_many = (0..90).map(|number| register([127, 0, 2, number], format!("many-{number}")));
    for reply in flooded.through(all(90, of_many)).await {
        reply.ok();
    }
    flooded.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_ins() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let guess = |from: [u8; 4], user: &'static str, number: usize| async move {
        let identifier = json!({"type": "m.id.user", "user": user});
        let password = format!("guess {number}");
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": password});
        site.ask(from, "POST", "/login", None, body).await
    };
    let of_one = (0..200).map(|number| guess([127, 0, 1, 1], "ben", number));
    let replies = flooded.through(all(32, of_one)).await;
    let (wrong, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 403);
    assert_refused(&wrong, 403, "M_FORBIDDEN");
    assert_refused(&refused, 429, "M_LIMIT_EXCEEDED");
    let users = ["ben", "nobody"].iter().cycle();
    let of_many = (0..90).zip(users).map(|(number, user)| guess([127, 0, 2, number], user, number.into()));
    assert_refused(&flooded.through(all(90, of_many)).await, 403, "M_FORBIDDEN");
    flooded.end();
}
