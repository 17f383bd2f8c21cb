//! What a command was given.

use anyhow::{Context, Result};
use matrix_sdk::ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub struct With(Map<String, Value>);

impl With {
    /// What stands under the name; nothing is `null`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.0.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value).with_context(|| format!("`{name}` of the command"))
    }

    pub fn text(&self, name: &str) -> Result<String> {
        self.get(name)
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.get::<Option<bool>>(name)?.unwrap_or_default())
    }

    pub fn room(&self) -> Result<OwnedRoomId> {
        self.get("room")
    }

    pub fn event(&self) -> Result<OwnedEventId> {
        self.get("event")
    }
}
