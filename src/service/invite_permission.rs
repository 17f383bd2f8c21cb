//! Who wants no invitations. <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>

use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;

use crate::store::{StoreError, View};

/// Whether a user of this server lets nobody invite them; they do where what they say has another form.
pub fn blocks_invites(view: &View<'_>, user_id: &UserId) -> Result<bool, StoreError> {
    #[derive(Deserialize)]
    struct Permission {
        default_action: Value,
    }
    let Some(user) = view.user_number(user_id)? else { return Ok(false) };
    let content = view.account_data(user, None, TYPE)?;
    let permission = content.and_then(|content| serde_json::from_str::<Permission>(&content).ok());
    Ok(permission.is_some_and(|permission| permission.default_action == "block"))
}

/// The type of account data by which they say so.
pub const TYPE: &str = "m.invite_permission_config";
