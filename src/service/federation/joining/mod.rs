//! How users of this server come into rooms that it is not in, or ask to be let in, or are rid of that: another server
//! makes them an event, which this one signs, and tells what the room is.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
//!
//! A task of the server's does it, which goes on when whoever asked for it has gone.

mod answer;
mod load;
mod need;
mod servers;
mod shown;
mod told;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::{
        error::{ErrorKind, StandardErrorBody},
        federation::membership::{
            create_join_event, create_knock_event, create_leave_event, prepare_join_event,
            prepare_knock_event, prepare_leave_event,
        },
    },
    events::room::member::MembershipState,
};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::Instrument;

pub use load::{go_on, left};
pub use need::{Who, who};
pub(in crate::service) use servers::candidates;
pub use servers::named;
pub(super) use shown::{Shown, shown};

use super::{
    ask::{AskError, ask, ask_streamed, call, older, sent},
    keyring::Keyring,
    pdus::raw,
    policy, receive,
};
use crate::{
    base::{json::Object, limits},
    net::{Body, Bounds, NetError},
    room::{
        pdu::Pdu,
        receive::verify,
        sign::sign,
        stranger::{Unsigned, Wish, adopt},
        version::Version,
    },
    service::{
        App,
        write::{
            append::WriteError,
            ingest::{Ingested, append_signed},
            lane::Lanes,
            member::Profile,
        },
    },
    store::{OutOfBand, StoreError, Transaction, View, events::Standing},
};
use told::Told;

/// What a user of this server wants of a room that it is not in.
#[derive(Clone, Debug)]
pub struct Request {
    pub room_id: OwnedRoomId,
    pub user: OwnedUserId,
    /// To join, to knock or to leave.
    pub membership: MembershipState,
    pub reason: Option<String>,
    /// Servers that may be in the room.
    pub via: Vec<OwnedServerName>,
}

/// Why other servers didn't let it be so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Elsewhere {
    /// Nobody knows whom to ask.
    #[error("no server is known to be in the room")]
    Nobody,
    /// A server refuses.
    #[error("another server answered {status}: {}", .error.message)]
    Refused { status: StatusCode, error: Arc<StandardErrorBody> },
    /// None that was asked could be reached, or had an answer of use.
    #[error("{0}")]
    Failed(String),
    /// Too many ask for such things.
    #[error("too many rooms are entered at once")]
    Busy,
}

/// Why one server, or this one, couldn't.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Asked(#[from] AskError),
    #[error("the answer has {0}")]
    Answer(&'static str),
    #[error("what the server made is not signed: {0}")]
    Unsigned(#[from] Unsigned),
    #[error("this server has no room version {0}")]
    Version(RoomVersionId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        Self::Asked(error.into())
    }
}

impl From<answer::Malformed> for Failure {
    fn from(_: answer::Malformed) -> Self {
        Self::Answer("another form, or it breaks off")
    }
}

/// Who is entering which room now.
pub(in crate::service) struct Joins {
    under_way: Mutex<HashMap<Name, watch::Receiver<Option<Outcome>>>>,
    /// One of a room's users enters it first, and the others find this server in it.
    rooms: Lanes,
    turns: Semaphore,
    /// Wakes whoever goes on with rooms that were not entered to the end.
    left: Notify,
}

type Name = (OwnedRoomId, OwnedUserId, &'static str);
type Outcome = Result<(), Outside>;

/// Why a room was not entered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Outside {
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// This server is in the room by now, and is to do it by itself.
    #[error("this server is in the room")]
    Here,
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl Joins {
    /// What comes of it that a room is being entered, if it is.
    pub(super) fn entering(&self, room_id: &RoomId) -> Option<watch::Receiver<Option<Outcome>>> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = under_way.iter();
        all.find(|((id, _, what), _)| id == room_id && *what == "join").map(|(_, outcome)| outcome.clone())
    }
}

impl Default for Joins {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            rooms: Lanes::default(),
            turns: Semaphore::new(limits::JOINS),
            left: Notify::default(),
        }
    }
}

