//! What an app does that a push woke up: it learns no more than where something happened, and fetches it.

use std::sync::Arc;

use anyhow::Result;
use matrix_sdk::ruma::{
    api::client::push::{PusherIds, PusherInit, PusherKind},
    assign,
    events::{AnySyncMessageLikeEvent, AnySyncTimelineEvent, SyncMessageLikeEvent},
    push::{HttpPusherData, PushFormat},
};
use matrix_sdk_ui::notification_client::{
    NotificationClient, NotificationEvent, NotificationProcessSetup, NotificationStatus,
};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

/// Has pushes sent to a gateway.
pub async fn set_pusher(device: &Device, with: &With) -> Result<()> {
    let gateway = HttpPusherData::new(with.text("url")?);
    let pusher = PusherInit {
        ids: PusherIds::new("a phone".to_owned(), "io.element.elementx".to_owned()),
        kind: PusherKind::Http(assign!(gateway, { format: Some(PushFormat::EventIdOnly) })),
        app_display_name: "Element X".to_owned(),
        device_display_name: "a phone".to_owned(),
        profile_tag: None,
        lang: "en".to_owned(),
    };
    Ok(device.client.pusher().set(pusher.into(), false).await?)
}

/// Fetches what a push told of, as the one process does that an app has on Android.
pub async fn fetch(device: &Device, with: &With) -> Result<Value> {
    let setup = NotificationProcessSetup::SingleProcess { sync_service: Arc::clone(&device.sync) };
    let client = NotificationClient::new(device.client.clone(), setup).await?;
    let found = client.get_notification(&with.room()?, &with.event()?).await?;
    let NotificationStatus::Event(item) = found else { return Ok(json!({"status": format!("{found:?}")})) };
    let body = match &item.event {
        NotificationEvent::Timeline(event) => body(event),
        NotificationEvent::Invite(_) => None,
    };
    Ok(json!({
        "status": "Event",
        "invite": matches!(item.event, NotificationEvent::Invite(_)),
        "body": body,
        "sender": item.event.sender(),
        "sender_name": item.sender_display_name,
        "room_name": item.room_computed_display_name,
        "encrypted": item.is_room_encrypted,
        "noisy": item.is_noisy,
        "mention": item.has_mention,
    }))
}

/// The text of a message that could be read.
fn body(event: &AnySyncTimelineEvent) -> Option<&str> {
    match event {
        AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(
            SyncMessageLikeEvent::Original(message),
        )) => Some(message.content.body()),
        _ => None,
    }
}
