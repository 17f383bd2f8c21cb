//! What clients put into events.

use ruma::{CanonicalJsonObject, serde::Raw};

use super::Error;

/// The content of an event as canonical JSON, which has no fractions and no integers beyond 53 bits.
/// <https://spec.matrix.org/v1.19/appendices/#canonical-json>
///
/// # Errors
/// It is something else.
pub(super) fn canonical<T>(raw: &Raw<T>) -> Result<CanonicalJsonObject, Error> {
    serde_json::from_str(raw.json().get()).map_err(|_| {
        Error::bad_json("An event's content is an object whose numbers are integers of at most 53 bits")
    })
}
