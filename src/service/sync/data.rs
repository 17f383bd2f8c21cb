//! Account data, as `/sync` tells it.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use serde_json::value::{RawValue, to_raw_value};

use super::plan::Query;
use crate::store::{AccountData, StoreError, View};

/// A piece of account data.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) kind: String,
    pub(super) content: Box<RawValue>,
}

impl Data {
    pub(super) fn of(data: AccountData) -> Result<Self, StoreError> {
        let content = RawValue::from_string(data.content);
        let content = content
            .map_err(|_| StoreError::corrupt("account_data", data.event_type.as_bytes(), "not JSON"))?;
        Ok(Self { kind: data.event_type, content })
    }

    pub(super) fn write(self) -> Box<RawValue> {
        #[derive(serde::Serialize)]
        struct Event {
            #[serde(rename = "type")]
            kind: String,
            content: Box<RawValue>,
        }
        let event = Event { kind: self.kind, content: self.content };
        to_raw_value(&event).expect("a text and JSON have a JSON text")
    }
}

/// What changed of the account's data, by room; what is of no room has none.
pub(super) fn account_data(
    view: &View<'_>,
    query: &Query,
) -> Result<BTreeMap<Option<OwnedRoomId>, Vec<Data>>, StoreError> {
    let mut changed: BTreeMap<Option<OwnedRoomId>, Vec<Data>> = BTreeMap::new();
    for data in view.account_data_since(query.onlooker.user, query.since.unwrap_or_default())? {
        let room_id = data.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok());
        changed.entry(room_id.map(ToOwned::to_owned)).or_default().push(Data::of(data)?);
    }
    Ok(changed)
}
