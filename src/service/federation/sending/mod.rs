//! What this server sends to others without being asked: its users' events, their messages to devices, who has which
//! devices, and who types, has read what or is there.
//!
//! Everything but the last of these is read from the store when it is sent ([`parcel`]): the log, and rows that wait. What
//! is new in the log is looked at once, to find whom it concerns ([`news`], [`audience`]), and waits in memory for a server
//! only as a number, in a short queue ([`peers`]). Of a server that can't be reached a position is noted, and a time; what
//! it lacks is read again when it is back ([`catch_up`]). A transaction that wasn't answered comes first then, as it was.
//! Doing anything twice is harmless: events, messages and changes have names.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

mod audience;
mod catch_up;
mod edus;
mod news;
mod parcel;
mod peers;
pub(in crate::service) mod to_device;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::StatusCode;
use ruma::{
    OwnedServerName, OwnedTransactionId, ServerName,
    api::federation::transactions::send_transaction_message::v1::Request,
};
use tokio::sync::Notify;

pub use self::peers::Count;
use self::{
    audience::{Rooms, listeners},
    news::Rumour,
    parcel::Parcel,
    peers::{Again, Done, Failure, Loss, News, Peers, Refused, Work},
};
use super::ask::{AskError, ask_streamed};
use crate::{
    base::{
        clock::rest,
        ids::{RoomNumber, UserNumber},
        limits,
        rng::Rng,
    },
    net::{Bounds, NetError},
    service::{App, presence::Seen},
    store::{Receipt, StoreError, Transaction, View},
};

/// What waits for other servers.
pub struct Sending {
    peers: Mutex<Peers>,
    rooms: Arc<Rooms>,
    /// What isn't in the log, and was not looked at yet.
    rumours: Mutex<VecDeque<Rumour>>,
    stirred: Notify,
    /// What the names of transactions begin with whose contents have none, and how many there were since the start.
    start: u64,
    count: AtomicU64,
    /// Messages to devices that were given up since the start.
    given_up: AtomicU64,
}

/// A server's turn to be sent something. Whoever drops it puts that off.
pub struct Turn {
    app: App,
    work: Option<Work>,
}

