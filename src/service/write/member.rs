//! The content of membership events as this server writes it.

use ruma::{CanonicalJsonObject, OwnedMxcUri};

/// How a user appears to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<OwnedMxcUri>,
}

impl Profile {
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
