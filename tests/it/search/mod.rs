//! Looking for what was said. <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

mod bounds;
mod found;
mod index;
mod pages;
mod seen;

use serde_json::{Value, json};

use crate::rig::{Member, Reply, Rig};

/// Searches by these criteria, as `room_events`.
async fn ask(rig: &Rig, who: &Member, criteria: &Value, next: Option<&str>) -> Reply {
    let query = next.map(|next| format!("?next_batch={next}")).unwrap_or_default();
    let body = json!({"search_categories": {"room_events": criteria}});
    rig.send_as(who, "POST", &format!("/_matrix/client/v3/search{query}"), body).await
}

/// The same, which must be answered.
async fn find(rig: &Rig, who: &Member, criteria: &Value, next: Option<&str>) -> Value {
    ask(rig, who, criteria, next).await.ok()["search_categories"]["room_events"].clone()
}

/// The texts of the events that have a term, the newest first.
async fn texts(rig: &Rig, who: &Member, term: &str) -> Vec<String> {
    bodies(&find(rig, who, &json!({"search_term": term, "order_by": "recent"}), None).await)
}

/// What the found events say.
fn bodies(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().unwrap();
    let text = |result: &Value| {
        let content = &result["result"]["content"];
        let text = ["body", "name", "topic"].into_iter().find_map(|key| content[key].as_str());
        text.unwrap_or_default().to_owned()
    };
    results.iter().map(text).collect()
}

/// The ids of the found events.
fn ids(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|result| result["result"]["event_id"].as_str().unwrap().to_owned()).collect()
}
