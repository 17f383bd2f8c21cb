//! What lists tell rooms apart by in their states. A list is made of all of a user's rooms each time, so this is remembered
//! for each room, with the root of the state that says so: it can't be wrong as long as the root is the same.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;

use crate::{
    base::{
        ids::{RoomNumber, StateRoot},
        limits,
    },
    room::{pdu::Pdu, version::Version},
    store::{StoreError, View},
};

/// The traits of rooms, as far as they were asked for.
#[derive(Default)]
pub(super) struct Traits(Mutex<HashMap<RoomNumber, (StateRoot, Trait)>>);

/// What a room is.
#[derive(Clone, Default)]
pub(super) struct Trait {
    pub(super) encrypted: bool,
    /// The type in its create event.
    pub(super) kind: Option<Box<str>>,
}

impl Traits {
    /// The traits of a room in one of its states.
    pub(super) fn of(
        &self,
        view: &View<'_>,
        room: RoomNumber,
        root: StateRoot,
        version: Version,
    ) -> Result<Trait, StoreError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, found)) = known.get(&room)
            && *of == root
        {
            return Ok(found.clone());
        }
        drop(known);
        let encrypted = view.state_event(room, root, ENCRYPTION, "")?.is_some();
        let kind = match view.state_event(room, root, CREATE, "")? {
            Some(create) => kind(&view.event(room, create)?.shown(version)),
            None => None,
        };
        let found = Trait { encrypted, kind };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= limits::SLIDING_TRAITS {
            known.clear();
        }
        known.insert(room, (root, found.clone()));
        Ok(found)
    }
}

/// The type of a room, by its create event.
fn kind(create: &Pdu) -> Option<Box<str>> {
    create.content_as::<Create>().and_then(|content| content.kind)
}

impl Trait {
    /// The traits by which an invitation shows a room.
    pub(super) fn shown(state: &str) -> Self {
        #[derive(Deserialize)]
        struct Shown {
            #[serde(rename = "type")]
            kind: String,
            content: serde_json::Value,
        }
        let mut found = Self::default();
        for event in serde_json::from_str::<Vec<Shown>>(state).unwrap_or_default() {
            match event.kind.as_str() {
                ENCRYPTION => found.encrypted = true,
                CREATE => found.kind = event.content["type"].as_str().map(Box::from),
                _ => {}
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct Create {
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
}

const ENCRYPTION: &str = "m.room.encryption";
const CREATE: &str = "m.room.create";
