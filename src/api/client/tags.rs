//! Tagging rooms. <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use ruma::api::client::tag::{create_tag, delete_tag, get_tags};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        Error, User,
        caller::EvenSuspended,
        custom::{AsKept, JsonAnswer, Unparsed},
    },
    base::limits,
    service::{
        App,
        tags::{self, Tags},
    },
};

/// What a room is tagged with.
#[derive(Serialize)]
pub(crate) struct Tagged {
    tags: Tags,
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
pub(crate) async fn get(
    app: App,
    user: User,
    AsKept { request, .. }: AsKept<get_tags::v3::Request, Tagged>,
) -> Result<JsonAnswer<Tagged>, Error> {
    user.must_be(&request.user_id)?;
    Ok(JsonAnswer(Tagged { tags: tags::tags(&app, user.number, request.room_id).await? }))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub(crate) async fn set(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: Unparsed<create_tag::v3::Request>,
) -> Result<create_tag::v3::Response, Error> {
    match request.body.get("order") {
        // Clients say so what they mean by leaving it out.
        None | Some(Value::Null) => {}
        Some(Value::Number(order)) if order.as_f64().is_some_and(|order| (0.0..=1.0).contains(&order)) => {}
        Some(Value::Number(_)) => return Err(Error::invalid_param("The order is a number between 0 and 1")),
        Some(_) => return Err(Error::bad_json("The order is a number between 0 and 1")),
    }
    // ruma would lose what else is in it, and how the order was written.
    let tag = request.raw()?;
    let request = request.parse()?;
    user.must_be(&request.user_id)?;
    if request.tag.len() > limits::TAG_BYTES {
        return Err(Error::invalid_param("A tag's name has at most 255 bytes"));
    }
    tags::set(&app, user.number, request.room_id, request.tag, tag).await?;
    Ok(create_tag::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub(crate) async fn remove(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_tag::v3::Request,
) -> Result<delete_tag::v3::Response, Error> {
    user.must_be(&request.user_id)?;
    tags::remove(&app, user.number, request.room_id, request.tag).await?;
    Ok(delete_tag::v3::Response::new())
}
