//! An app that looks at a list of rooms by sliding sync, as Element X does.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::person::{Person, Synced};

/// One connection of one device.
pub(crate) struct Phone {
    pub(crate) person: Person,
    pos: Option<String>,
    /// How many rooms of the list it looks at.
    rooms: usize,
}

impl Phone {
    /// One that has asked for nothing yet.
    pub(crate) fn new(person: Person) -> Self {
        Self { person, pos: None, rooms: WINDOW }
    }

    /// Forgets what it was told.
    pub(crate) fn begin_anew(&mut self) {
        (self.pos, self.rooms) = (None, WINDOW);
    }

    /// What there is to tell now.
    pub(crate) async fn look(&mut self) -> Result<Synced> {
        self.ask(0).await
    }

    /// Waits up to two minutes for something new.
    pub(crate) async fn poll(&mut self) -> Result<Synced> {
        self.ask(120_000).await
    }

    /// Looks at the whole list, window by window.
    pub(crate) async fn grow(&mut self) -> Result<()> {
        loop {
            let answer: Value = serde_json::from_slice(&self.look().await?.body)?;
            let count = answer["lists"]["all_rooms"]["count"].as_u64().context("a list without its count")?;
            ensure!(self.pos.is_some(), "the answer has no position");
            if self.rooms >= count as usize {
                // What was told last is acknowledged by the next request.
                return self.look().await.map(drop);
            }
            self.rooms += GROWTH;
        }
    }

    async fn ask(&mut self, timeout_ms: u64) -> Result<Synced> {
        let body = request(self.rooms);
        let synced = self.person.slide(self.pos.as_deref(), timeout_ms, &body).await?;
        self.pos = Some(synced.next_batch.clone());
        Ok(synced)
    }
}

/// What the app's list of rooms wants to know.
fn request(rooms: usize) -> Value {
    json!({
        "conn_id": "room-list",
        "lists": { "all_rooms": {
            "ranges": [[0, rooms - 1]],
            "timeline_limit": 1,
            "required_state": [
                ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"],
                ["m.room.topic", ""], ["m.room.avatar", ""], ["m.room.canonical_alias", ""],
                ["m.room.power_levels", ""], ["org.matrix.msc3401.call.member", "*"], ["m.room.join_rules", ""],
                ["m.room.tombstone", ""], ["m.room.create", ""], ["m.room.history_visibility", ""],
                ["io.element.functional_members", ""], ["m.space.parent", "*"], ["m.space.child", "*"],
                ["org.matrix.msc3672.beacon_info", "*"],
            ],
        } },
        "extensions": {
            "account_data": { "enabled": true },
            "receipts": { "enabled": true, "rooms": ["*"] },
            "typing": { "enabled": true },
        },
    })
}

/// How many rooms it looks at first, and by how many more it does then.
pub(crate) const WINDOW: usize = 20;
const GROWTH: usize = 100;
