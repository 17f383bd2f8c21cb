//! Signing: the one place where this server's key meets an event.
//!
//! [`sign`] takes a [`CheckedEvent`] and nothing else, and only the authorisation rules make one.
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>

use ruma::{ServerName, signatures::Ed25519KeyPair};

use super::{
    auth::{Denied, Verdict, check_auth_events, check_state},
    graph::{Graph, State},
    pdu::{FormatError, Pdu},
    signatures,
    version::Version,
};

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
    signatures::add(&mut object, server, key, version)?;
    Pdu::parse(&object, version)
}
