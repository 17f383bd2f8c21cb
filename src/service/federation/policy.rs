//! Rooms with a policy server: what this server's users send there waits for its signature, and what others send without
//! one it is asked for.
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>
//!
//! Nobody is asked inside a job of the writer. A job that makes an event without the signature ends there, and is run again
//! once the signature is had; if the room has moved on by then, the event is another one, and so is its signature.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{RoomId, api::federation::policy::sign_event::v1::Request};

use super::{
    ask::ask,
    joining::{BRIEF, Elsewhere, Failure},
    pdus::raw,
};
use crate::{
    base::{
        clock::Timestamp,
        expiring::{Expiring, Holder},
        ids::RoomNumber,
        json::Object,
        limits,
    },
    net::Blame,
    room::{
        auth::{Denied, Rule},
        pdu::Pdu,
        policy::Policy,
        stranger::Unsigned,
        version::Version,
    },
    service::{App, write::append::WriteError},
    store::{StoreError, Transaction, View, events::Standing},
};

/// What policy servers consented to lately, and which of them don't answer.
pub struct Consents {
    /// Events with their signatures, by what is in them.
    events: Expiring<Arc<Pdu>>,
    silent: Expiring<()>,
}

/// An event that a policy server has to consent to.
#[derive(Debug)]
pub struct Unconsented {
    event: Pdu,
    policy: Policy,
    version: Version,
}

/// The policy server that a room uses now.
///
/// # Errors
/// The store failed.
pub fn of(view: &View<'_>, room: RoomNumber) -> Result<Option<Policy>, StoreError> {
    let record = view.room(room)?;
    let Some(event) = view.state_event(room, record.state, Policy::KIND, "")? else { return Ok(None) };
    let Some(policy) = Policy::named(&view.event(room, event)?.shown(record.version)) else {
        return Ok(None);
    };
    // One without anybody in the room didn't agree to be asked.
    Ok(view.is_server_joined(room, &policy.server)?.then_some(policy))
}

/// The event as it may be sent: with the signature of the room's policy server, if that has one.
///
/// # Errors
/// The signature has to be asked for.
pub fn consented(
    view: &View<'_>,
    (room, version): (RoomNumber, Version),
    event: Pdu,
    (consents, now): (&Consents, Timestamp),
) -> Result<Pdu, WriteError> {
    let Some(policy) = of(view, room)?.filter(|_| Policy::concerns(&event)) else { return Ok(event) };
    let known = consents.events.get(&name(&event), now);
    match known.filter(|known| policy.recommends(&known.object(), version)) {
        Some(known) => Ok(Arc::unwrap_or_clone(known)),
        None => Err(WriteError::Unconsented(Box::new(Unconsented { event, policy, version }))),
    }
}

/// Why a room lets an event of another server in no more than a soft-failed one.
///
/// # Errors
/// The store failed.
pub fn denied(
    view: &View<'_>,
    (room, version): (RoomNumber, Version),
    event: &Pdu,
) -> Result<Option<Denied>, StoreError> {
    let policy = of(view, room)?.filter(|_| Policy::concerns(event));
    let lacking = policy.filter(|policy| !policy.recommends(&event.object(), version));
    let reason = || "the room's policy server doesn't recommend it".to_owned();
    Ok(lacking.map(|_| Denied { rule: Rule::Send, reason: reason() }))
}

/// What an event is but for when it is made.
fn name(event: &Pdu) -> String {
    let mut object = event.object();
    object.edit(|fields| {
        for field in ["event_id", "hashes", "origin_server_ts", "signatures"] {
            fields.remove(field);
        }
    });
    blake3::hash(object.text().as_bytes()).to_hex().to_string()
}

/// Runs a job of the writer that sends events to a room, past its gate, and gets those signatures for them that are needed.
/// A room that moves on each time is held up in the end.
pub(in crate::service) async fn write<T: Send + 'static>(
    app: &App,
    room_id: &RoomId,
    job: impl FnMut(&mut Transaction<'_>) -> Result<T, WriteError> + Send + 'static,
) -> Result<T, WriteError> {
    let job = Arc::new(Mutex::new(job));
    let (mut tries, mut held) = (0..limits::CONSENT_TRIES, None);
    loop {
        let passing = match held {
            None => Some(app.lanes.pass(room_id).await),
            Some(_) => None,
        };
        let again = job.clone();
        let run = move |transaction: &mut Transaction<'_>| {
            (again.lock().unwrap_or_else(PoisonError::into_inner))(transaction)
        };
        match app.store.write(run).await {
            Err(WriteError::Unconsented(event)) if !tries.is_empty() => {
                drop(passing);
                if tries.next() == Some(limits::INGEST_TRIES) {
                    let turn = app.lanes.enter(room_id).await;
                    held = Some((turn.close_gate().await, turn));
                }
                gain(app, *event).await?;
            }
            result => return result,
        }
    }
}

