//! Devices that nobody is logged in with. <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use std::collections::BTreeMap;

use http::Method;
use ruma::{OwnedDeviceId, api::auth_scheme::AccessToken};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    api::{
        Error, User,
        custom::JsonAnswer,
        proposed::{Proposal, Proposed},
    },
    service::{
        App,
        dehydrated::{self, Dehydrated, DehydrationError},
        keys::Uploaded,
    },
};

const PATHS: &[&str] = &["/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"];

pub(crate) struct Put;

impl Proposal for Put {
    const METHOD: Method = Method::PUT;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub(crate) async fn put(app: App, user: User, request: Proposed<Put>) -> Result<JsonAnswer<Value>, Error> {
    #[derive(Deserialize)]
    struct Body {
        device_id: OwnedDeviceId,
        initial_device_display_name: Option<String>,
        device_data: Box<RawValue>,
        device_keys: Box<RawValue>,
        #[serde(default)]
        one_time_keys: BTreeMap<String, Box<RawValue>>,
        #[serde(default)]
        fallback_keys: BTreeMap<String, Box<RawValue>>,
    }
    let body: Body = request.body()?;
    if serde_json::from_str::<Map<String, Value>>(body.device_data.get()).is_err() {
        return Err(Error::bad_json("A device's data is an object"));
    }
    let texts = |keys: BTreeMap<String, Box<RawValue>>| {
        keys.into_iter().map(|(id, key)| (id, String::from(Box::<str>::from(key)))).collect()
    };
    let device = Dehydrated {
        id: body.device_id.clone(),
        display_name: body.initial_device_display_name,
        data: body.device_data.get().to_owned(),
        keys: Uploaded {
            device_keys: Some(body.device_keys.get().to_owned()),
            one_time_keys: texts(body.one_time_keys),
            fallback_keys: texts(body.fallback_keys),
        },
    };
    dehydrated::dehydrate(&app, &user, device).await?;
    Ok(JsonAnswer(json!({ "device_id": body.device_id })))
}

pub(crate) struct Get;

impl Proposal for Get {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub(crate) async fn get(app: App, user: User, _: Proposed<Get>) -> Result<JsonAnswer<Value>, Error> {
    let device = dehydrated::device(&app, user.number).await?;
    let data: Value = serde_json::from_str(&device.data).map_err(Error::internal)?;
    Ok(JsonAnswer(json!({"device_id": device.id, "device_data": data})))
}

pub(crate) struct Delete;

impl Proposal for Delete {
    const METHOD: Method = Method::DELETE;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub(crate) async fn remove(app: App, user: User, _: Proposed<Delete>) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(json!({"device_id": dehydrated::remove(&app, user.number).await?})))
}

const EVENTS: &[&str] =
    &["/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events"];

#[derive(Deserialize)]
struct Page {
    next_batch: Option<String>,
}

pub(crate) struct Events;

impl Proposal for Events {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = EVENTS;
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events`
pub(crate) async fn events(
    app: App,
    user: User,
    request: Proposed<Events>,
) -> Result<JsonAnswer<Value>, Error> {
    let page = request.query()?;
    tell(app, user, request.arguments, page).await
}

pub(crate) struct OldEvents;

impl Proposal for OldEvents {
    const METHOD: Method = Method::POST;
    const PATHS: &'static [&'static str] = EVENTS;
    type Authentication = AccessToken;
}

/// The same as a `POST`, as the proposal had it before.
pub(crate) async fn old_events(
    app: App,
    user: User,
    request: Proposed<OldEvents>,
) -> Result<JsonAnswer<Value>, Error> {
    let page = request.body()?;
    tell(app, user, request.arguments, page).await
}

async fn tell(
    app: App,
    user: User,
    arguments: Vec<String>,
    Page { next_batch }: Page,
) -> Result<JsonAnswer<Value>, Error> {
    let id = arguments.into_iter().next().unwrap_or_default();
    let (events, next) = dehydrated::messages(&app, user.number, id, next_batch).await?;
    Ok(JsonAnswer(json!({"events": events, "next_batch": next})))
}

impl From<DehydrationError> for Error {
    fn from(error: DehydrationError) -> Self {
        match error {
            DehydrationError::None => Self::not_found("You have no dehydrated device"),
            DehydrationError::Other => Self::forbidden("This is not your dehydrated device"),
            DehydrationError::InUse => Self::invalid_param("Somebody is logged in with this device"),
            DehydrationError::TooLarge => Self::too_large("The device's data takes too much"),
            DehydrationError::Token => Self::invalid_param("The token is not one of this server's"),
            DehydrationError::Device(error) => error.into(),
            DehydrationError::Key(error) => error.into(),
            DehydrationError::Store(error) => error.into(),
        }
    }
}
