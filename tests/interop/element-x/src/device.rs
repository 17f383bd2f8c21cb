//! A device that is logged in: it syncs, and keeps what the screens of an app would show.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room,
    ruma::{OwnedRoomId, RoomId, UserId},
};
use matrix_sdk_ui::{
    RoomListService, Timeline,
    eyeball_im::Vector,
    room_list_service::{RoomList, RoomListItem, State, filters::new_filter_non_left},
    spaces::SpaceService,
    sync_service::{self, SyncService},
};
use tokio::sync::Mutex as AsyncMutex;

use crate::call::Call;

/// More rooms than a test makes.
const PAGE: usize = 1_000;

pub struct Device {
    pub client: Client,
    pub sync: Arc<SyncService>,
    pub spaces: SpaceService,
    /// The rooms that are open.
    pub timelines: AsyncMutex<HashMap<OwnedRoomId, Arc<Timeline>>>,
    /// The calls that the device takes part in.
    pub calls: AsyncMutex<HashMap<OwnedRoomId, Call>>,
    list: Arc<Mutex<Vector<RoomListItem>>>,
    compared: Arc<Mutex<Vec<[u16; 3]>>>,
}

impl Device {
    /// Syncs as the app does, until the whole list of rooms is there.
    pub async fn start(client: Client) -> Result<Self> {
        let sync = SyncService::builder(client.clone()).with_offline_mode().build().await?;
        let service = sync.room_list_service();
        let sync = Arc::new(sync);
        let list = Arc::default();
        tokio::spawn(send_again(client.clone(), Arc::clone(&sync)));
        tokio::spawn(follow(service.all_rooms().await?, Arc::clone(&list)));
        sync.start().await;
        settle(&service).await?;
        Ok(Self {
            sync,
            spaces: SpaceService::new(client.clone()).await,
            client,
            timelines: AsyncMutex::default(),
            calls: AsyncMutex::default(),
            list,
            compared: Arc::default(),
        })
    }

    pub fn user_id(&self) -> Result<&UserId> {
        self.client.user_id().context("nobody is logged in")
    }

    pub fn room(&self, room: &RoomId) -> Result<Room> {
        self.client.get_room(room).with_context(|| format!("{room} is unknown"))
    }

    /// The names of the rooms as the list shows them, the newest first.
    pub fn rooms(&self) -> Vec<String> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |room: &RoomListItem| room.cached_display_name().map(|name| name.to_string());
        list.iter().map(|room| name(room).unwrap_or_default()).collect()
    }

    /// What each verification showed to compare, in order.
    pub fn compared(&self) -> Vec<Vec<u16>> {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.iter().map(|numbers| numbers.to_vec()).collect()
    }

    /// Where that is written down.
    pub fn notebook(&self) -> Arc<Mutex<Vec<[u16; 3]>>> {
        self.compared.clone()
    }
}

/// Has what was written while the server was away sent once it is back.
async fn send_again(client: Client, sync: Arc<SyncService>) {
    let mut state = sync.state();
    while let Some(state) = state.next().await {
        if let sync_service::State::Running = state {
            client.send_queue().set_enabled(true).await;
        }
    }
}

/// Keeps the list of rooms as a screen would.
async fn follow(rooms: RoomList, shown: Arc<Mutex<Vector<RoomListItem>>>) {
    let (changes, controller) = rooms.entries_with_dynamic_adapters(PAGE);
    controller.set_filter(Box::new(new_filter_non_left()));
    let mut changes = pin!(changes);
    while let Some(changes) = changes.next().await {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            change.apply(&mut shown);
        }
    }
}

/// Waits until the list grows no more.
async fn settle(service: &RoomListService) -> Result<()> {
    let mut state = service.state();
    while state.get() != State::Running {
        state.next().await.context("the list of rooms ended")?;
    }
    Ok(())
}
