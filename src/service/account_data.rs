//! Account data: what clients keep on the server for themselves.
//! <https://spec.matrix.org/v1.19/client-server-api/#client-config>

use ruma::OwnedRoomId;

use super::{App, localpart, push_rules};
use crate::{
    base::{ids::UserNumber, limits},
    store::{StoreError, Topic, Transaction},
};

/// Why account data stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum AccountDataError {
    #[error("the user keeps too much")]
    TooMuch,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The content, a JSON object, of one type of account data: of a room, or of the account.
pub async fn content(
    app: &App,
    user: UserNumber,
    room_id: Option<OwnedRoomId>,
    event_type: String,
) -> Result<Option<String>, StoreError> {
    let server_name = app.server_name.clone();
    app.store
        .read(move |view| {
            if room_id.is_none() && event_type == push_rules::TYPE {
                let account = view.account_by_number(user)?;
                let user_id = account.map(|account| localpart::user_id(&account.localpart, &server_name));
                return user_id.map(|user_id| push_rules::content(view, user, &user_id)).transpose();
            }
            view.account_data(user, room_id.as_deref().map(|id| id.as_str()), &event_type)
        })
        .await
}

/// Sets one type of account data to `content`, a JSON object, and wakes the user's syncs.
pub async fn set(
    app: &App,
    user: UserNumber,
    room_id: Option<OwnedRoomId>,
    event_type: String,
    content: String,
) -> Result<(), AccountDataError> {
    app.store
        .write(move |transaction| {
            let room_id = room_id.as_deref().map(|id| id.as_str());
            put(transaction, user, room_id, &event_type, &content)
        })
        .await
}

/// The same within a job.
pub(super) fn put(
    transaction: &mut Transaction<'_>,
    user: UserNumber,
    room_id: Option<&str>,
    event_type: &str,
    content: &str,
) -> Result<(), AccountDataError> {
    transaction.set_account_data(user, room_id, event_type, content)?;
    let taken = transaction.account_data_bytes(user, limits::ACCOUNT_DATA_PIECE_BYTES)?;
    if taken > limits::ACCOUNT_DATA_BYTES {
        return Err(AccountDataError::TooMuch);
    }
    transaction.touch(Topic::User(user));
    Ok(())
}

/// Whether clients may not set this type themselves, because the server gives it a meaning of its own.
pub fn is_servers(event_type: &str) -> bool {
    matches!(event_type, "m.fully_read" | push_rules::TYPE)
}
