//! What this server is and where: asked before anybody logs in.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-discovery>

use ruma::api::client::discovery::{
    discover_homeserver, discover_support, get_authorization_server_metadata, get_supported_versions,
};
use serde_json::{Value, json};

use crate::{
    api::{
        Anyone, Error,
        custom::{AsKept, JsonAnswer},
        oauth,
    },
    config::{Contact, WellKnown},
    service::{App, calls},
};

/// `GET /_matrix/client/versions`
pub(crate) async fn versions(
    _app: App,
    _caller: Anyone,
    _request: get_supported_versions::Request,
) -> Result<get_supported_versions::Response, Error> {
    let mut response = get_supported_versions::Response::new(VERSIONS.map(String::from).to_vec());
    response.unstable_features = FEATURES.map(|feature| (feature.to_owned(), true)).into();
    Ok(response)
}

/// `GET /.well-known/matrix/client`
pub(crate) async fn well_known(
    app: App,
    _caller: Anyone,
    _request: AsKept<discover_homeserver::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    let url = app.well_known.client_url.as_ref();
    let url = url.ok_or_else(|| Error::not_found("No client address is configured"))?;
    let mut told = json!({"m.homeserver": {"base_url": url.as_str()}});
    let transports = calls::transports(&app);
    if !transports.is_empty() {
        told["org.matrix.msc4143.rtc_foci"] = transports.into();
    }
    Ok(JsonAnswer(told))
}

/// `GET /.well-known/matrix/support`
pub(crate) async fn support(
    app: App,
    _caller: Anyone,
    _request: discover_support::Request,
) -> Result<discover_support::Response, Error> {
    let WellKnown { contacts, support_page, .. } = &app.well_known;
    if contacts.is_empty() && support_page.is_none() {
        return Err(Error::not_found("Nobody to turn to is configured"));
    }
    let contacts = contacts.iter().filter_map(|contact| {
        let Contact { matrix_id, email_address, role } = contact.clone();
        let mut told = match (&matrix_id, &email_address) {
            (Some(id), _) => discover_support::Contact::with_matrix_id(role.into(), id.clone()),
            (None, email) => discover_support::Contact::with_email_address(role.into(), email.clone()?),
        };
        told.email_address = email_address;
        Some(told)
    });
    let mut response = discover_support::Response::with_contacts(contacts.collect());
    response.support_page = support_page.as_ref().map(|page| page.as_str().to_owned());
    Ok(response)
}

/// `GET /_matrix/client/v1/auth_metadata`
pub(crate) async fn auth_metadata(
    app: App,
    _caller: Anyone,
    _request: AsKept<get_authorization_server_metadata::v1::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(oauth::metadata(&app).ok_or_else(Error::unrecognized)?))
}

/// The versions of the specification whose paths and shapes are served.
const VERSIONS: [&str; 21] = [
    "r0.5.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// What clients look for by other names than a version's: paths of proposals that are served, and, as `stable`, the
/// paths and shapes that the specification made of a proposal.
const FEATURES: [&str; 27] = [
    "com.beeper.msc4169",
    "fi.mau.msc2246",
    "fi.mau.msc2246.stable",
    "org.matrix.msc2285.stable",
    "org.matrix.msc2432",
    "org.matrix.msc3030",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3715.stable",
    "org.matrix.msc3771",
    "org.matrix.msc3856",
    "org.matrix.msc3856.stable",
    "org.matrix.msc3916",
    "org.matrix.msc3916.stable",
    "org.matrix.msc4108",
    "org.matrix.msc4140",
    "org.matrix.msc4140.stable",
    "org.matrix.msc4143",
    "org.matrix.msc4155",
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    "org.matrix.simplified_msc3575",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    "uk.timedout.msc4323",
    "uk.timedout.msc4323.stable",
];
