//! The routes against the specification's list of operations, `tests/data/operations.tsv`: nothing is served that it
//! doesn't know, nothing without the authentication and the rate limit that it asks for, and all but what is named here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tayberry::{
    api,
    base::ids::UserNumber,
    store::{StoreError, Transaction},
};

use crate::rig::{Reply, Rig};

/// What the specification says of an operation.
struct Operation {
    authentication: String,
    rate_limited: bool,
}

/// A method, and a path in which a variable is `{}`.
type Route = (String, String);

/// The operations that are not served. Whatever comes to be served has no line here.
const NOT_SERVED: &[(&str, &str)] = &[
    // Addresses of e-mail and telephone, by which an identity server finds people.
    ("GET", "/_matrix/client/v3/account/3pid"),
    ("POST", "/_matrix/client/v3/account/3pid"),
    ("POST", "/_matrix/client/v3/account/3pid/add"),
    ("POST", "/_matrix/client/v3/account/3pid/bind"),
    ("POST", "/_matrix/client/v3/account/3pid/delete"),
    ("POST", "/_matrix/client/v3/account/3pid/email/requestToken"),
    ("POST", "/_matrix/client/v3/account/3pid/msisdn/requestToken"),
    ("POST", "/_matrix/client/v3/account/3pid/unbind"),
    ("POST", "/_matrix/client/v3/account/password/email/requestToken"),
    ("POST", "/_matrix/client/v3/account/password/msisdn/requestToken"),
    ("POST", "/_matrix/client/v3/register/email/requestToken"),
    ("POST", "/_matrix/client/v3/register/msisdn/requestToken"),
    ("PUT", "/_matrix/federation/v1/3pid/onbind"),
    ("PUT", "/_matrix/federation/v1/exchange_third_party_invite/{}"),
    // Application services, and the networks that they lead to.
    ("POST", "/_matrix/client/v1/appservice/{}/ping"),
    ("PUT", "/_matrix/client/v3/directory/list/appservice/{}/{}"),
    ("GET", "/_matrix/client/v3/thirdparty/location"),
    ("GET", "/_matrix/client/v3/thirdparty/location/{}"),
    ("GET", "/_matrix/client/v3/thirdparty/protocol/{}"),
    ("GET", "/_matrix/client/v3/thirdparty/protocols"),
    ("GET", "/_matrix/client/v3/thirdparty/user"),
    ("GET", "/_matrix/client/v3/thirdparty/user/{}"),
    // Of its kind, those that the specification names have paths of their own.
];

