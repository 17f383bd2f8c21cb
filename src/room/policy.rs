//! The server that a room names to recommend its events, and the signature by which it does.
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, OwnedServerName,
    serde::{Base64, base64::Standard},
    signatures::PublicKeyMap,
};
use serde::Deserialize;

use super::{pdu::Pdu, sign::check_of, version::Version};
use crate::base::json::Object;

/// A policy server, as a room's state names it.
#[derive(Clone, Debug)]
pub struct Policy {
    pub server: OwnedServerName,
    keys: PublicKeyMap,
}

impl Policy {
    /// The type of the event that names it, under an empty key.
    pub const KIND: &str = "m.room.policy";
    /// The id of the key with which it signs, for the room alone.
    const KEY: &str = "ed25519:policy_server";

    /// What an event names; none if it names none.
    pub fn named(event: &Pdu) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            via: OwnedServerName,
            public_keys: BTreeMap<String, String>,
        }
        let Content { via, public_keys } = event.content_as()?;
        let key = Base64::<Standard>::parse(public_keys.get("ed25519")?).ok()?;
        let key = BTreeMap::from([(Self::KEY.to_owned(), Base64::new(key.into_inner()))]);
        Some(Self { keys: BTreeMap::from([(via.to_string(), key)]), server: via })
    }

    /// Whether an event needs its recommendation, as all do but the one that names it.
    pub fn concerns(event: &Pdu) -> bool {
        !event.is_state(&Self::KIND.into(), "")
    }

    /// Whether an event has its signature.
    pub fn recommends(&self, event: &Object, version: Version) -> bool {
        check_of(event, &self.keys, version, BTreeSet::from([self.server.clone()])).is_ok()
    }

    /// Puts its signature into an event, in place of an older one and beside all others.
    pub fn add(&self, event: &mut Object, signature: &str) -> Option<()> {
        let empty = || CanonicalJsonObject::new().into();
        event.edit(|fields| {
            let signatures = fields.entry("signatures".to_owned()).or_insert_with(empty).as_object_mut()?;
            let own = signatures.entry(self.server.to_string()).or_insert_with(empty).as_object_mut()?;
            own.insert(Self::KEY.to_owned(), signature.into());
            Some(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::room::{
        fixture::{ALICE, World},
        graph::Graph,
    };

    fn event(key: &str, content: Value) -> Arc<Pdu> {
        let (mut world, last) = World::new("11");
        world.accept(ALICE, &[&last], Policy::KIND, Some(key), content);
        let number = world.current.entry(&world, &Policy::KIND.into(), key).unwrap().unwrap();
        world.event(number).unwrap()
    }

    #[test]
    fn a_room_names_a_server_and_its_key() {
        let key = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";
        let named = |content| Policy::named(&event("", content)).map(|policy| policy.server.to_string());
        let good = json!({"via": "policy.example", "public_keys": {"ed25519": key, "ed448": "x"}, "else": 1});
        assert_eq!(named(good.clone()), Some("policy.example".to_owned()));
        for (field, value) in [
            ("via", json!("no name")),
            ("via", json!(1)),
            ("public_keys", json!({})),
            ("public_keys", json!({"ed25519": 1})),
            ("public_keys", json!({"ed25519": "?"})),
            ("public_keys", json!(key)),
        ] {
            let mut content = good.clone();
            content[field] = value;
            assert_eq!(named(content.clone()), None, "{content}");
        }
        assert_eq!(named(json!({})), None);
    }

    #[test]
    fn every_event_needs_it_but_that_which_names_it() {
        assert!(!Policy::concerns(&event("", json!({}))));
        assert!(Policy::concerns(&event("else", json!({}))));
    }
}
