//! Whom a user ignores. <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>

use std::collections::{BTreeMap, HashSet};

use ruma::OwnedUserId;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    base::ids::UserNumber,
    store::{StoreError, View},
};

/// The users whose messages and invitations a user doesn't want to see; none where the list has another form.
pub fn ignored(view: &View<'_>, user: UserNumber) -> Result<HashSet<OwnedUserId>, StoreError> {
    #[derive(Deserialize)]
    struct List {
        ignored_users: BTreeMap<OwnedUserId, IgnoredAny>,
    }
    let content = view.account_data(user, None, "m.ignored_user_list")?;
    let list = content.and_then(|content| serde_json::from_str::<List>(&content).ok());
    Ok(list.into_iter().flat_map(|list| list.ignored_users.into_keys()).collect())
}