/// Brings a user into a room through another server, or lets them knock or leave. The same that is under way already is
/// not begun again.
///
/// # Errors
/// No server let it be so.
pub async fn carry_out(app: &App, request: Request) -> Outcome {
    let what = match request.membership {
        MembershipState::Join => "join",
        MembershipState::Knock => "knock",
        _ => "leave",
    };
    let name = (request.room_id.clone(), request.user.clone(), what);
    let mut outcome = {
        let mut under_way = app.joins.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.get(&name) {
            Some(outcome) => outcome.clone(),
            None if under_way.len() >= limits::JOINS_WAITING => return Err(Elsewhere::Busy.into()),
            None => {
                let (done, outcome) = watch::channel(None);
                under_way.insert(name.clone(), outcome.clone());
                let ending = Ending { app: app.clone(), name };
                let task = async move {
                    let app = &ending.app;
                    let result = Box::pin(through_servers(app, request)).await;
                    // Whoever asks again finds it done.
                    drop(ending);
                    done.send_replace(Some(result));
                };
                tokio::spawn(task.in_current_span());
                outcome
            }
        }
    };
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().expect("that was waited for"),
        Err(_) => Err(Outside::Store(Arc::new(StoreError::Panicked))),
    }
}

/// What is under way is so no more when this goes.
struct Ending {
    app: App,
    name: Name,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut under_way = self.app.joins.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.name);
    }
}

async fn through_servers(app: &App, request: Request) -> Outcome {
    // Who waits for another user keeps no turn. The room's lane is not held while others are asked: its events pass there.
    let mut first = match request.membership {
        MembershipState::Join => Some(app.joins.rooms.enter(&request.room_id).await),
        _ => None,
    };
    let _turn = app.joins.turns.acquire().await.expect("it is never closed");
    let (own, asked) = (app.server_name.clone(), request.clone());
    let read = move |view: &View<'_>| {
        let servers = servers::candidates(view, (&own, &asked.room_id), &asked.user, &asked.via)?;
        let profile = match asked.membership {
            MembershipState::Leave => Profile::default(),
            _ => Profile::of(view, &asked.user)?,
        };
        // Somebody else may have brought this server in meanwhile.
        let is_in = is_in(view, &own, &asked.room_id)?;
        Ok::<_, StoreError>((servers, profile, is_in))
    };
    let (servers, profile, is_in) = app.store.read(read).await?;
    if is_in {
        if request.membership != MembershipState::Join {
            return Err(Outside::Here);
        }
        first = None;
    }
    let mut content = profile.content(request.membership.as_str());
    if let Some(reason) = &request.reason {
        content.insert("reason".to_owned(), reason.as_str().into());
    }
    let mut failed = Elsewhere::Nobody;
    for server in servers {
        let through = Through { app, server: &server, request: &request, content: &content };
        match Box::pin(through.carry_out()).await {
            Ok(None) => return Ok(()),
            Ok(Some(event)) => {
                drop(first);
                return follow(app, request.room_id, event).await;
            }
            Err(Failure::Store(error)) => return Err(error.into()),
            Err(failure) => {
                tracing::info!(%server, room_id = %request.room_id, %failure, "a server doesn't help a user");
                // Even that the room's version is unknown here is only what this one says.
                failed = failed.and(failure);
            }
        }
    }
    Err(failed.into())
}

fn is_in(view: &View<'_>, own: &ServerName, room_id: &RoomId) -> Result<bool, StoreError> {
    let room = view.room_number(room_id)?;
    Ok(room.map(|room| view.is_server_joined(room, own)).transpose()?.unwrap_or_default())
}

