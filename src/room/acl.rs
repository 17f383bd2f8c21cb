//! Server ACLs: which servers a room lets take part.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>

use ruma::{ServerName, events::StateEventType};
use serde_json::{Map, Value};

use super::graph::{Graph, State};
use crate::base::glob::{Wildcards, matches};

/// Whether a state of a room lets a server take part.
///
/// # Errors
/// A look-up failed.
pub fn allows<G: Graph>(server: &ServerName, state: &State, graph: &G) -> Result<bool, G::Error> {
    Ok(list(state, graph)?.is_none_or(|list| list_allows(&list, server)))
}

/// The list by which a state of a room tells servers apart, if it has one.
///
/// # Errors
/// A look-up failed.
pub fn list<G: Graph>(state: &State, graph: &G) -> Result<Option<Map<String, Value>>, G::Error> {
    let event = state.entry(graph, &StateEventType::RoomServerAcl, "")?;
    let event = event.map(|number| graph.event(number)).transpose()?;
    Ok(event.map(|event| event.content_as().unwrap_or_default()))
}

/// Whether such a list lets a server take part. What is no list counts as an empty one, and what in it is no text as
/// nothing.
pub fn list_allows(list: &Map<String, Value>, server: &ServerName) -> bool {
    // Case and port don't tell servers apart here.
    let host = server.host().to_lowercase();
    if server.is_ip_literal() && list.get("allow_ip_literals") == Some(&Value::Bool(false)) {
        return false;
    }
    let names = |field: &str| {
        let patterns = list.get(field).and_then(Value::as_array).into_iter().flatten();
        let mut patterns = patterns.filter_map(Value::as_str);
        patterns.any(|pattern| matches(&pattern.to_lowercase(), &host, Wildcards::StarAndQuestionMark))
    };
    !names("deny") && names("allow")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // RULES R29
    #[test]
    fn lists_are_read_in_order_and_without_regard_to_case_and_port() {
        for (list, server, allowed) in [
            (json!({"allow": ["*"]}), "one.example", true),
            (json!({}), "one.example", false),
            (json!({"allow": "*"}), "one.example", false),
            (json!({"allow": [1, "*"]}), "one.example", true),
            (json!({"allow": ["*"], "deny": ["one.example"]}), "one.example", false),
            (json!({"allow": ["*"], "deny": ["ONE.example"]}), "one.EXAMPLE:8448", false),
            (json!({"allow": ["*"], "deny": ["*.example"]}), "one.example", false),
            (json!({"allow": ["*"], "deny": ["*.example"]}), "example", true),
            (json!({"allow": ["?ne.example"]}), "one.example", true),
            (json!({"allow": ["one"]}), "one.example", false),
            (json!({"allow": ["*"]}), "1.2.3.4:80", true),
            (json!({"allow": ["*"], "allow_ip_literals": false}), "1.2.3.4", false),
            (json!({"allow": ["*"], "allow_ip_literals": false}), "[::1]:80", false),
            (json!({"allow": ["*"], "allow_ip_literals": false}), "one.example", true),
            (json!({"allow": ["*"], "allow_ip_literals": "no"}), "1.2.3.4", true),
            (json!({"allow": ["1.2.3.4"], "deny": ["1.2.3.*"]}), "1.2.3.4", false),
        ] {
            let server = <&ServerName>::try_from(server).unwrap();
            assert_eq!(list_allows(list.as_object().unwrap(), server), allowed, "{list} {server}");
        }
    }
}