impl Sending {
    pub(in crate::service) fn new(rng: &Rng) -> Self {
        Self {
            peers: Mutex::new(Peers::new(rng.clone())),
            rooms: Arc::default(),
            rumours: Mutex::default(),
            stirred: Notify::new(),
            start: u64::from_be_bytes(rng.bytes()),
            count: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, rumour: Rumour) {
        let mut rumours = self.rumours.lock().unwrap_or_else(PoisonError::into_inner);
        if rumours.len() == limits::SENDING_NEWS {
            rumours.pop_front();
        }
        rumours.push_back(rumour);
        drop(rumours);
        self.stirred.notify_one();
    }

    fn take_rumours(&self) -> VecDeque<Rumour> {
        std::mem::take(&mut *self.rumours.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// Begins to send where the last start ended. Servers that couldn't be reached are tried again soon, and if this one
    /// was away for long, all of them hear that it is back.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_sending(&self) -> Result<(), StoreError> {
        let read = |view: &View<'_>| Ok::<_, StoreError>((view.sent()?, view.destinations()?));
        let (sent, destinations) = self.store.read(read).await?;
        let (sent, noted_at) = sent.unzip();
        let now = self.clock.now();
        self.sending.lock().begin(sent.unwrap_or_default(), destinations, now);
        if noted_at.is_some_and(|noted_at| now.since(noted_at) >= limits::OUTAGE) {
            let servers = self.acquaintances().await?;
            self.sending.lock().greet(servers, now);
        }
        Ok(())
    }

    /// The servers that are in rooms of this one, up to a number of them.
    async fn acquaintances(&self) -> Result<BTreeSet<OwnedServerName>, StoreError> {
        let (mut servers, mut from) = (BTreeSet::new(), Some(RoomNumber::default()));
        while let Some(after) = from.filter(|_| servers.len() < limits::GREETED) {
            let (own, rooms) = (self.server_name.clone(), self.sending.rooms.clone());
            let read = move |view: &View<'_>| {
                let Some((room, _)) = view.rooms_after(after).next().transpose()? else { return Ok(None) };
                Ok::<_, StoreError>(Some((room, listeners(view, (&own, &rooms), room)?)))
            };
            let found = self.store.read(read).await?;
            from = found.map(|(room, found)| {
                servers.extend(found);
                room
            });
        }
        Ok(servers)
    }

    /// Whether something is new that isn't in the log.
    pub fn has_rumours(&self) -> bool {
        !self.sending.rumours.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Finds out whom everything concerns that is new.
    ///
    /// # Errors
    /// The store failed.
    pub async fn distribute(&self) -> Result<(), StoreError> {
        let mut rumours = self.sending.take_rumours();
        loop {
            let (own, after) = (self.server_name.clone(), self.sending.lock().told());
            let (some, rooms) = (std::mem::take(&mut rumours), self.sending.rooms.clone());
            let read = move |view: &View<'_>| {
                let (news, rest) = News::read(view, (&own, &rooms), after, some)?;
                Ok::<_, StoreError>((news, rest, view.position()))
            };
            let (news, rest, position) = self.store.read(read).await?;
            let is_all = news.until >= position && rest.is_empty();
            rumours = rest;
            self.sending.lock().tell(news, self.clock.now());
            if is_all {
                return Ok(());
            }
        }
    }

    /// Whether a server couldn't be reached when it was last sent something.
    pub(in crate::service) fn is_failing(&self, server: &ServerName) -> bool {
        self.sending.lock().is_failing(server)
    }

    /// Whose turn it is to be sent something; none: nobody's now.
    pub fn next_turn(&self) -> Option<Turn> {
        let work = self.sending.lock().next(self.clock.now())?;
        Some(Turn { app: self.clone(), work: Some(work) })
    }

    /// Waits until it may be somebody's turn, or something is new that isn't in the log.
    pub async fn sending_stirred(&self) {
        let due = self.sending.lock().due();
        let time = due.map(|due| due.since(self.clock.now()));
        tokio::select! {
            biased;
            () = rest(time) => {}
            () = self.sending.stirred.notified() => {}
        }
    }

    /// Whether it may be noted how far everything was sent.
    pub fn is_sent_to_be_noted(&self) -> bool {
        self.sending.lock().is_to_be_noted()
    }

    /// Notes how far everything was sent, and who lacks what.
    ///
    /// # Errors
    /// The store failed; it is still to be noted.
    pub async fn note_sent(&self) -> Result<(), StoreError> {
        loop {
            let (before, to_note) = {
                let mut peers = self.sending.lock();
                (peers.noted(), peers.take_notes())
            };
            let Some((rows, sent)) = to_note else { return Ok(()) };
            let noted = rows.clone();
            let job = move |transaction: &mut Transaction<'_>| {
                noted.iter().try_for_each(|row| transaction.put_destination(row))?;
                transaction.set_sent(sent)
            };
            if let Err(error) = self.store.write(job).await {
                self.sending.lock().not_noted(&rows, before);
                return Err(error);
            }
        }
    }

    /// Notes at the end of the server how far everything was sent, and when that was.
    pub async fn end_sending(&self) {
        if !self.sending.lock().has_begun() {
            return;
        }
        let noted = async {
            self.note_sent().await?;
            let sent = self.sending.lock().noted();
            self.store.write(move |transaction| transaction.set_sent(sent)).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "what was sent to other servers lately is sent again");
        }
    }

    /// Notes that a server proved to be there: if it couldn't be reached, it is tried again now.
    pub fn peer_spoke(&self, server: &ServerName) {
        if self.sending.lock().spoke(server, self.clock.now()) {
            self.sending.stirred.notify_one();
        }
    }

    /// How many servers there are to be sent something.
    pub fn destinations(&self) -> Count {
        self.sending.lock().count(self.clock.now())
    }

    /// How many messages to devices of other servers' users were given up since the start.
    pub fn messages_given_up(&self) -> u64 {
        self.sending.given_up.load(Ordering::Relaxed)
    }

    /// Tells the log and the operator that a server doesn't get so many messages to its users' devices.
    pub(in crate::service) fn note_given_up(&self, server: &ServerName, messages: usize, why: &'static str) {
        self.sending.given_up.fetch_add(messages as u64, Ordering::Relaxed);
        tracing::warn!(%server, messages, why, "messages to devices there are given up, so that these may lack keys");
    }

    pub(in crate::service) fn spread_typing(&self, room: RoomNumber, user: UserNumber, typing: bool) {
        if self.config.federation.send_typing {
            self.sending.tell(Rumour::Typing { room, user, typing });
        }
    }

    pub(in crate::service) fn spread_receipt(&self, receipt: Receipt) {
        if self.config.federation.send_receipts {
            self.sending.tell(Rumour::Receipt(receipt));
        }
    }

    pub(in crate::service) fn spread_presence(&self, user: UserNumber, seen: Seen) {
        self.sending.tell(Rumour::Presence { user, seen });
    }
}

