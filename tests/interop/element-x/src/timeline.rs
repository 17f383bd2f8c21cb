//! Open rooms.

use std::sync::Arc;

use anyhow::{Context, Result};
use matrix_sdk::{
    room::edit::EditedContent,
    ruma::{
        RoomId,
        api::client::receipt::create_receipt::v3::ReceiptType,
        events::room::message::{RoomMessageEventContent, RoomMessageEventContentWithoutRelation},
    },
};
use matrix_sdk_ui::timeline::{EventTimelineItem, RoomExt, Timeline, TimelineEventItemId};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

/// Opens a room: its timeline is followed, and the server is told that the room is looked at.
pub async fn open(device: &Device, with: &With) -> Result<()> {
    let room = with.room()?;
    let timeline = device.room(&room)?.timeline().await?;
    let mut timelines = device.timelines.lock().await;
    timelines.insert(room, Arc::new(timeline));
    let open: Vec<&RoomId> = timelines.keys().map(AsRef::as_ref).collect();
    device.sync.room_list_service().subscribe_to_rooms(&open).await;
    Ok(())
}

async fn timeline(device: &Device, with: &With) -> Result<Arc<Timeline>> {
    let room = with.room()?;
    device.timelines.lock().await.get(&room).cloned().with_context(|| format!("{room} is not open"))
}

/// All messages of the timeline, the oldest first.
pub async fn messages(device: &Device, with: &With) -> Result<Value> {
    let items = timeline(device, with).await?.items().await;
    Ok(items.iter().filter_map(|item| item.as_event()).filter_map(show).collect())
}

/// A message, also one that could not be decrypted or was redacted.
fn show(item: &EventTimelineItem) -> Option<Value> {
    let content = item.content();
    let failed = content.is_unable_to_decrypt();
    if !content.is_message() && !failed && !content.is_redacted() {
        return None;
    }
    let message = content.as_message();
    let reactions = content.reactions().into_iter().flat_map(|reactions| reactions.iter());
    let reactions = reactions.map(|(key, senders)| (key.clone(), json!(senders.len())));
    Some(json!({
        "event_id": item.event_id().filter(|_| item.is_remote_event()),
        "sender": item.sender(),
        "body": message.map(|message| message.body()),
        "edited": message.is_some_and(|message| message.is_edited()),
        "encrypted": item.encryption_info().is_some(),
        "failed": failed,
        "redacted": content.is_redacted(),
        "reactions": reactions.collect::<serde_json::Map<_, _>>(),
        "in_reply_to": content.in_reply_to().map(|other| other.event_id),
        "thread": content.thread_root(),
        "read_by": item.read_receipts().keys().collect::<Vec<_>>(),
    }))
}

/// Loads older messages, and says whether there are no more.
pub async fn back(device: &Device, with: &With) -> Result<Value> {
    Ok(timeline(device, with).await?.paginate_backwards(with.get("count")?).await?.into())
}

/// Sends a message once the server can be reached.
pub async fn send(device: &Device, with: &With) -> Result<()> {
    let content = RoomMessageEventContent::text_plain(with.text("body")?);
    timeline(device, with).await?.send(content.into()).await?;
    Ok(())
}

pub async fn reply(device: &Device, with: &With) -> Result<()> {
    Ok(timeline(device, with).await?.send_reply(text(with)?, with.event()?).await?)
}

pub async fn edit(device: &Device, with: &With) -> Result<()> {
    let content = EditedContent::RoomMessage(text(with)?);
    Ok(timeline(device, with).await?.edit(&item(with)?, content).await?)
}

pub async fn react(device: &Device, with: &With) -> Result<()> {
    timeline(device, with).await?.toggle_reaction(&item(with)?, &with.text("key")?).await?;
    Ok(())
}

pub async fn redact(device: &Device, with: &With) -> Result<()> {
    Ok(timeline(device, with).await?.redact(&item(with)?, None).await?)
}

/// Reads all that is there.
pub async fn read(device: &Device, with: &With) -> Result<()> {
    timeline(device, with).await?.mark_as_read(ReceiptType::Read).await?;
    Ok(())
}

fn text(with: &With) -> Result<RoomMessageEventContentWithoutRelation> {
    Ok(RoomMessageEventContentWithoutRelation::text_plain(with.text("body")?))
}

fn item(with: &With) -> Result<TimelineEventItemId> {
    Ok(TimelineEventItemId::EventId(with.event()?))
}
