//! Filters that are slow to match.

use tayberry::base::limits;

use super::*;

const MALLORY: [u8; 4] = [127, 0, 1, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filter_bombs() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register(MALLORY, "mallory").await;
    let ask = |method: &'static str, path: String, body: Value| {
        let mallory = mallory.clone();
        async move { site.ask(MALLORY, method, &path, Some(&mallory), body).await }
    };
    let room = ask("POST", "/createRoom".to_owned(), json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap();
    let events = if is_whole() { limits::WALK_STEPS } else { 200 };
    let kind = "a".repeat(limits::EVENT_FIELD_BYTES);
    let say = |number: usize| ask("PUT", format!("/rooms/{room}/send/{kind}/{number}"), json!({}));
    for reply in flooded.through(all(8, (0..events).map(say))).await {
        reply.ok();
    }

    // One long pattern, and as many short ones as fit; none of them matches.
    let long = vec![format!("{}b*", "*a".repeat(120_000))];
    let short = vec!["*ab*"; 35_000];
    let flood = async {
        for types in [json!(long), json!(short)] {
            let filter = json!({"room": {"timeline": {"limit": 1_000, "types": types}}});
            let filter = ask("POST", format!("/user/{}/filter", mallory.user_id), filter).await.ok();
            let filter = filter["filter_id"].as_str().unwrap();
            let sync = |_| ask("GET", format!("/sync?filter={filter}"), Value::Null);
            for reply in all(12, (0..24).map(sync)).await {
                let told = reply.ok();
                assert!(told["rooms"]["join"][room]["timeline"]["events"].as_array().unwrap().is_empty());
            }
        }
    };
    flooded.through(flood).await;
    flooded.end();
}
