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
