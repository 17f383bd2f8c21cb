//! The routes against the specification's list of operations, `tests/data/operations.tsv`: nothing is served that it
//! doesn't know, nothing without the authentication and the rate limit that it asks for, and never less than before.

use std::collections::BTreeMap;

use serde_json::Value;
use tayberry::api;

use crate::rig::Rig;

/// What the specification says of an operation.
struct Operation {
    authentication: String,
    rate_limited: bool,
}

/// A method, and a path in which a variable is `{}`.
type Route = (String, String);

/// How many of the operations are served at least. Raise it.
const SERVED: usize = 29;

/// What isn't the specification's.
const OTHERS: &[(&str, &str)] =
    &[("GET", "/_synapse/admin/v1/register"), ("POST", "/_synapse/admin/v1/register")];

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

/// Each endpoint with the first of its routes that the specification has.
fn served(operations: &BTreeMap<Route, Operation>) -> Vec<(api::Endpoint, Option<Route>)> {
    let endpoints = api::routes().into_endpoints().into_iter().map(|endpoint| {
        let routes = endpoint.paths.iter().map(|path| (endpoint.method.to_string(), shape(path)));
        let specified = routes.into_iter().find(|route| operations.contains_key(route));
        (endpoint, specified)
    });
    endpoints.collect()
}

#[test]
fn what_is_served_is_specified_and_does_not_shrink() {
    let served = served(&operations());
    for (endpoint, route) in &served {
        let is_other =
            OTHERS.iter().any(|(method, path)| endpoint.method == *method && endpoint.paths[0] == *path);
        assert!(route.is_some() || is_other, "{} {:?} is no operation", endpoint.method, endpoint.paths);
    }
    let count = served.iter().filter(|(_, route)| route.is_some()).count();
    assert!(count >= SERVED, "{count} operations are served, and {SERVED} were");
}

#[test]
fn what_is_to_be_rate_limited_is() {
    let operations = operations();
    for (endpoint, route) in served(&operations) {
        let wanted = route.is_some_and(|route| operations[&route].rate_limited);
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
            "none" => assert!(!refused, "{route:?}: {reply:?}"),
            _ => {}
        }
    }
}
