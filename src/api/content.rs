//! What clients put into events.

use ruma::serde::Raw;

use super::Error;
use crate::base::json::Object;

/// The content of an event, with any numbers: whether they may be there, its room's version says.
/// <https://spec.matrix.org/v1.19/rooms/v6/#canonical-json>
///
/// # Errors
/// It is no object, repeats a key or is nested too deep.
pub(super) fn object<T>(raw: &Raw<T>) -> Result<Object, Error> {
    Object::parse(raw.json().get()).map_err(|error| {
        Error::bad_json(format!("An event's content is no JSON object that can be kept: {error}"))
    })
}
