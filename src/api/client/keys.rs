//! Keys for end-to-end encryption. <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use ruma::{
    OwnedOneTimeKeyId, OwnedServerName, UInt,
    api::client::keys::{claim_keys, get_key_changes, get_keys, upload_keys},
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{
    api::{Error, User, caller::EvenSuspended, keys as told},
    base::{limits, ordered::Ordered},
    service::{
        App,
        keys::{self, KeyError, Uploaded},
        read::token::SyncToken,
        sync::device_lists::device_lists,
    },
    store::StoreError,
};

/// `POST /_matrix/client/v3/keys/upload`
pub(crate) async fn upload(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: upload_keys::v3::Request,
) -> Result<upload_keys::v3::Response, Error> {
    let texts = |keys: BTreeMap<_, Raw<_>>| -> Vec<(String, String)> {
        keys.into_iter().map(|(id, key): (OwnedOneTimeKeyId, _)| (id.to_string(), text(key))).collect()
    };
    let uploaded = Uploaded {
        device_keys: request.device_keys.map(text),
        one_time_keys: texts(request.one_time_keys),
        fallback_keys: texts(request.fallback_keys),
    };
    let counts = keys::upload(&app, &user, uploaded).await?;
    let counts = counts.into_iter().map(|(algorithm, count)| (algorithm.into(), UInt::new_saturating(count)));
    Ok(upload_keys::v3::Response::new(counts.into_map()))
}

/// `POST /_matrix/client/v3/keys/query`
pub(crate) async fn query(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: get_keys::v3::Request,
) -> Result<get_keys::v3::Response, Error> {
    let found =
        keys::query(&app, Some(user.number), told::asked(request.device_keys), time(request.timeout)).await?;
    let mut response = get_keys::v3::Response::new();
    response.device_keys = told::devices(found.devices)?;
    response.master_keys = told::of_users(found.master)?;
    response.self_signing_keys = told::of_users(found.self_signing)?;
    response.user_signing_keys = told::of_users(found.user_signing)?;
    response.failures = failures(found.unreachable);
    Ok(response)
}

/// `POST /_matrix/client/v3/keys/claim`
pub(crate) async fn claim(
    app: App,
    EvenSuspended(_): EvenSuspended,
    request: claim_keys::v3::Request,
) -> Result<claim_keys::v3::Response, Error> {
    let (claimed, unreachable) =
        keys::claim(&app, told::wanted(request.one_time_keys), Some(time(request.timeout))).await?;
    let mut response = claim_keys::v3::Response::new(told::given(claimed)?);
    response.failures = failures(unreachable);
    Ok(response)
}

/// `GET /_matrix/client/v3/keys/changes`
pub(crate) async fn changes(
    app: App,
    user: User,
    request: get_key_changes::v3::Request,
) -> Result<get_key_changes::v3::Response, Error> {
    // Where it ends is only a hint: what changed later has to be looked up as well.
    let (from, _to): (SyncToken, SyncToken) = (request.from.parse()?, request.to.parse()?);
    let since = from.told;
    let lists = app.store.read(move |view| device_lists(view, user.number, since));
    let lists = lists.await.map_err(|error: StoreError| Error::from(error))?;
    Ok(get_key_changes::v3::Response::new(
        lists.changed.into_iter().collect(),
        lists.left.into_iter().collect(),
    ))
}

/// For how long other servers are asked.
fn time(wanted: Option<Duration>) -> Duration {
    wanted.unwrap_or(limits::KEYS_TIME).min(limits::KEYS_TIME_MAX)
}

/// The failures of servers that didn't answer.
fn failures(servers: Vec<OwnedServerName>) -> BTreeMap<String, Value> {
    let failure = json!({"errcode": "M_UNKNOWN", "error": "This server doesn't answer"});
    servers.into_iter().map(|server| (server.to_string(), failure.clone())).into_map()
}

fn text<T>(key: Raw<T>) -> String {
    key.into_json().get().to_owned()
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Malformed(text) => Self::bad_json(text),
            KeyError::Foreign => Self::invalid_param("These keys belong to another user or device"),
            KeyError::Signature => {
                let text = "A signature is missing or wrong";
                Self::coded(StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE", text)
            }
            KeyError::Conflict => Self::invalid_param("A one-time key's id stands for another key already"),
            KeyError::TooMany => Self::too_large("A device keeps no more one-time keys"),
            KeyError::NoMasterKey => Self::missing_param("There is no master key that could sign this key"),
            KeyError::IdInUse => Self::forbidden("One of your devices has this key as its id"),
            KeyError::LoggedOut => Self::unknown_token(false),
            KeyError::Raced => {
                Self::unavailable("Another request set your keys at the same moment", limits::BUSY_TIME)
            }
            KeyError::Store(error) => error.into(),
        }
    }
}
