//! The tags of rooms: a piece of the room's account data, which is changed here one tag at a time. There is no other
//! truth: a client may as well set all of it at once. <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use std::collections::BTreeMap;

use ruma::OwnedRoomId;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    App,
    account_data::{self, AccountDataError},
};
use crate::{
    base::{ids::UserNumber, limits},
    store::{StoreError, Transaction},
};

/// Tags by their names, each as it was sent.
pub type Tags = BTreeMap<String, Box<RawValue>>;

/// A user's tags of a room.
pub async fn tags(app: &App, user: UserNumber, room_id: OwnedRoomId) -> Result<Tags, StoreError> {
    let content = account_data::content(app, user, Some(room_id), TYPE.to_owned()).await?;
    Ok(Content::of(content.as_deref()).tags)
}

/// Adds a tag to a room, or changes it.
pub async fn set(
    app: &App,
    user: UserNumber,
    room_id: OwnedRoomId,
    name: String,
    tag: Box<RawValue>,
) -> Result<(), AccountDataError> {
    change(app, user, room_id, move |tags| _ = tags.insert(name.clone(), tag.clone())).await
}

/// Removes a tag from a room, if it is there.
pub async fn remove(
    app: &App,
    user: UserNumber,
    room_id: OwnedRoomId,
    name: String,
) -> Result<(), AccountDataError> {
    change(app, user, room_id, move |tags| _ = tags.remove(&name)).await
}

async fn change(
    app: &App,
    user: UserNumber,
    room_id: OwnedRoomId,
    change: impl Fn(&mut Tags) + Send + 'static,
) -> Result<(), AccountDataError> {
    let job = move |transaction: &mut Transaction<'_>| {
        let room_id = Some(room_id.as_str());
        let mut content = Content::of(transaction.account_data(user, room_id, TYPE)?.as_deref());
        let known = content.text();
        change(&mut content.tags);
        let text = content.text();
        if text == known {
            return Ok(());
        }
        if text.len() > limits::TAGS_BYTES {
            return Err(AccountDataError::TooMuch);
        }
        account_data::put(transaction, user, room_id, TYPE, &text)
    };
    app.store.write(job).await
}

/// The content of the account data. What clients put there beside the tags stays.
struct Content {
    tags: Tags,
    rest: BTreeMap<String, Box<RawValue>>,
}

impl Content {
    fn of(text: Option<&str>) -> Self {
        let parsed = text.and_then(|text| serde_json::from_str(text).ok());
        let mut rest: BTreeMap<String, Box<RawValue>> = parsed.unwrap_or_default();
        let tags = rest.remove(TAGS).and_then(|tags| serde_json::from_str(tags.get()).ok());
        Self { tags: tags.unwrap_or_default(), rest }
    }

    fn text(&self) -> String {
        let mut content = self.rest.clone();
        content.insert(TAGS.to_owned(), to_raw_value(&self.tags).expect("texts and JSON have a JSON text"));
        serde_json::to_string(&content).expect("texts and JSON have a JSON text")
    }
}

const TYPE: &str = "m.tag";
const TAGS: &str = "tags";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_the_tags_stays_and_what_are_none_goes() {
        for (text, after) in [
            (None, r#"{"tags":{}}"#),
            (
                Some(r#"{"tags":{"u.a":{"order":0.10}},"org.example":[1]}"#),
                r#"{"org.example":[1],"tags":{"u.a":{"order":0.10}}}"#,
            ),
            (Some(r#"{"tags":7}"#), r#"{"tags":{}}"#),
            (Some("[]"), r#"{"tags":{}}"#),
        ] {
            assert_eq!(Content::of(text).text(), after);
        }
    }
}
