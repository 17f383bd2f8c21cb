//! Signatures of events: whose are needed, whether they are right, and the one place where this server's key meets one.
//!
//! [`sign`] takes a [`CheckedEvent`] and nothing else, and only the authorisation rules make one.
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>,
//! <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>

use std::collections::BTreeSet;

use ruma::{
    AnyKeyName, CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedServerName, ServerName,
    SigningKeyAlgorithm, SigningKeyId, UserId,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair, PublicKeyMap, VerificationError, verify_canonical_json_bytes},
};

use super::{
    auth::{Denied, Verdict, check_auth_events, check_state},
    graph::{Graph, State},
    hash::signed_text,
    pdu::{FormatError, Pdu},
    receive::Dropped,
    version::Version,
};
use crate::base::json::Object;

/// An event that passed the authorisation rules, by its own auth events and by the state before it.
#[derive(Debug)]
pub struct CheckedEvent {
    pdu: Pdu,
    version: Version,
}

impl CheckedEvent {
    /// Checks an event against its auth events and the state before it.
    pub fn check<G: Graph>(
        pdu: Pdu,
        before: &State,
        graph: &G,
        version: Version,
    ) -> Result<Result<Self, Denied>, G::Error> {
        if let Verdict::Denied(denied) = check_auth_events(&pdu, graph, version)? {
            return Ok(Err(denied));
        }
        if let Verdict::Denied(denied) = check_state(&pdu, before, graph, version)? {
            return Ok(Err(denied));
        }
        Ok(Ok(Self { pdu, version }))
    }

    /// An event of which every field is one that this server expects there, and whose room it can't see.
    pub(super) fn seen_through(pdu: Pdu, version: Version) -> Self {
        Self { pdu, version }
    }

    /// The event.
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }
}

/// Adds this server's signature, beside those that are there.
///
/// # Errors
/// With the signature the event is larger than an event may be.
pub fn sign(event: CheckedEvent, server: &ServerName, key: &Ed25519KeyPair) -> Result<Pdu, FormatError> {
    let CheckedEvent { pdu, version } = event;
    let mut object = pdu.object();
    add(&mut object, server, key, version)?;
    Pdu::parse(&object, version)
}

/// Adds a server's signature to an event, beside those that are there.
///
/// # Errors
/// The object is no event.
pub(super) fn add(
    object: &mut Object,
    server: &ServerName,
    key: &Ed25519KeyPair,
    version: Version,
) -> Result<(), FormatError> {
    let signature = key.sign(signed_text(object, version)?.as_bytes());
    let empty = || CanonicalJsonObject::new().into();
    object
        .edit(|fields| {
            let signatures = fields.entry("signatures".to_owned()).or_insert_with(empty).as_object_mut()?;
            let of_server = signatures.entry(server.to_string()).or_insert_with(empty).as_object_mut()?;
            of_server.insert(signature.id(), signature.base64().into());
            Some(())
        })
        .ok_or(FormatError::Field("signatures"))
}

/// The servers that must have signed an event: its sender's, unless a third party invites in the sender's name; in
/// versions 1 and 2 that which named the event; and since version 8 that of the user by whose authority somebody joins.
/// A rule would reject what that one did not sign; but no id says who signed an event, so whoever passed it on without
/// the signature could have it rejected for good.
///
/// # Errors
/// The event lacks the fields that say so; it is dropped.
pub fn signers(
    object: &CanonicalJsonObject,
    version: Version,
) -> Result<BTreeSet<OwnedServerName>, FormatError> {
    let mut servers = authors(object, version)?;
    servers.extend(voucher(object, version)?);
    Ok(servers)
}

/// The server of the user by whose authority somebody joins.
fn voucher(object: &CanonicalJsonObject, version: Version) -> Result<Option<OwnedServerName>, FormatError> {
    let user = membership(object).and_then(|content| content.get("join_authorised_via_users_server"));
    match user.filter(|_| version.rules().signatures.check_join_authorised_via_users_server) {
        Some(user) => user.as_str().and_then(server_of_user).map(Some).ok_or(FormatError::Field("content")),
        None => Ok(None),
    }
}

