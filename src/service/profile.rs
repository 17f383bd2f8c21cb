//! Profiles of local users: what anybody may read of them. <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use ruma::{MxcUri, UserId};
use serde_json::{Map, Value};

use super::{
    App, localpart,
    rounds::{self, Round},
};
use crate::{
    base::{ids::UserNumber, limits},
    store::{StoreError, Transaction, View},
};

/// Why a profile stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("the name of a profile field is longer than 255 bytes")]
    KeyTooLarge,
    #[error("a profile field is named after the rules for namespaced identifiers")]
    InvalidKey,
    #[error("a display name and an avatar's address have at most 1024 bytes")]
    NameTooLong,
    #[error("an avatar's address is an MXC URI")]
    InvalidAvatar,
    #[error("the profile would reach 64 KiB")]
    TooLarge,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All fields of a local user's profile; none if there is no such user.
pub async fn profile(app: &App, user_id: &UserId) -> Result<Option<Map<String, Value>>, StoreError> {
    let Some(localpart) = localpart::of_local_user(user_id, &app.server_name).map(str::to_owned) else {
        return Ok(None);
    };
    app.store
        .read(move |view| match live_user(view, &localpart)? {
            Some(user) => fields(view, user).map(Some),
            None => Ok(None),
        })
        .await
}

/// One field of a local user's profile.
pub async fn field(app: &App, user_id: &UserId, field: &str) -> Result<Option<Value>, StoreError> {
    Ok(profile(app, user_id).await?.and_then(|mut fields| fields.remove(field)))
}

/// Sets one field of a user's profile.
pub async fn set_field(app: &App, user: UserNumber, field: &str, value: Value) -> Result<(), ProfileError> {
    check_key(field)?;
    if is_in_member_events(field)
        && value.as_str().is_some_and(|text| text.len() > limits::PROFILE_NAME_BYTES)
    {
        return Err(ProfileError::NameTooLong);
    }
    // Clients say by an empty one that there is none.
    if field == AVATAR
        && value.as_str().is_some_and(|url| !url.is_empty() && !<&MxcUri>::from(url).is_valid())
    {
        return Err(ProfileError::InvalidAvatar);
    }
    let field = field.to_owned();
    app.store
        .write(move |transaction| {
            let mut fields = fields(transaction, user)?;
            fields.insert(field.clone(), value.clone());
            if Value::Object(fields).to_string().len() >= limits::PROFILE_BYTES {
                return Err(ProfileError::TooLarge);
            }
            transaction.set_profile_field(user, &field, &value.to_string())?;
            Ok(changed(transaction, user, &field)?)
        })
        .await?;
    app.announce_round();
    Ok(())
}

/// Removes one field of a user's profile, if it is there.
pub async fn remove_field(app: &App, user: UserNumber, field: &str) -> Result<(), ProfileError> {
    check_key(field)?;
    let field = field.to_owned();
    let removed = app.store.write(move |transaction| {
        transaction.remove_profile_field(user, &field)?;
        changed(transaction, user, &field)
    });
    removed.await?;
    app.announce_round();
    Ok(())
}

/// Wants the change of a field to be shown in the user's rooms, where it is shown there.
fn changed(transaction: &mut Transaction<'_>, user: UserNumber, field: &str) -> Result<(), StoreError> {
    if is_in_member_events(field) { rounds::want(transaction, Round::ShowProfile, user) } else { Ok(()) }
}

fn live_user(view: &View<'_>, localpart: &str) -> Result<Option<UserNumber>, StoreError> {
    let account = view.account(localpart)?;
    Ok(account.filter(|account| account.deactivated_at.is_none()).map(|account| account.number))
}

fn fields(view: &View<'_>, user: UserNumber) -> Result<Map<String, Value>, StoreError> {
    let stored = view.profile(user)?;
    Ok(stored
        .into_iter()
        .filter_map(|(field, json)| Some((field, serde_json::from_str(&json).ok()?)))
        .collect())
}

/// Whether the field is also told in the user's member event of each room.
fn is_in_member_events(field: &str) -> bool {
    matches!(field, AVATAR | "displayname")
}

/// The old fields, or a name with a namespace.
/// <https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar>
fn check_key(key: &str) -> Result<(), ProfileError> {
    if key.len() > limits::PROFILE_KEY_BYTES {
        return Err(ProfileError::KeyTooLarge);
    }
    let legal = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    match key {
        _ if is_in_member_events(key) => Ok(()),
        _ if legal && key.contains('.') => Ok(()),
        _ => Err(ProfileError::InvalidKey),
    }
}

const AVATAR: &str = "avatar_url";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_grammar() {
        for good in ["displayname", "avatar_url", "m.tz", "org.example.key", "us.cloke.msc4175.tz", "a.b-c_d"]
        {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "nickname", "Org.example", "1.example", "org.example key", ".org", "org.exämple"] {
            assert!(matches!(check_key(bad), Err(ProfileError::InvalidKey)), "{bad}");
        }
        let longest = format!("org.{}", "a".repeat(limits::PROFILE_KEY_BYTES - 4));
        assert!(check_key(&longest).is_ok());
        assert!(matches!(check_key(&format!("{longest}a")), Err(ProfileError::KeyTooLarge)));
    }
}
