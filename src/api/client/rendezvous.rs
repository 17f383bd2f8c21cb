//! Where two devices meet for signing in by a QR code. <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>, and by
//! the way of 2024, which is known by its path,
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/87f8317a902cd7bc5c2d2d225f71021b3a509e2d/proposals/4108-oidc-qr-login.md>
//!
//! Anybody may open a place, since a device on which nobody is signed in may be the one that shows the code.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPIRES, HOST, IF_MATCH, IF_NONE_MATCH,
        LAST_MODIFIED, PRAGMA, X_CONTENT_TYPE_OPTIONS,
    },
};
use ruma::{
    MilliSecondsSinceUnixEpoch, api::auth_scheme::NoAuthentication, http_headers::system_time_to_http_date,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    api::{
        Anyone, Body, Error, Inbound, Streamed,
        custom::JsonAnswer,
        file::names,
        proposed::{Proposal, Proposed},
    },
    base::{clock::Timestamp, unambiguous},
    service::{
        App,
        rendezvous::{self, Place, PlaceError, Way},
    },
};

pub(crate) struct Discover;

impl Proposal for Discover {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &[JSON];
    type Authentication = NoAuthentication;
}

/// `GET /_matrix/client/unstable/io.element.msc4388/rendezvous`
pub(crate) async fn discover(_: App, _: Anyone, _: Proposed<Discover>) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(json!({"create_available": true})))
}

pub(crate) struct Open;

impl Proposal for Open {
    const METHOD: Method = Method::POST;
    const PATHS: &'static [&'static str] = &[TAGGED, JSON];
    type Authentication = NoAuthentication;
}

/// `POST /_matrix/client/unstable/io.element.msc4388/rendezvous`, and by the other way
pub(crate) async fn open(
    app: App,
    _: Anyone,
    Streamed { request, headers, client, body, .. }: Streamed<Proposed<Open>>,
) -> Result<Response<Body>, Error> {
    #[derive(Deserialize)]
    struct Wanted {
        data: String,
    }
    let body = whole(body)?;
    if request.path == JSON {
        let Wanted { data } = parsed(&body)?;
        let (name, place) = rendezvous::open(&app, client, Way::Json, data.into())?;
        let told = json!({"id": name, "sequence_token": place.token, "expires_in_ms": left(&app, &place)});
        return of_json(told);
    }
    is_plain(&headers)?;
    let (name, place) = rendezvous::open(&app, client, Way::Tagged, body)?;
    let base = match app.well_known.client_url.as_ref() {
        Some(url) => url.as_str().to_owned(),
        None => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            format!("https://{}", host.unwrap_or(app.server_name.as_str()))
        }
    };
    let mut response = of_json(json!({"url": format!("{base}{TAGGED}/{name}")}))?;
    *response.status_mut() = StatusCode::CREATED;
    tagged(response, &place)
}

pub(crate) struct Look;

impl Proposal for Look {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = PLACES;
    type Authentication = NoAuthentication;
}