/// Those of them that made the event.
fn authors(object: &CanonicalJsonObject, version: Version) -> Result<BTreeSet<OwnedServerName>, FormatError> {
    let text = |field: &'static str| object.get(field).and_then(CanonicalJsonValue::as_str);
    let mut servers = BTreeSet::new();
    let invited_by_third_party = membership(object).is_some_and(|content| {
        content.get("membership").and_then(CanonicalJsonValue::as_str) == Some("invite")
            && content.get("third_party_invite").is_some_and(CanonicalJsonValue::is_object)
    });
    if !invited_by_third_party {
        servers.insert(text("sender").and_then(server_of_user).ok_or(FormatError::Field("sender"))?);
    }
    if version.rules().signatures.check_event_id_server {
        let id = text("event_id").and_then(|id| <&EventId>::try_from(id).ok());
        let server = id.and_then(EventId::server_name).ok_or(FormatError::Field("event_id"))?;
        servers.insert(server.to_owned());
    }
    Ok(servers)
}

/// The content of a membership; to an event that is none, its fields mean nothing.
fn membership(object: &CanonicalJsonObject) -> Option<&CanonicalJsonObject> {
    let kind = object.get("type").and_then(CanonicalJsonValue::as_str);
    object.get("content").and_then(CanonicalJsonValue::as_object).filter(|_| kind == Some("m.room.member"))
}

fn server_of_user(id: &str) -> Option<OwnedServerName> {
    <&UserId>::try_from(id).ok().map(|user| user.server_name().to_owned())
}

/// Checks that each of those servers signed the event, but for one that is to vouch by its signature and has yet to do so. Keys that are unknown are skipped;
/// of those that are known, every signature must be right.
///
/// # Errors
/// One did not; the event is dropped.
pub(super) fn check(
    object: &Object,
    keys: &PublicKeyMap,
    version: Version,
    but: Option<&ServerName>,
) -> Result<(), Dropped> {
    let mut servers = authors(object, version)?;
    servers.extend(voucher(object, version)?.filter(|server| but != Some(server)));
    check_of(object, keys, version, servers)
}

/// Checks that each of some servers signed an event.
///
/// # Errors
/// One did not.
pub(super) fn check_of(
    object: &Object,
    keys: &PublicKeyMap,
    version: Version,
    servers: BTreeSet<OwnedServerName>,
) -> Result<(), Dropped> {
    let text = signed_text(object, version)?;
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    for server in servers {
        let server = server.as_str();
        let of_server = signatures
            .and_then(|signatures| signatures.get(server)?.as_object())
            .ok_or_else(|| VerificationError::NoSignaturesForEntity(server.to_owned()))?;
        let known =
            keys.get(server).ok_or_else(|| VerificationError::NoPublicKeysForEntity(server.to_owned()))?;
        let mut checked = false;
        for (id, signature) in of_server {
            let Some(key) = known.get(id) else { continue };
            let Ok(id) = <&SigningKeyId<AnyKeyName>>::try_from(id.as_str()) else { continue };
            if id.algorithm() != SigningKeyAlgorithm::Ed25519 {
                continue;
            }
            let signature = signature.as_str().and_then(|text| Base64::<Standard>::parse(text).ok());
            let signature = signature.ok_or(FormatError::Field("signatures"))?;
            verify_canonical_json_bytes(
                &SigningKeyAlgorithm::Ed25519,
                key.as_bytes(),
                signature.as_bytes(),
                text.as_bytes(),
            )?;
            checked = true;
        }
        if !checked {
            return Err(VerificationError::NoSupportedSignatureForEntity(server.to_owned()).into());
        }
    }
    Ok(())
}