/// What isn't the specification's, or is so no more.
const OTHERS: &[(&str, &str)] = &[
    ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"),
    ("GET", "/_synapse/admin/v1/register"),
    ("POST", "/_synapse/admin/v1/register"),
    (
        "PUT",
        "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    ),
    ("GET", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"),
    ("GET", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}"),
    ("POST", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}"),
    ("GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"),
    ("PUT", "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription"),
    ("DELETE", "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription"),
    ("GET", "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription"),
    ("GET", "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"),
    ("GET", "/_matrix/client/unstable/io.element.msc4388/rendezvous"),
    ("POST", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"),
    ("GET", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}"),
    ("PUT", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}"),
    ("DELETE", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}"),
    ("PUT", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"),
    ("GET", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"),
    ("DELETE", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"),
    ("GET", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events"),
    ("POST", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events"),
    ("GET", "/_matrix/static/client/login/"),
    ("GET", "/_matrix/client/v3/auth/m.login.sso/fallback/web"),
    ("GET", "/_matrix/client/v3/auth/{auth_type}/fallback/web"),
    ("POST", "/_matrix/client/v3/auth/{auth_type}/fallback/web"),
    ("GET", "/_tayberry/sso/account/{idp_id}"),
    ("GET", "/_tayberry/sso/callback/{idp_id}"),
    ("POST", "/_tayberry/sso/continue"),
    ("PUT", "/_matrix/federation/v1/send_join/{room_id}/{event_id}"),
    ("PUT", "/_matrix/federation/v1/send_leave/{room_id}/{event_id}"),
    ("POST", "/oauth/clients"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/revoke"),
    ("POST", "/oauth/device_authorization"),
    ("GET", "/oauth/authorize"),
    ("POST", "/oauth/authorize"),
    ("GET", "/oauth/client"),
    ("POST", "/oauth/client"),
    ("GET", "/oauth/sign-in"),
    ("POST", "/oauth/sign-in"),
    ("GET", "/oauth/signed-in"),
    ("POST", "/oauth/sign-out"),
    ("GET", "/oauth/register"),
    ("POST", "/oauth/register"),
    ("GET", "/oauth/link"),
    ("POST", "/oauth/link"),
    ("GET", "/oauth/account"),
    ("POST", "/oauth/account"),
];

/// Those of them that are not limited: sync waits, and the old ways into and out of rooms are as the new ones.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_joinroomideventid>
const UNLIMITED_OTHERS: &[&str] = &[
    "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    "/_matrix/federation/v1/send_join/{room_id}/{event_id}",
    "/_matrix/federation/v1/send_leave/{room_id}/{event_id}",
];

fn operations() -> BTreeMap<Route, Operation> {
    let lines = include_str!("../data/operations.tsv").lines().filter(|line| !line.starts_with('#'));
    let operations = lines.map(|line| {
        let [method, path, authentication, limited] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let operation =
            Operation { authentication: authentication.to_owned(), rate_limited: limited == "yes" };
        ((method.to_owned(), shape(path)), operation)
    });
    operations.collect()
}

/// The path with the names of its variables left out.
fn shape(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn routes(endpoint: &api::Endpoint) -> impl Iterator<Item = Route> {
    endpoint.paths.iter().map(|path| (endpoint.method.to_string(), shape(path)))
}

/// Each endpoint with the first of its routes that the specification has.
fn served(operations: &BTreeMap<Route, Operation>) -> Vec<(api::Endpoint, Option<Route>)> {
    let endpoints = api::routes().into_endpoints().into_iter().map(|endpoint| {
        let specified = routes(&endpoint).find(|route| operations.contains_key(route));
        (endpoint, specified)
    });
    endpoints.collect()
}

#[test]
fn what_is_served_is_specified_and_the_rest_is_known() {
    let operations = operations();
    let served = served(&operations);
    for (endpoint, route) in &served {
        let is_other =
            OTHERS.iter().any(|(method, path)| endpoint.method == *method && endpoint.paths[0] == *path);
        assert!(route.is_some() || is_other, "{} {:?} is no operation", endpoint.method, endpoint.paths);
    }
    let routes: BTreeSet<Route> = served.iter().flat_map(|(endpoint, _)| routes(endpoint)).collect();
    let lacking: BTreeSet<_> = operations.keys().filter(|route| !routes.contains(*route)).collect();
    let named: Vec<Route> =
        NOT_SERVED.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(lacking, named.iter().collect(), "on the left, what is not served");
}

#[test]
fn what_is_to_be_rate_limited_is() {
    let operations = operations();
    for (endpoint, route) in served(&operations) {
        let wanted = match route {
            Some(route) => operations[&route].rate_limited,
            None => !UNLIMITED_OTHERS.contains(&&*endpoint.paths[0]),
        };
        assert!(endpoint.rate_limited || !wanted, "{} {:?}", endpoint.method, endpoint.paths);
    }
}

#[tokio::test]
async fn only_what_is_open_answers_without_a_token() {
    let rig = Rig::start().await;
    let operations = operations();
    for route in served(&operations).into_iter().filter_map(|(_, route)| route) {
        let reply = rig.send(&route.0, &route.1.replace("{}", "x"), None, Value::Null).await;
        let refused = reply.error() == (401, "M_MISSING_TOKEN");
        match operations[&route].authentication.as_str() {
            "user" => assert!(refused, "{route:?}: {reply:?}"),
            "server" => assert_eq!(reply.error(), (401, "M_UNAUTHORIZED"), "{route:?}: {reply:?}"),
            "none" => assert!(!refused, "{route:?}: {reply:?}"),
            _ => {}
        }
    }
}

/// What changes something and is left to the suspended: their own sessions, keys, settings and rooms to leave.
/// <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>
const LEFT_TO_THE_SUSPENDED: &[(&str, &str)] = &[
    ("POST", "/_matrix/client/v1/login/get_token"),
    ("POST", "/_matrix/client/v3/account/deactivate"),
    ("POST", "/_matrix/client/v3/account/password"),
    ("POST", "/_matrix/client/v3/delete_devices"),
    ("DELETE", "/_matrix/client/v3/devices/{}"),
    ("PUT", "/_matrix/client/v3/devices/{}"),
    ("POST", "/_matrix/client/v3/keys/claim"),
    ("POST", "/_matrix/client/v3/keys/device_signing/upload"),
    ("POST", "/_matrix/client/v3/keys/query"),
    ("POST", "/_matrix/client/v3/keys/signatures/upload"),
    ("POST", "/_matrix/client/v3/keys/upload"),
    ("POST", "/_matrix/client/v3/logout"),
    ("POST", "/_matrix/client/v3/logout/all"),
    ("POST", "/_matrix/client/v3/pushers/set"),
    ("DELETE", "/_matrix/client/v3/pushrules/global/{}/{}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/{}/{}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/{}/{}/actions"),
    ("PUT", "/_matrix/client/v3/pushrules/global/{}/{}/enabled"),
    ("DELETE", "/_matrix/client/v3/room_keys/keys"),
    ("PUT", "/_matrix/client/v3/room_keys/keys"),
    ("DELETE", "/_matrix/client/v3/room_keys/keys/{}"),
    ("PUT", "/_matrix/client/v3/room_keys/keys/{}"),
    ("DELETE", "/_matrix/client/v3/room_keys/keys/{}/{}"),
    ("PUT", "/_matrix/client/v3/room_keys/keys/{}/{}"),
    ("POST", "/_matrix/client/v3/room_keys/version"),
    ("DELETE", "/_matrix/client/v3/room_keys/version/{}"),
    ("PUT", "/_matrix/client/v3/room_keys/version/{}"),
    ("POST", "/_matrix/client/v3/rooms/{}/leave"),
    // Of these two, only what is nobody else's.
    ("POST", "/_matrix/client/v3/rooms/{}/read_markers"),
    ("PUT", "/_matrix/client/v3/rooms/{}/redact/{}/{}"),
    // To their own devices.
    ("PUT", "/_matrix/client/v3/sendToDevice/{}/{}"),
    ("PUT", "/_matrix/client/v3/user/{}/account_data/{}"),
    ("POST", "/_matrix/client/v3/user/{}/filter"),
    ("PUT", "/_matrix/client/v3/user/{}/rooms/{}/account_data/{}"),
    ("DELETE", "/_matrix/client/v3/user/{}/rooms/{}/tags/{}"),
    ("PUT", "/_matrix/client/v3/user/{}/rooms/{}/tags/{}"),
];

// RULES R47
#[tokio::test]
async fn the_locked_only_log_out() {
    for (route, reply) in answers(|transaction, user| transaction.set_locked(user, true)).await {
        if route.1.contains("/logout") {
            reply.ok();
        } else {
            assert_eq!(reply.error(), (401, "M_USER_LOCKED"), "{route:?}");
            assert_eq!(reply.body["soft_logout"], true, "{route:?}");
        }
    }
}

// RULES R47
#[tokio::test]
async fn the_suspended_read_and_do_what_is_left_to_them() {
    let mut left = BTreeSet::new();
    for (route, reply) in answers(|transaction, user| transaction.set_suspended(user, true)).await {
        let is_refused = reply.error() == (403, "M_USER_SUSPENDED");
        if route.0 == "GET" {
            assert!(!is_refused, "{route:?}");
        } else if !is_refused {
            left.insert(route);
        }
    }
    let listed =
        LEFT_TO_THE_SUSPENDED.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(left, listed.collect());
}

/// What each route that looks at a user's token answers to a user whose account was changed so.
async fn answers(
    change: fn(&mut Transaction<'_>, UserNumber) -> Result<(), StoreError>,
) -> Vec<(Route, Reply)> {
    let rig = Rig::start().await;
    let (alice, other) = (rig.register("alice").await, rig.log_in("alice").await);
    let changed = rig.app.store.write(move |transaction| {
        let number = transaction.account("alice")?.unwrap().number;
        change(transaction, number)
    });
    changed.await.unwrap();
    let operations = operations();
    let mut routes: Vec<Route> = served(&operations).into_iter().filter_map(|(_, route)| route).collect();
    routes.retain(|route| match operations[route].authentication.as_str() {
        "user" => true,
        "optional" => route.1 != "/_matrix/client/versions",
        _ => false,
    });
    // That one ends every session.
    routes.sort_by_key(|route| route.1.ends_with("/logout/all"));
    let mut answers = Vec::new();
    for route in routes {
        let who = if route.1.ends_with("/logout") { &other } else { &alice };
        let reply = rig.send_as(who, &route.0, &route.1.replace("{}", "x"), Value::Null).await;
        answers.push((route, reply));
    }
    answers
}