/// `GET /_matrix/client/unstable/io.element.msc4388/rendezvous/{rendezvousId}`, and by the other way
pub(crate) async fn look(
    app: App,
    _: Anyone,
    Streamed { request, headers, .. }: Streamed<Proposed<Look>>,
) -> Result<Response<Body>, Error> {
    // Nobody shall be led to look at what a stranger wrote there as if it were a page of this server.
    if headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate") {
        return Err(Error::forbidden("This is nothing to look at"));
    }
    let (way, name) = at(&request);
    let place = rendezvous::look(&app, name).and_then(|place| of_way(place, way))?;
    if way == Way::Json {
        let data = std::str::from_utf8(&place.payload).map_err(Error::internal)?;
        let left = left(&app, &place);
        return of_json(json!({"data": data, "sequence_token": place.token, "expires_in_ms": left}));
    }
    let tag = tag(&place);
    let mut response = Response::new(Body::Whole(place.payload.clone()));
    set(&mut response, CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    set(&mut response, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if headers.get_all(IF_NONE_MATCH).iter().any(|value| names(value, &tag)) {
        response = Response::new(Body::Whole(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    tagged(response, &place)
}

pub(crate) struct Replace;

impl Proposal for Replace {
    const METHOD: Method = Method::PUT;
    const PATHS: &'static [&'static str] = PLACES;
    type Authentication = NoAuthentication;
}

/// `PUT /_matrix/client/unstable/io.element.msc4388/rendezvous/{rendezvousId}`, and by the other way
pub(crate) async fn replace(
    app: App,
    _: Anyone,
    Streamed { request, headers, body, .. }: Streamed<Proposed<Replace>>,
) -> Result<Response<Body>, Error> {
    #[derive(Deserialize)]
    struct Wanted {
        sequence_token: String,
        data: String,
    }
    let (body, (way, name)) = (whole(body)?, at(&request));
    let is_there = || rendezvous::look(&app, name).and_then(|place| of_way(place, way));
    if way == Way::Json {
        let Wanted { sequence_token, data } = parsed(&body)?;
        is_there()?;
        let place = rendezvous::replace(&app, name, &sequence_token, data.into())?;
        return of_json(json!({"sequence_token": place.token}));
    }
    is_plain(&headers)?;
    let tag = headers.get(IF_MATCH).ok_or_else(|| Error::missing_param("`If-Match` is missing"))?;
    let token = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
    let token = token.ok_or_else(|| Error::invalid_param("`If-Match` has one tag, in quotes"))?;
    is_there()?;
    let (status, place, told) = match rendezvous::replace(&app, name, token, body) {
        Ok(place) => (StatusCode::ACCEPTED, place, None),
        Err(PlaceError::Replaced(place)) => {
            let told = json!({
                "errcode": "M_UNKNOWN", "org.matrix.msc4108.errcode": "M_CONCURRENT_WRITE", "error": REPLACED,
            });
            (StatusCode::PRECONDITION_FAILED, *place, Some(told))
        }
        Err(error) => return Err(error.into()),
    };
    let mut response = told.map_or_else(|| Ok(Response::new(Body::Whole(Bytes::new()))), of_json)?;
    *response.status_mut() = status;
    tagged(response, &place)
}

pub(crate) struct Close;

impl Proposal for Close {
    const METHOD: Method = Method::DELETE;
    const PATHS: &'static [&'static str] = PLACES;
    type Authentication = NoAuthentication;
}

/// `DELETE /_matrix/client/unstable/io.element.msc4388/rendezvous/{rendezvousId}`, and by the other way
pub(crate) async fn close(
    app: App,
    _: Anyone,
    Streamed { request, .. }: Streamed<Proposed<Close>>,
) -> Result<Response<Body>, Error> {
    let (way, name) = at(&request);
    rendezvous::look(&app, name).and_then(|place| of_way(place, way))?;
    rendezvous::close(&app, name)?;
    if way == Way::Json {
        return of_json(json!({}));
    }
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The way that a path is of, and the name of the place in it.
fn at<P>(request: &Proposed<P>) -> (Way, &str) {
    let way = if request.path.starts_with(JSON) { Way::Json } else { Way::Tagged };
    (way, request.arguments.first().map(String::as_str).unwrap_or_default())
}

/// No way leads to a place of the other.
fn of_way(place: Place, way: Way) -> Result<Place, PlaceError> {
    Some(place).filter(|place| place.way == way).ok_or(PlaceError::Unknown)
}

fn whole(body: Inbound) -> Result<Bytes, Error> {
    match body {
        Inbound::Whole(body) => Ok(body),
        Inbound::Stream(_) => Err(Error::internal("a stream for a handler of whole requests")),
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    unambiguous::check(body)?;
    serde_json::from_slice(body).map_err(|error| Error::bad_json(error.to_string()))
}

/// Checks what is said of a body that is a payload.
fn is_plain(headers: &HeaderMap) -> Result<(), Error> {
    let Some(kind) = headers.get(CONTENT_TYPE).filter(|_| headers.contains_key(CONTENT_LENGTH)) else {
        return Err(Error::missing_param("`Content-Type` or `Content-Length` is missing"));
    };
    let kind = kind.to_str().ok().and_then(|kind| kind.split(';').next());
    if kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain")) {
        return Ok(());
    }
    Err(Error::invalid_param("The payload is `text/plain`"))
}

/// In how many milliseconds a place ends.
fn left(app: &App, place: &Place) -> u64 {
    place.ends.since(app.clock.now()).as_millis() as u64
}

fn of_json(told: Value) -> Result<Response<Body>, Error> {
    let json = serde_json::to_vec(&told).map_err(Error::internal)?;
    let mut response = Response::new(Body::Whole(json.into()));
    set(&mut response, CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn tag(place: &Place) -> String {
    format!("\"{}\"", place.token)
}

/// Adds what every answer about a place tells by that way.
fn tagged(mut response: Response<Body>, place: &Place) -> Result<Response<Body>, Error> {
    let date = |time: Timestamp| {
        let time = MilliSecondsSinceUnixEpoch::from(time).to_system_time();
        let time = time.ok_or_else(|| Error::internal("a time that no system has"))?;
        system_time_to_http_date(&time).map_err(Error::internal)
    };
    let tag = HeaderValue::try_from(tag(place)).map_err(Error::internal)?;
    for (name, value) in [
        (ETAG, tag),
        (EXPIRES, date(place.ends)?),
        (LAST_MODIFIED, date(place.changed)?),
        // Nothing between may answer in this server's place, or change the tags.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (PRAGMA, HeaderValue::from_static("no-cache")),
    ] {
        set(&mut response, name, value);
    }
    Ok(response)
}

fn set(response: &mut Response<Body>, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

impl From<PlaceError> for Error {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Unknown => Self::not_found("There is no such rendezvous, or no longer"),
            PlaceError::TooLarge => Self::too_large("A payload has at most 4096 bytes"),
            PlaceError::Replaced(_) => {
                Self::coded(StatusCode::CONFLICT, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE", REPLACED)
            }
        }
    }
}

const TAGGED: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const JSON: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";
const PLACES: &[&str] = &[
    "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}",
    "/_matrix/client/unstable/io.element.msc4388/rendezvous/{id}",
];
const REPLACED: &str = "The payload was replaced before";
