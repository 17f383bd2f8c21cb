//! The route table: which endpoint a method and a path mean.
//!
//! Paths are matched as they came, so that an encoded slash is part of a variable; only variables are decoded.

use std::collections::BTreeMap;

use http::{HeaderValue, Method};

use super::path;
use crate::api::{Endpoint, Error, Routes};

/// All endpoints by path and method.
pub struct Router {
    endpoints: Vec<Endpoint>,
    paths: matchit::Router<Methods>,
}

/// What a request's method and path mean.
pub struct Route<'a> {
    pub endpoint: &'a Endpoint,
    /// The path as a pattern, which names no room and no user: for logs.
    pub pattern: &'a str,
    /// The path's variables, in order and decoded.
    pub arguments: Vec<String>,
}

/// The endpoints of one path, as indexes: one a method.
struct Methods {
    pattern: String,
    endpoints: Vec<usize>,
}

impl Router {
    /// Builds the table. Two endpoints of one method and path are a mistake in the route list.
    pub fn new(routes: Routes) -> Self {
        let endpoints = routes.into_endpoints();
        let mut by_pattern: BTreeMap<String, Methods> = BTreeMap::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            for path in &endpoint.paths {
                let methods = by_pattern
                    .entry(with_numbered_variables(path))
                    .or_insert_with(|| Methods { pattern: path.to_string(), endpoints: Vec::new() });
                let twice = methods.endpoints.iter().any(|&other| endpoints[other].method == endpoint.method);
                assert!(!twice, "{} {path} is routed twice", endpoint.method);
                methods.endpoints.push(index);
            }
        }
        let mut paths = matchit::Router::new();
        for (pattern, methods) in by_pattern {
            paths.insert(pattern, methods).expect("paths of ruma's endpoints are patterns");
        }
        Self { endpoints, paths }
    }

    /// Finds the endpoint of a request. `HEAD` is answered as `GET`.
    pub fn find(&self, method: &Method, path: &str) -> Result<Route<'_>, Error> {
        let found = self.paths.at(path).map_err(|_| Error::unrecognized())?;
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let mut endpoints = found.value.endpoints.iter().map(|&index| &self.endpoints[index]);
        let endpoint = endpoints
            .find(|endpoint| endpoint.method == *method)
            .ok_or_else(|| Error::wrong_method(self.allowed(found.value)))?;
        let arguments =
            found.params.iter().map(|(_, value)| path::decode(value)).collect::<Result<_, _>>()?;
        Ok(Route { endpoint, pattern: &found.value.pattern, arguments })
    }

    fn allowed(&self, methods: &Methods) -> HeaderValue {
        let names: Vec<&str> =
            methods.endpoints.iter().map(|&index| self.endpoints[index].method.as_str()).collect();
        HeaderValue::from_str(&names.join(", ")).expect("names of methods are tokens")
    }
}

/// The path with its variables named by their order: two paths that differ only in such names are one.
fn with_numbered_variables(path: &str) -> String {
    let mut number = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        number += 1;
        format!("{{{number}}}")
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use ruma::api::{
        IncomingRequest,
        client::{
            membership::join_room_by_id,
            state::{get_state_event_for_key, send_state_event},
        },
    };

    use super::*;
    use crate::{api::User, service::App};

    async fn refuse<Q: IncomingRequest>(_: App, _: User, _: Q) -> Result<Q::OutgoingResponse, Error> {
        Err(Error::forbidden("Not here"))
    }

    fn router() -> Router {
        let mut routes = Routes::default();
        routes.add(refuse::<get_state_event_for_key::v3::Request>);
        routes.add(refuse::<send_state_event::v3::Request>);
        routes.add(refuse::<join_room_by_id::v3::Request>);
        Router::new(routes)
    }

    #[test]
    fn method_and_path_find_the_endpoint() {
        let router = router();
        let path = "/_matrix/client/v3/rooms/!r/state/m.room.member/%40a%3Ab%2Fc";
        let route = router.find(&Method::PUT, path).unwrap();
        assert_eq!(route.endpoint.method, Method::PUT);
        assert_eq!(route.pattern, "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}");
        assert_eq!(route.arguments, ["!r", "m.room.member", "@a:b/c"]);
        assert_eq!(router.find(&Method::HEAD, path).unwrap().endpoint.method, Method::GET);
        let route = router.find(&Method::GET, "/_matrix/client/r0/rooms/!r/state/m.room.name/").unwrap();
        assert_eq!(route.arguments, ["!r", "m.room.name"]);
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        let router = router();
        let status = |method, path| router.find(&method, path).err().map(|error| error.status().as_u16());
        assert_eq!(status(Method::GET, "/_matrix/client/v3/nothing"), Some(404));
        assert_eq!(status(Method::GET, "/_matrix/client/v3/rooms/!r/join"), Some(405));
        assert_eq!(status(Method::POST, "/_matrix/client/v3/rooms/!r/join"), None);
        assert_eq!(status(Method::POST, "/_matrix/client/v3/rooms/%ff/join"), Some(400));
        assert_eq!(status(Method::POST, "/_matrix/client/v3/rooms//join"), Some(404));
    }

    #[test]
    #[should_panic(expected = "routed twice")]
    fn an_endpoint_is_routed_once() {
        let mut routes = Routes::default();
        routes.add(refuse::<join_room_by_id::v3::Request>);
        routes.add(refuse::<join_room_by_id::v3::Request>);
        Router::new(routes);
    }
}