/// Gets a signature that is lacking.
fn gain(
    app: &App,
    lacking: Unconsented,
) -> Pin<Box<dyn Future<Output = Result<(), WriteError>> + Send + '_>> {
    Box::pin(async move {
        let Unconsented { event, policy, version } = lacking;
        let name = name(&event);
        let signed = signed(app, &policy, &event.object(), version).await;
        let signed = signed.and_then(|signed| Ok(Pdu::parse(&signed, version).map_err(Unsigned::from)?));
        let signed = signed.map_err(|failure| {
            tracing::info!(server = %policy.server, %failure, "a policy server doesn't consent to an event");
            WriteError::Elsewhere(Elsewhere::of(failure))
        })?;
        app.consents.events.insert(Holder::Nobody, name, Arc::new(signed), app.clock.now());
        Ok(())
    })
}

/// The same for an event that is made outside the writer.
///
/// # Errors
/// The policy server doesn't consent.
pub(super) async fn sign(app: &App, room_id: &RoomId, event: Pdu) -> Result<Pdu, WriteError> {
    let kept = event.clone();
    let look = async |event: Pdu| {
        let (shared, id) = (app.clone(), room_id.to_owned());
        let look = move |view: &View<'_>| {
            let room = view.room_number(&id)?.ok_or(WriteError::UnknownRoom)?;
            consented(view, (room, view.room(room)?.version), event, (&shared.consents, shared.clock.now()))
        };
        app.store.read(look).await
    };
    match look(event).await {
        Err(WriteError::Unconsented(lacking)) => {
            gain(app, *lacking).await?;
            look(kept).await
        }
        result => result,
    }
}

/// Asks the policy server of a room about an event of another server that has no signature of its, and adds that. Without
/// it the event will be soft-failed.
///
/// # Errors
/// The store failed.
pub(super) async fn ask_about(app: &App, room_id: &RoomId, event: &mut Object) -> Result<(), StoreError> {
    let (room_id, object) = (room_id.to_owned(), event.clone());
    let look = move |view: &View<'_>| {
        let Some(room) = view.room_number(&room_id)? else { return Ok(None) };
        let Some(policy) = of(view, room)? else { return Ok(None) };
        let version = view.room(room)?.version;
        let Ok(pdu) = Pdu::parse(&object, version) else { return Ok(None) };
        let known = view.event_number(room, pdu.event_id())?;
        let known = known.map(|number| view.header(room, number)).transpose()?;
        let is_known = known.is_some_and(|header| header.standing != Standing::Outlier);
        let is_due = !is_known && Policy::concerns(&pdu) && !policy.recommends(&object, version);
        Ok::<_, StoreError>(is_due.then_some((policy, version)))
    };
    let Some((policy, version)) = app.store.read(look).await? else { return Ok(()) };
    let server = policy.server.to_string();
    if app.consents.silent.get(&server, app.clock.now()).is_some() {
        return Ok(());
    }
    match signed(app, &policy, event, version).await {
        Ok(signed) => *event = signed,
        Err(failure) => {
            tracing::debug!(%server, %failure, "a policy server doesn't recommend an event");
            if matches!(&failure, Failure::Asked(error) if error.blame() == Some(Blame::Unreachable)) {
                app.consents.silent.insert(Holder::Nobody, server, (), app.clock.now());
            }
        }
    }
    Ok(())
}

/// The event with the signature of a policy server, which is asked for it.
async fn signed(app: &App, policy: &Policy, event: &Object, version: Version) -> Result<Object, Failure> {
    let answer = ask(app, &policy.server, Request::new(raw(event.text())), BRIEF).await?;
    let signature = answer.ed25519_signature(&policy.server).ok_or(Failure::Answer("no signature"))?;
    let mut signed = event.clone();
    policy.add(&mut signed, signature).ok_or(Failure::Answer("no signature"))?;
    match policy.recommends(&signed, version) {
        true => Ok(signed),
        false => Err(Failure::Answer("a wrong signature")),
    }
}

impl Default for Consents {
    fn default() -> Self {
        Self {
            events: Expiring::new(limits::CONSENTS, limits::CONSENT_LIFETIME),
            silent: Expiring::new(limits::CONSENTS, limits::CONSENT_LIFETIME),
        }
    }
}
