//! Messages to a device that never syncs.

use tayberry::base::limits;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_a_device_that_never_syncs() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 1], "mallory").await;
    let sleeper = site.register([127, 0, 1, 2], "sleeper").await;
    let send = |number: usize| {
        let (mallory, sleeper) = (mallory.clone(), sleeper.clone());
        async move {
            let content = json!({"number": number, "text": "x".repeat(MESSAGE_BYTES)});
            let body = json!({"messages": {sleeper.user_id: {sleeper.device_id: content}}});
            let path = format!("/sendToDevice/org.example/{number}");
            site.ask([127, 0, 1, 1], "PUT", &path, Some(&mallory), body).await
        }
    };
    for reply in flooded.through(all(16, (0..MESSAGES).map(send))).await {
        reply.ok();
    }
    let last = send(MESSAGES).await;
    last.ok();

    // The oldest gave way, the others come in the order in which they were sent, as many at once as they should.
    let (mut numbers, mut since) = (Vec::new(), String::new());
    loop {
        let path = format!("/sync{since}");
        let synced = site.ask([127, 0, 1, 2], "GET", &path, Some(&sleeper), Value::Null).await.ok();
        let Some(events) = synced["to_device"]["events"].as_array() else { break };
        assert!(events.len() <= limits::TO_DEVICE_MESSAGES);
        numbers.extend(events.iter().map(|event| event["content"]["number"].as_u64().unwrap()));
        since = format!("?since={}", synced["next_batch"].as_str().unwrap());
    }
    let kept = limits::TO_DEVICE_QUEUE_BYTES / (MESSAGE_BYTES + 1_000);
    assert!(numbers.len() >= kept && numbers.len() < MESSAGES, "{} messages", numbers.len());
    assert_eq!(numbers.last(), Some(&(MESSAGES as u64)));
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.len() >= kept, "each is told once");
    flooded.end();
}

const MESSAGES: usize = 3_000;
const MESSAGE_BYTES: usize = 4_000;