impl Turn {
    /// Sends the server one transaction of what waits for it.
    pub async fn take(mut self) {
        let Some(work) = self.work.take() else { return };
        let put_off = Self { app: self.app.clone(), work: Some(work.clone()) };
        let outcome = send(&self.app, &work).await;
        let now = self.app.clock.now();
        match outcome {
            Ok(done) => self.app.sending.lock().done(&work, done, now),
            Err(SendError::Ask(AskError::Net(NetError::Busy), _)) => return,
            Err(SendError::Store(error)) => {
                tracing::warn!(%error, server = %work.server, "what is to be sent can't be read");
                return;
            }
            Err(SendError::Ask(error, unsent)) => {
                tracing::debug!(%error, server = %work.server, "a server can't be sent anything now");
                let (again, refused) = *unsent;
                let failure = match &error {
                    AskError::Refused { status, .. } if is_of_content(*status) => Failure::Refused(refused),
                    _ => Failure::Unanswered(again),
                };
                let loss = self.app.sending.lock().failed(&work, failure, now);
                put_off.end();
                if let Some(loss) = loss {
                    give_up(&self.app, &work.server, loss).await;
                }
                return;
            }
        }
        put_off.end();
    }

    /// It ended as it should.
    fn end(mut self) {
        self.work = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.app.sending.lock().put_off(&work, self.app.clock.now());
        }
    }
}

/// Removes messages to devices of a server. If that fails, they are tried again, after the next start at the latest.
async fn give_up(app: &App, server: &OwnedServerName, loss: Loss) {
    let why = match loss {
        Loss::Refused(_) => "it refuses them again and again",
        Loss::All => "it couldn't be reached for too long",
    };
    let gone = server.clone();
    let job = move |tx: &mut Transaction<'_>| {
        let until = match loss {
            Loss::Refused(until) => until,
            Loss::All => tx.position(),
        };
        tx.remove_outgoing_to_device(&gone, until)
    };
    match app.store.write(job).await {
        Ok(0) => {}
        Ok(messages) => app.note_given_up(server, messages, why),
        Err(error) => tracing::warn!(%error, %server, "messages that are given up are not removed"),
    }
}

/// Whether a refusal may be for what was sent, and not for who sent it, where, or when.
fn is_of_content(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429)
}

enum SendError {
    Store(StoreError),
    Ask(AskError, Box<(Again, Refused)>),
}

/// Sends a transaction, and tells what the server has after that.
async fn send(app: &App, work: &Work) -> Result<Done, SendError> {
    let (own, asked) = (app.server_name.clone(), work.clone());
    let read = move |view: &View<'_>| Parcel::fill(view, &own, &asked);
    let (parcel, mut done) = app.store.read(read).await.map_err(SendError::Store)?;
    if parcel.is_empty() && !work.greeting {
        return Ok(done);
    }
    let before = work.again.as_deref();
    let name = parcel.name().or_else(|| before.map(|before| before.name.clone())).unwrap_or_else(|| {
        format!("{:x}.{}", app.sending.start, app.sending.count.fetch_add(1, Ordering::Relaxed))
    });
    let (pdus, messages) = (parcel.pdus.len(), parcel.messages);
    let again = Again {
        name: name.clone(),
        sent_at: before.map_or(app.clock.now(), |before| before.sent_at),
        extent: parcel.extent,
        messages,
        greeting: work.greeting,
    };
    let mut request =
        Request::new(OwnedTransactionId::from(name), app.server_name.clone(), again.sent_at.into());
    (request.pdus, request.edus) = (parcel.pdus, parcel.edus);
    let bounds = Bounds {
        total: limits::SENDING_TIME,
        head: limits::SENDING_TIME,
        idle: limits::ANSWER_IDLE_TIME,
        body_bytes: limits::TRANSACTION_ANSWER_BYTES,
    };
    let response = match ask_streamed(app, &work.server, request, bounds).await {
        Ok(response) => response,
        Err(error) => {
            let unsent = Box::new((again, Refused { pdus, messages, done }));
            return Err(SendError::Ask(error, unsent));
        }
    };
    done.took = true;
    // It took the transaction, whatever it says of what is in it.
    let body = response.into_body().collect().await.unwrap_or_default();
    if let Some(until) = messages {
        let server = work.server.clone();
        let removed = app.store.write(move |tx| tx.remove_outgoing_to_device(&server, until)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, server = %work.server, "messages that were sent are not removed");
            done.messages = true;
        }
    }
    log_refusals(&work.server, &body);
    Ok(done)
}

fn log_refusals(server: &ServerName, body: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        pdus: BTreeMap<String, serde_json::Value>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return };
    for (event, result) in answer.pdus {
        if let Some(error) = result.get("error") {
            tracing::debug!(%server, event, %error, "a server didn't take an event");
        }
    }
}
