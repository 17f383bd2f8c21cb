//! What a gateway is told. <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use ruma::push::{Action, Tweak};
use serde_json::{Map, Value, json};

use super::news::Told;
use crate::{
    service::notifying::display_name,
    store::{Pusher, StoreError, View},
};

/// The notification of an event, or of nothing but how much is new to the user. A `short` one names the event and says
/// nothing of it.
pub(super) fn written(
    view: &View<'_>,
    pusher: &Pusher,
    told: Option<&mut Told>,
    unread: u64,
    short: bool,
) -> Result<Value, StoreError> {
    let settings = &pusher.settings;
    let data: Value = serde_json::from_str(&settings.data).unwrap_or_default();
    let is_short = short || data["format"] == "event_id_only";
    let mut device = json!({
        "app_id": settings.app_id,
        "pushkey": settings.pushkey,
        "pushkey_ts": pusher.set_at.0 / 1_000,
        "data": data,
    });
    // Zero is not left out: a gateway couldn't tell it from a number that it wasn't told.
    let mut notification = json!({"counts": {"unread": unread}, "prio": "low"});
    if let Some(told) = told {
        let tweaks = tweaks(&told.actions);
        // What is encrypted may be loud.
        let is_loud = tweaks.contains_key("sound")
            || tweaks.get("highlight").is_some_and(|highlight| highlight == true)
            || told.event["type"] == "m.room.encrypted";
        if is_loud {
            notification["prio"] = json!("high");
        }
        notification["event_id"] = json!(told.stored.pdu.event_id());
        notification["room_id"] = json!(told.stored.pdu.room_id());
        device["tweaks"] = tweaks.into();
        if !is_short {
            describe(view, told, &mut notification)?;
        }
    }
    notification["devices"] = json!([device]);
    Ok(json!({"notification": notification}))
}

/// Adds what is in an event and where that is.
fn describe(view: &View<'_>, told: &mut Told, notification: &mut Value) -> Result<(), StoreError> {
    let (room, state) = (told.stored.header.room, told.record.state);
    let named = |kind: &str, field: &str| {
        let number = view.state_event(room, state, kind, "")?;
        let event = number.map(|number| view.event(room, number)).transpose()?;
        let content = event.and_then(|event| event.shown(told.record.version).content_as::<Value>());
        Ok::<_, StoreError>(content.map(|content| content[field].clone()).filter(Value::is_string))
    };
    let sender = told.stored.pdu.sender();
    let fields = [
        ("sender_display_name", display_name(view, (room, &told.record), sender)?.map(Value::from)),
        ("room_name", named("m.room.name", "name")?),
        ("room_alias", named("m.room.canonical_alias", "alias")?),
        ("user_is_target", told.stored.header.membership.map(|_| told.is_subject.into())),
        ("type", Some(told.event["type"].take())),
        ("sender", Some(told.event["sender"].take())),
        ("content", Some(told.event["content"].take())),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            notification[field] = value;
        }
    }
    Ok(())
}

/// How the notification is to be shown, as the rule says.
fn tweaks(actions: &[Action]) -> Map<String, Value> {
    let tweaks = actions.iter().filter_map(|action| match action {
        Action::SetTweak(tweak) => Some((tweak.set_tweak().to_owned(), value(tweak))),
        _ => None,
    });
    tweaks.collect()
}

fn value(tweak: &Tweak) -> Value {
    tweak.value().and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}
