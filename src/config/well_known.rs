//! `[well_known]`: what this server tells those who look for it.

use http::Uri;
use ruma::OwnedServerName;
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
