//! `[well_known]`: what this server tells those who look for it.

use http::Uri;
use ruma::{OwnedServerName, OwnedUserId};
use toml::{Spanned, de::DeValue};

use super::{reader::Reader, section::section, value::Value};

section! {
    /// What `https://SERVER_NAME/.well-known/matrix/` tells, if requests for it reach this server.
    pub struct WellKnown {
        /// The base of the URLs at which clients find this server. Without it they are told nothing.
        client_url: Option<HttpUrl> = None => "\"https://matrix.example.org\"",
        /// Host and port at which other servers find this one. Without it they are told nothing, and look for it at port
        /// 8448 of its name.
        server: Option<OwnedServerName> = None => "\"matrix.example.org:443\"",
        /// Whom people and other servers' administrators turn to: each with a `matrix_id`, an `email_address` or both, and a
        /// `role`, `m.role.admin` or `m.role.security` for what is confidential.
        contacts: Vec<Contact> = Vec::new()
            => "[{ matrix_id = \"@admin:example.org\", email_address = \"admin@example.org\", role = \"m.role.admin\" }]",
        /// A page that helps the people of this server.
        support_page: Option<HttpUrl> = None => "\"https://example.org/help\"",
    }
}

section! {
    /// Somebody to turn to.
    pub struct Contact {
        /// Their user id, perhaps at another server, so that they can be reached when this one can't.
        matrix_id: Option<OwnedUserId> = None => "\"@admin:example.org\"",
        /// Their e-mail address.
        email_address: Option<String> = None => "\"admin@example.org\"",
        /// What for.
        role: String = "m.role.admin".to_owned(),
    }
}

impl WellKnown {
    /// What is wrong with values that are good each by itself.
    pub(super) fn conflict(&self) -> Option<String> {
        let is_nobody = |contact: &Contact| contact.matrix_id.is_none() && contact.email_address.is_none();
        let is_one = self.contacts.iter().any(is_nobody);
        is_one.then(|| "one of `contacts` has neither `matrix_id` nor `email_address`".to_owned())
    }
}

/// A URL with the scheme http or https, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a URL; none if it is of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let url: Uri = text.parse().ok()?;
        let proper = matches!(url.scheme_str()?, "http" | "https") && url.query().is_none();
        proper.then(|| Self(text.trim_end_matches('/').to_owned()))
    }
}

impl Value for HttpUrl {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| Self::parse(text).ok_or_else(|| "must be a URL, `https://...`".to_owned()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.as_str().into())
    }
}
