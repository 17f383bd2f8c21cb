//! Where a device on which somebody wants to sign in and one on which they are meet: a place that holds one payload, which
//! either may read and replace. What they say there is sealed between them, so whoever knows the place's name may ask.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>, and the way before that,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4108>

use std::net::IpAddr;

use bytes::Bytes;

use super::App;
use crate::base::{clock::Timestamp, expiring::Expiring, limits};

/// The places that there are. They end with the server.
pub type Places = Expiring<Place>;

/// By which way a place was made, and is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Payloads are bodies, told apart by their tags.
    Tagged,
    /// Payloads are texts in JSON.
    Json,
}

/// A place, as it is.
#[derive(Clone, Debug)]
pub struct Place {
    pub way: Way,
    pub payload: Bytes,
    /// Which of the payloads this is: no other has it, here or elsewhere.
    pub token: String,
    pub changed: Timestamp,
    pub ends: Timestamp,
}

/// Why a payload is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("there is no such place, or no longer")]
    Unknown,
    #[error("the payload is too large")]
    TooLarge,
    /// The place as it is.
    #[error("somebody replaced the payload before")]
    Replaced(Box<Place>),
}

/// Makes a place for a client, if that is known, and gives its name.
pub fn open(
    app: &App,
    client: Option<IpAddr>,
    way: Way,
    payload: Bytes,
) -> Result<(String, Place), PlaceError> {
    let (name, now) = (app.rng.token(), app.clock.now());
    let ends = now.plus(limits::RENDEZVOUS_LIFETIME);
    let place = Place { way, payload: fitting(payload)?, token: app.rng.token(), changed: now, ends };
    app.places.insert(client, name.clone(), place.clone(), now);
    Ok((name, place))
}

/// A place as it is.
pub fn look(app: &App, name: &str) -> Result<Place, PlaceError> {
    app.places.get(name, app.clock.now()).ok_or(PlaceError::Unknown)
}

/// Replaces the payload whose token is given. Who does so again as they don't know that they did has done so, where the way
/// lets them.
pub fn replace(app: &App, name: &str, token: &str, payload: Bytes) -> Result<Place, PlaceError> {
    let (payload, now, next) = (fitting(payload)?, app.clock.now(), app.rng.token());
    let replaced = app.places.update(name, now, |place| {
        if place.token == token {
            *place = Place { payload, token: next, changed: now, ..place.clone() };
        } else if place.way != Way::Json || place.payload != payload {
            return Err(PlaceError::Replaced(Box::new(place.clone())));
        }
        Ok(place.clone())
    });
    replaced.ok_or(PlaceError::Unknown)?
}

/// Ends a place.
pub fn close(app: &App, name: &str) -> Result<(), PlaceError> {
    app.places.take_if(name, app.clock.now(), |_| true).map(|_| ()).ok_or(PlaceError::Unknown)
}

fn fitting(payload: Bytes) -> Result<Bytes, PlaceError> {
    if payload.len() > limits::RENDEZVOUS_BYTES { Err(PlaceError::TooLarge) } else { Ok(payload) }
}
