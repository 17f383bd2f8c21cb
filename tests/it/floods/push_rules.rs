//! Push rules that are slow to match, and events that are slow to match with.

use tayberry::base::limits;

use super::*;

const MALLORY: [u8; 4] = [127, 0, 1, 1];
const TRUDY: [u8; 4] = [127, 0, 1, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn glob_bombs() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let (mallory, trudy) = (site.register(MALLORY, "mallory").await, site.register(TRUDY, "trudy").await);
    let ask = |method: &'static str, path: String, body: Value| {
        let mallory = mallory.clone();
        async move { site.ask(MALLORY, method, &path, Some(&mallory), body).await }
    };
    let room = ask("POST", "/createRoom".to_owned(), json!({"preset": "public_chat"})).await.ok();
    let room = room["room_id"].as_str().unwrap();
    site.ask(TRUDY, "POST", &format!("/rooms/{room}/join"), Some(&trudy), json!({})).await.ok();

    // As many as fit, and in front of them one that takes all steps that an event may take.
    let rule =
        |length: usize| json!({"pattern": format!("{}*c", "*a?".repeat(length / 3)), "actions": ["notify"]});
    let mut number = 0;
    let refused = loop {
        let reply = ask("PUT", format!("/pushrules/global/content/{number}"), rule(900)).await;
        if reply.status != 200 {
            break reply;
        }
        number += 1;
    };
    assert!(number * 900 > limits::PUSH_RULES_BYTES / 10 * 8, "{number} rules");
    assert_refused(&[refused], 413, "M_TOO_LARGE");
    ask("DELETE", "/pushrules/global/content/0".to_owned(), Value::Null).await.ok();
    let bomb = rule(limits::PUSH_RULE_STEPS / BODY_BYTES - 4);
    ask("PUT", "/pushrules/global/content/bomb".to_owned(), bomb).await.ok();

    let messages = if is_whole() { limits::UNREAD_EVENTS } else { 200 };
    let say = |number: usize| {
        let (trudy, path) = (trudy.clone(), format!("/rooms/{room}/send/m.room.message/{number}"));
        let body = json!({"msgtype": "m.text", "body": "a b ".repeat(BODY_BYTES / 4)});
        async move { site.ask(TRUDY, "PUT", &path, Some(&trudy), body).await }
    };
    for reply in flooded.through(all(8, (0..messages).map(say))).await {
        reply.ok();
    }
    let flood = async {
        for _ in 0..2 {
            // With other rules everything is counted anew.
            let more = json!({"actions": ["notify"]});
            ask("PUT", "/pushrules/global/sender/@trudy:a.example".to_owned(), more).await.ok();
            let syncs =
                (0..12).map(|number| {
                    let mallory = mallory.clone();
                    async move {
                        site.ask([127, 0, 2, number % 4], "GET", "/sync", Some(&mallory), Value::Null).await
                    }
                });
            for reply in all(12, syncs).await {
                let counts = &reply.ok()["rooms"]["join"][room]["unread_notifications"];
                let count = counts["notification_count"].as_u64().unwrap() as usize;
                let least = limits::JUDGING_STEPS / limits::PUSH_RULE_STEPS / 2;
                assert!((least..messages).contains(&count), "{count} are counted");
            }
            ask("DELETE", "/pushrules/global/sender/@trudy:a.example".to_owned(), Value::Null).await.ok();
        }
        for reply in all(4, (0..4).map(|_| ask("GET", "/notifications".to_owned(), Value::Null))).await {
            let page = reply.ok();
            assert!(page["next_token"].is_string(), "a page ends before all is judged");
        }
    };
    flooded.through(flood).await;
    flooded.end();
}

const BODY_BYTES: usize = 60_000;