/// Takes an event of a user of this server in a room that it is in, as another one took it.
async fn follow(app: &App, room_id: OwnedRoomId, event: Pdu) -> Outcome {
    let event = match policy::sign(app, &room_id, event).await {
        Ok(event) => event,
        Err(WriteError::Elsewhere(error)) => return Err(error.into()),
        Err(error) => return Err(Elsewhere::Failed(error.to_string()).into()),
    };
    match append_signed(app, room_id, event, None).await {
        Ok(Ingested::As(Standing::Live)) => Ok(()),
        Ok(_) => {
            Err(Elsewhere::Failed("the event doesn't fit what this server knows of the room".to_owned())
                .into())
        }
        Err(error) => Err(Elsewhere::Failed(error.to_string()).into()),
    }
}

impl Elsewhere {
    /// What is told of a failure.
    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::Asked(AskError::Refused { status, error: Some(error) }) if status.is_client_error() => {
                Self::Refused { status, error: error.into() }
            }
            failure => Self::Failed(failure.to_string()),
        }
    }

    /// What is told of several: that a server refuses says more than that one is not there.
    fn and(self, failure: Failure) -> Self {
        match (self, Self::of(failure)) {
            (before @ Self::Refused { .. }, Self::Failed(_)) => before,
            (_, failure) => failure,
        }
    }
}

/// One server that is asked.
struct Through<'a> {
    app: &'a App,
    server: &'a ServerName,
    request: &'a Request,
    content: &'a CanonicalJsonObject,
}

