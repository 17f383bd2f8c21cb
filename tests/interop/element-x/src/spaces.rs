//! Spaces, and what is in them.

use anyhow::Result;
use matrix_sdk_ui::spaces::{SpaceRoom, room_list::SpaceRoomListPaginationState as Progress};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

/// The spaces that the user is in and that are in no other.
pub async fn joined(device: &Device) -> Result<Value> {
    let spaces = device.spaces.top_level_joined_spaces().await;
    Ok(spaces.iter().map(show).collect())
}

/// All that the server says is in a space.
pub async fn rooms(device: &Device, with: &With) -> Result<Value> {
    let list = device.spaces.space_room_list(with.room()?).await;
    while !matches!(list.pagination_state(), Progress::Idle { end_reached: true }) {
        list.paginate().await?;
    }
    Ok(list.rooms().await.iter().map(show).collect())
}

pub async fn add(device: &Device, with: &With) -> Result<()> {
    Ok(device.spaces.add_child_to_space(with.get("child")?, with.room()?).await?)
}

fn show(room: &SpaceRoom) -> Value {
    json!({
        "room": room.room_id,
        "name": room.display_name,
        "children": room.children_count,
        "members": room.num_joined_members,
        "membership": room.state.map(|state| format!("{state:?}")),
    })
}
