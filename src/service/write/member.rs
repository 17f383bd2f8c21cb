//! The content of membership events as this server writes it.

use ruma::{CanonicalJsonObject, OwnedMxcUri, UserId};
use serde::de::DeserializeOwned;

use crate::store::{StoreError, View};

/// How a user appears to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<OwnedMxcUri>,
}

impl Profile {
    /// How a local user appears now.
    pub fn of(view: &View<'_>, user: &UserId) -> Result<Self, StoreError> {
        fn parsed<T: DeserializeOwned>(json: Option<String>) -> Option<T> {
            json.and_then(|json| serde_json::from_str(&json).ok())
        }
        let Some(user) = view.user_number(user)? else { return Ok(Self::default()) };
        Ok(Self {
            display_name: parsed(view.profile_field(user, "displayname")?),
            avatar_url: parsed(view.profile_field(user, "avatar_url")?),
        })
    }

    /// The content of a member event that shows this profile.
    pub fn content(&self, membership: &str) -> CanonicalJsonObject {
        let mut content = CanonicalJsonObject::new();
        content.insert("membership".to_owned(), membership.into());
        if let Some(name) = &self.display_name {
            content.insert("displayname".to_owned(), name.as_str().into());
        }
        if let Some(url) = &self.avatar_url {
            content.insert("avatar_url".to_owned(), url.as_str().into());
        }
        content
    }
}
