//! Rooms as the list and their header show them.

use anyhow::{Context, Result};
use matrix_sdk::ruma::{
    OwnedUserId,
    api::client::room::create_room::v3::{CreationContent, Request, RoomPreset},
    assign,
    events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    room::RoomType,
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

/// What the device knows of a room; `null` if nothing.
pub async fn show(device: &Device, with: &With) -> Result<Value> {
    let Some(room) = device.client.get_room(&with.room()?) else { return Ok(Value::Null) };
    let server = room.unread_notification_counts();
    Ok(json!({
        "name": room.display_name().await?.to_string(),
        "membership": format!("{:?}", room.state()),
        "encrypted": room.encryption_state().is_encrypted(),
        "direct": room.is_direct().await?,
        "joined": room.joined_members_count(),
        "unread": room.num_unread_messages(),
        "notifications": room.num_unread_notifications(),
        "mentions": room.num_unread_mentions(),
        "counted": {"notifications": server.notification_count, "highlights": server.highlight_count},
        "in_call": room.active_room_call_participants(),
    }))
}

/// Creates a room, a space, or the room for two.
pub async fn create(device: &Device, with: &With) -> Result<Value> {
    let invite = with.get::<Option<Vec<OwnedUserId>>>("invite")?.unwrap_or_default();
    let room =
        if with.flag("direct")? {
            device.client.create_dm(invite.first().context("nobody is invited")?).await?
        } else {
            let encryption = InitialStateEvent::with_empty_state_key(
                RoomEncryptionEventContent::with_recommended_defaults(),
            );
            let kind = with.flag("space")?.then_some(RoomType::Space);
            let content = assign!(CreationContent::new(), { room_type: kind });
            device.client.create_room(assign!(Request::new(), {
            name: with.get("name")?,
            invite,
            preset: Some(RoomPreset::PrivateChat),
            creation_content: Some(Raw::new(&content)?),
            initial_state: with.flag("encrypted")?.then(|| encryption.to_raw_any()).into_iter().collect(),
        })).await?
        };
    Ok(room.room_id().as_str().into())
}

pub async fn join(device: &Device, with: &With) -> Result<()> {
    Ok(device.room(&with.room()?)?.join().await?)
}
