//! Programs that people let in. Each registers itself, with what it says of itself; the same twice is one registration.
//! <https://spec.matrix.org/v1.19/client-server-api/#client-registration>

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{App, CODE_GRANT, DEVICE_GRANT, REFRESH_GRANT, redirects};
use crate::{
    base::{clock::Timestamp, limits},
    store::{StoreError, View},
};

/// A program that has registered.
#[derive(Clone)]
pub struct Client {
    pub id: String,
    /// What it calls itself, or where it comes from.
    pub name: String,
    /// The page that tells more of it.
    pub uri: String,
    pub policy_uri: Option<String>,
    pub tos_uri: Option<String>,
    redirect_uris: Vec<String>,
    grant_types: Vec<String>,
}

/// Why a program is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("{0}")]
    Metadata(&'static str),
    #[error("a redirect URI is not one that such a program may have")]
    RedirectUri,
    #[error("too many programs are registered")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers a program, and gives what is kept of what it says, its id included.
pub async fn register(app: &App, said: &Map<String, Value>) -> Result<Map<String, Value>, RegisterError> {
    let mut metadata = checked(said)?;
    let text = Value::from(metadata.clone()).to_string();
    if text.len() > limits::OAUTH_CLIENT_BYTES {
        return Err(RegisterError::Metadata("a program's metadata is too large"));
    }
    let id = BASE64_URL_SAFE_NO_PAD.encode(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    metadata.insert("client_id".to_owned(), id.as_str().into());
    let unused = app.clock.now().0.saturating_sub(limits::OAUTH_CLIENT_UNUSED.as_millis() as u64);
    let kept = app
        .store
        .write(move |transaction| transaction.keep_oauth_client(&id, &text, Timestamp(unused)))
        .await?;
    if kept { Ok(metadata) } else { Err(RegisterError::Full) }
}

/// The program with this id.
pub async fn find(app: &App, id: &str) -> Result<Option<Client>, StoreError> {
    let id = id.to_owned();
    app.store.read(move |view| stored(view, &id)).await
}

pub(super) fn stored(view: &View<'_>, id: &str) -> Result<Option<Client>, StoreError> {
    let metadata = view.oauth_client(id)?.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(metadata.map(|metadata| Client::of(id, &metadata)))
}

impl Client {
    fn of(id: &str, metadata: &Value) -> Self {
        let text = |name: &str| metadata[name].as_str().map(str::to_owned);
        let uri = text(CLIENT_URI).unwrap_or_default();
        let name = text(CLIENT_NAME).or_else(|| redirects::host_of_client(&uri)).unwrap_or_default();
        Self {
            id: id.to_owned(),
            name,
            uri,
            policy_uri: text("policy_uri"),
            tos_uri: text("tos_uri"),
            redirect_uris: texts(metadata.get(REDIRECT_URIS)).unwrap_or_default(),
            grant_types: texts(metadata.get(GRANT_TYPES)).unwrap_or_default(),
        }
    }

    /// Whether the program may have its users sent there.
    pub(super) fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|registered| redirects::is_same(uri, registered))
    }

    pub(super) fn may(&self, grant_type: &str) -> bool {
        self.grant_types.iter().any(|other| other == grant_type)
    }
}

/// What is kept of what a program says of itself. What isn't known here is left out, other languages among it.
fn checked(said: &Map<String, Value>) -> Result<Map<String, Value>, RegisterError> {
    use RegisterError::{Metadata, RedirectUri};
    let text = |name: &str| match said.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Metadata("a value is no text")),
    };
    let list = |name: &str, default: &str| match said.get(name) {
        None | Some(Value::Null) => Ok(vec![default.to_owned()]),
        value => texts(value).ok_or(Metadata("a value is no list of texts")),
    };
    let mut kept = Map::new();
    let uri = text(CLIENT_URI)?.ok_or(Metadata("client_uri is missing"))?;
    let host = redirects::host_of_client(uri).ok_or(Metadata("client_uri is no https URL"))?;
    kept.insert(CLIENT_URI.to_owned(), uri.into());
    if let Some(name) = text(CLIENT_NAME)?.map(str::trim).filter(|name| !name.is_empty()) {
        if name.len() > limits::OAUTH_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(Metadata("client_name is too long, or no plain text"));
        }
        kept.insert(CLIENT_NAME.to_owned(), name.into());
    }
    for name in ["logo_uri", "tos_uri", "policy_uri"] {
        let Some(uri) = text(name)? else { continue };
        if !redirects::is_of_client(uri, &host) {
            return Err(Metadata("a page of the program is not at the host of client_uri"));
        }
        kept.insert(name.to_owned(), uri.into());
    }
    let kind = text("application_type")?.unwrap_or("web");
    if !matches!(kind, "web" | "native") {
        return Err(Metadata("application_type is neither web nor native"));
    }
    kept.insert("application_type".to_owned(), kind.into());
    if text("token_endpoint_auth_method")?.is_some_and(|method| method != "none") {
        return Err(Metadata("token_endpoint_auth_method is not none"));
    }
    kept.insert("token_endpoint_auth_method".to_owned(), "none".into());
    let mut types = list(GRANT_TYPES, CODE_GRANT)?;
    types.retain(|kind| matches!(kind.as_str(), CODE_GRANT | REFRESH_GRANT | DEVICE_GRANT));
    let by_code = types.iter().any(|kind| kind == CODE_GRANT);
    if !by_code && !types.iter().any(|kind| kind == DEVICE_GRANT) {
        return Err(Metadata("grant_types has none by which a program is let in"));
    }
    kept.insert(GRANT_TYPES.to_owned(), types.into());
    let responses = list(RESPONSE_TYPES, "code")?;
    if by_code && !responses.iter().any(|kind| kind == "code") {
        return Err(Metadata("response_types lacks code"));
    }
    kept.insert(RESPONSE_TYPES.to_owned(), if by_code { json!(["code"]) } else { json!([]) });
    let uris = match said.get(REDIRECT_URIS) {
        None | Some(Value::Null) => Vec::new(),
        value => texts(value).ok_or(RedirectUri)?,
    };
    let legal = uris.iter().all(|uri| redirects::is_legal(uri, &host, kind == "native"));
    if !legal || uris.len() > limits::OAUTH_REDIRECTS || by_code && uris.is_empty() {
        return Err(RedirectUri);
    }
    kept.insert(REDIRECT_URIS.to_owned(), uris.into());
    Ok(kept)
}

/// A list of texts; none if it is something else.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    value?.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
}

const CLIENT_URI: &str = "client_uri";
const CLIENT_NAME: &str = "client_name";
const REDIRECT_URIS: &str = "redirect_uris";
const GRANT_TYPES: &str = "grant_types";
const RESPONSE_TYPES: &str = "response_types";