impl Through<'_> {
    /// Does it; gives the event, if that is to be taken like any other of the room, since this server is in it.
    async fn carry_out(&self) -> Result<Option<Pdu>, Failure> {
        let Self { app, server, request, .. } = *self;
        let (version, template) = self.template().await?;
        let version = Version::of(&version).ok_or(Failure::Version(version))?;
        let template =
            Object::parse(template.get()).map_err(|_| Failure::Answer("a template that is no event"))?;
        let wish = Wish {
            room_id: &request.room_id,
            user: &request.user,
            membership: request.membership.clone(),
            content: self.content.clone(),
        };
        let checked = adopt(&template, wish, app.clock.now().into(), version)?;
        let signer = app.signer();
        let pdu = sign(checked, signer.server_name, signer.key).map_err(Unsigned::from)?;
        let (room_id, event_id) = (request.room_id.clone(), pdu.event_id().to_owned());
        let event = raw(pdu.json().to_owned());
        match request.membership {
            MembershipState::Join => {
                let request = create_join_event::v2::Request::new(room_id.clone(), event_id, event);
                let body = self.send_join(request).await?;
                let keyring = Keyring::new(limits::JOIN_KEY_ASKS, Some((*server).to_owned()));
                let mut told = Told::read(app, (body, keyring), (&room_id, version)).await?;
                let _lane = app.lanes.enter(&room_id).await;
                let (own, id) = (app.server_name.clone(), room_id.clone());
                if app.store.read(move |view| is_in(view, &own, &id)).await? {
                    let own = told.own.take().unwrap_or_else(|| pdu.object());
                    return self.signed_join(pdu, own, version).await.map(Some);
                }
                load::enter(app, (room_id, version), pdu, told).await?;
            }
            MembershipState::Knock => {
                let request = create_knock_event::v1::Request::new(room_id.clone(), event_id, event);
                let shown = ask(app, server, request, BRIEF).await?.knock_room_state;
                let (by, shown) = ((*server).to_owned(), Shown::of(shown)?);
                let state = shown::shown(app, by, (&room_id, version), shown).await?.json;
                return Ok(self.keep((room_id, version), pdu, Some(state)).await?);
            }
            _ => {
                let request = create_leave_event::v2::Request::new(room_id.clone(), event_id, event);
                let older = older(call(request.clone())?);
                match ask(app, server, request, BRIEF).await {
                    Err(error) if is_unknown(&error) => _ = sent(app, server, older, BRIEF).await?,
                    other => _ = other?,
                }
                return Ok(self.keep((room_id, version), pdu, None).await?);
            }
        }
        Ok(None)
    }

    /// Asks for an event of that kind.
    async fn template(&self) -> Result<(RoomVersionId, Box<RawValue>), Failure> {
        let Self { app, server, request, .. } = *self;
        let (room_id, user) = (request.room_id.clone(), request.user.clone());
        let versions = Version::all().map(|version| version.id().clone()).collect();
        Ok(match request.membership {
            MembershipState::Join => {
                let mut request = prepare_join_event::v1::Request::new(room_id, user);
                request.ver = versions;
                let made = ask(app, server, request, Bounds::SMALL).await?;
                (made.room_version.unwrap_or(RoomVersionId::V1), made.event)
            }
            MembershipState::Knock => {
                let mut request = prepare_knock_event::v1::Request::new(room_id, user);
                request.ver = versions;
                let made = ask(app, server, request, Bounds::SMALL).await?;
                (made.room_version, made.event)
            }
            _ => {
                let request = prepare_leave_event::v1::Request::new(room_id, user);
                let made = ask(app, server, request, BRIEF).await?;
                (made.room_version.unwrap_or(RoomVersionId::V1), made.event)
            }
        })
    }

    async fn send_join(&self, request: create_join_event::v2::Request) -> Result<Body, Failure> {
        let Self { app, server, .. } = *self;
        let older = older(call(request.clone())?);
        let response = match ask_streamed(app, server, request, JOIN).await {
            Err(error) if is_unknown(&error) => sent(app, server, older, JOIN).await?,
            other => other?,
        };
        Ok(response.into_body())
    }

    /// The join that the server signed, if it is that.
    async fn signed_join(&self, pdu: Pdu, own: Object, version: Version) -> Result<Pdu, Failure> {
        let keys = receive::keys(self.app, &own, version).await?;
        let signed = verify(own, &keys, version).map_err(Unsigned::from)?;
        let is_same = signed.event_id() == pdu.event_id() && signed.content().get() == pdu.content().get();
        is_same.then_some(signed).ok_or(Failure::Answer("another join"))
    }

    /// Keeps what the user is to the room from now on; gives the event if this server came into the room meanwhile.
    async fn keep(
        &self,
        (room_id, version): (OwnedRoomId, Version),
        pdu: Pdu,
        state: Option<String>,
    ) -> Result<Option<Pdu>, StoreError> {
        let told = OutOfBand {
            server: state.is_some().then(|| self.server.to_string()),
            state: state.unwrap_or_else(|| "[]".to_owned()),
        };
        let own = self.app.server_name.clone();
        let job = move |transaction: &mut Transaction<'_>| {
            if is_in(transaction, &own, &room_id)? {
                return Ok(Some(pdu.clone()));
            }
            let room = transaction.hear_of_room(&room_id, version)?;
            transaction.put_out_of_band(room, &pdu, &told)?;
            Ok(None)
        };
        self.app.store.write(job).await
    }
}

/// Whether a server has no such endpoint.
pub(super) fn is_unknown(error: &AskError) -> bool {
    matches!(error, AskError::Refused { status, error } if *status == StatusCode::NOT_FOUND
        && error.as_ref().is_none_or(|error| error.kind == ErrorKind::Unrecognized))
}

impl From<StoreError> for Outside {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// The events of a room may take long to gather, and longer to come.
const JOIN: Bounds = Bounds {
    total: limits::JOIN_ANSWER_TIME,
    head: limits::JOIN_HEAD_TIME,
    idle: limits::ANSWER_IDLE_TIME,
    body_bytes: limits::JOIN_ANSWER_BYTES,
};

/// Nobody waits long to be rid of an invitation.
pub(super) const BRIEF: Bounds = Bounds {
    total: limits::INVITE_TIME,
    head: limits::INVITE_TIME,
    idle: limits::INVITE_TIME,
    body_bytes: limits::BODY_BYTES as u64,
};
