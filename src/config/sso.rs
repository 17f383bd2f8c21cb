//! `[sso]` and `[[upstream]]`: how people sign in who have no password here.

use ruma::{MxcUri, OwnedMxcUri};
use toml::{Spanned, de::DeValue};
use url::Url;

use super::{reader::Reader, section::section, value::Value};
use crate::base::secret::Secret;

section! {
    /// How people sign in who have no password here.
    pub struct Sso {
        /// The clients that somebody who signs in with an upstream provider gets back to without being asked whether it is
        /// theirs: URLs, and with each what lies under it. The pages of `[oauth]`, where they are on, ask in any case.
        trusted_clients: Vec<ClientUrl> = Vec::new() => "[\"https://app.element.io\"]",
        /// Whether a provider may have a loopback or private address, and speak plain HTTP.
        allow_private_providers: bool = false,
    }
}

section! {
    /// A provider of OpenID Connect with which people sign in; as many of these tables as there are providers. There, this
    /// server is a client whose redirect URI is `CLIENT_URL/_tayberry/sso/callback/ID`, with the `id` of the table and
    /// `client_url` of `[well_known]`, or without that `https://SERVER_NAME`.
    pub struct Upstream {
        /// What the provider is called in addresses: letters, digits and `.`, `_`, `~` and `-`. It can be changed at any time, at
        /// the provider as well.
        id: ProviderId => "\"example\"",
        /// What people see of it.
        name: String => "\"Example\"",
        /// Its issuer, exactly as the provider calls it: its configuration is under `/.well-known/openid-configuration`
        /// there. Accounts hang on it.
        issuer: Issuer => "\"https://id.example.org\"",
        /// What the provider calls this server.
        client_id: String => "\"tayberry\"",
        /// The secret that the provider shares with it, if any. It may be the content of a file instead.
        client_secret: Option<Secret<String>> = None => "\"\"",
        /// Whether the redirect URI is `CLIENT_URL/_tayberry/sso/callback`, without the id, as it used to be. At most one
        /// provider may have it: by its own address each is told from the others.
        old_redirect_uri: bool = false,
        /// What the provider is asked for; `openid` always is.
        scopes: Vec<String> = vec!["openid".to_owned(), "profile".to_owned()],
        /// The claim that becomes the user name of a new account; where that can't be, the person is asked for one.
        localpart_claim: String = "preferred_username".to_owned(),
        /// The claim that becomes its display name.
        display_name_claim: String = "name".to_owned(),
        /// Whether somebody new gets an account.
        registration: bool = true,
        /// Whether somebody new gets the account that has their user name already. Only for a provider where nobody chooses
        /// that name.
        match_existing: bool = false,
        /// Whether the provider is believed to have asked anew who somebody is, as it was to, if it doesn't tell when it did
        /// (`auth_time`), which OpenID Connect wants it to; Google doesn't. Without that, people who have no password here can
        /// sign in by it, but can't confirm what has to be confirmed: what a client wants to do, and on the pages of the account
        /// to set a password, to reset their identity and to end the account. With that, so can whoever gets to a browser that
        /// they left open.
        trust_prompt: bool = false,
        /// A picture and a brand that clients may show: an `mxc://` address here, and a name such as `google`.
        icon: Option<Icon> = None => "\"mxc://example.org/abc\"",
        brand: Option<String> = None => "\"google\"",
    }
}

/// The name of a provider in a path. <https://spec.matrix.org/v1.19/appendices/#opaque-identifiers>
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderId(pub String);

/// A URL that has to be compared as it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Issuer(pub String);

/// Where a client is.
#[derive(Clone)]
pub struct ClientUrl(pub Url);

/// The address of a picture.
#[derive(Clone)]
pub struct Icon(pub OwnedMxcUri);

impl ProviderId {
    /// Reads a name; none if it is of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let is_one =
            (1..=255).contains(&text.len()) && text.bytes().all(legal) && text != "." && text != "..";
        is_one.then(|| Self(text.to_owned()))
    }
}

impl Issuer {
    /// Reads a URL; none if it is no issuer's.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_one = matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty();
        is_one.then(|| Self(text.to_owned()))
    }
}

impl ClientUrl {
    /// Reads a URL; none if it is of another form.
    pub fn parse(text: &str) -> Option<Self> {
        Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none()).map(Self)
    }
}

impl Value for ProviderId {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let problem = "must have letters, digits, `.`, `_`, `~` and `-` only";
        reader.text(value, |text| Self::parse(text).ok_or_else(|| problem.to_owned()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.as_str().into())
    }
}

impl Value for Issuer {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let problem = "must be a URL, `https://...`, without query";
        reader.text(value, |text| Self::parse(text).ok_or_else(|| problem.to_owned()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.as_str().into())
    }
}

impl Value for ClientUrl {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let problem = "must be a URL without query";
        reader.text(value, |text| Self::parse(text).ok_or_else(|| problem.to_owned()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.as_str().into())
    }
}

impl Value for Icon {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| match <&MxcUri>::from(text) {
            uri if uri.is_valid() => Ok(Self(uri.to_owned())),
            _ => Err("must be an address, `mxc://...`".to_owned()),
        })
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.0.as_str().into())
    }
}
