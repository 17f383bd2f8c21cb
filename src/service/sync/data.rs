//! Account data, as `/sync` tells it.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    base::ids::{Position, UserNumber},
    service::{push_rules, read::reader::Onlooker},
    store::{AccountData, StoreError, View},
};

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

/// Adds the push rules to what the account has, unless they are there: who never changed them has them, too.
pub(super) fn add_push_rules(
    view: &View<'_>,
    onlooker: &Onlooker,
    global: &mut Vec<Data>,
) -> Result<(), StoreError> {
    if global.iter().all(|data| data.kind != push_rules::TYPE) {
        let content = RawValue::from_string(push_rules::content(view, onlooker.user, &onlooker.user_id)?);
        global.extend(content.ok().map(|content| Data { kind: push_rules::TYPE.to_owned(), content }));
    }
    Ok(())
}

/// What changed of the account's data since a position, by room; what is of no room has none.
pub(super) fn account_data(
    view: &View<'_>,
    user: UserNumber,
    since: Position,
) -> Result<BTreeMap<Option<OwnedRoomId>, Vec<Data>>, StoreError> {
    let mut changed: BTreeMap<Option<OwnedRoomId>, Vec<Data>> = BTreeMap::new();
    for data in view.account_data_since(user, since)? {
        let room_id = data.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok());
        changed.entry(room_id.map(ToOwned::to_owned)).or_default().push(Data::of(data)?);
    }
    Ok(changed)
}
