//! Sending to devices. <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use ruma::{
    api::client::to_device::send_event_to_device, events::AnyToDeviceEventContent, serde::Raw,
    to_device::DeviceIdOrAllDevices,
};

use crate::{
    api::{Error, caller::EvenSuspended},
    base::{limits, ordered::Ordered},
    service::{
        App,
        to_device::{self, SendError},
    },
};

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
pub(crate) async fn send(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: send_event_to_device::v3::Request,
) -> Result<send_event_to_device::v3::Response, Error> {
    // Somebody who is suspended still verifies devices: their own.
    if user.suspended && request.messages.keys().any(|user_id| *user_id != user.user_id) {
        return Err(Error::user_suspended());
    }
    let (event_type, transaction_id) = (request.event_type.to_string(), request.txn_id.to_string());
    if event_type.len().max(transaction_id.len()) > limits::EVENT_FIELD_BYTES {
        let most = limits::EVENT_FIELD_BYTES;
        return Err(Error::invalid_param(format!(
            "A type and a transaction id have at most {most} bytes each"
        )));
    }
    let messages = request.messages.into_iter().map(|(user_id, messages)| Ok((user_id, texts(messages)?)));
    let messages = messages.try_into_map::<_, _, Error>()?;
    to_device::send(&app, &user, event_type, transaction_id, messages).await?;
    Ok(send_event_to_device::v3::Response::new())
}

/// The contents as they are kept.
fn texts(
    messages: BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>,
) -> Result<BTreeMap<DeviceIdOrAllDevices, String>, Error> {
    let texts = messages.into_iter().map(|(device, content)| match content.into_json() {
        content if content.get().starts_with('{') => Ok((device, Box::<str>::from(content).into_string())),
        _ => Err(Error::bad_json("A message's content is a JSON object")),
    });
    texts.try_into_map()
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LoggedOut => Self::unknown_token(false),
            SendError::TooMuch => Self::too_large("One request may not send so many messages"),
            SendError::Store(error) => error.into(),
        }
    }
}
