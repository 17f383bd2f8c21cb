//! Notifies devices that sleep, by push gateways.
//! <https://spec.matrix.org/v1.19/push-gateway-api/>
//!
//! A reader of the log finds out whom it concerns ([`news`]), and stirs their pushers ([`queue`]). Each pusher has its
//! turn, in which it reads the log itself from where it is, tells its gateway of one event, and is behind that event once
//! the gateway has it. So an event is told at least once, after restarts as well, and a gateway that doesn't answer holds
//! up nobody else and no memory. What a user has read meanwhile is not told any more.
//!
//! When less is new to a user, because they read or said something, their devices are told how much still is ([`badge`]).

mod badge;
mod news;
mod notice;
mod places;
pub mod pushers;
mod queue;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use url::Url;

use self::{
    badge::Badges,
    news::{News, concerned},
    queue::{Done, Queue, Work},
};
use crate::{
    base::{
        clock::{Timestamp, rest},
        ids::{Position, PusherNumber, UserNumber},
        limits,
        rng::Rng,
    },
    net::{Bounds, NetError, Target},
    service::{App, read::reader::Onlooker},
    store::{PusherSettings, PusherStand, StoreError, Transaction, View},
};

/// Who is to be notified.
pub struct Pushing {
    queue: Mutex<Queue>,
    badges: Badges,
    /// Of a pusher that was set.
    stirred: Notify,
    reads: Semaphore,
}

/// A pusher's turn. Whoever drops it puts that off.
pub struct Turn {
    app: App,
    work: Option<Work>,
}

impl Pushing {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            queue: Mutex::new(Queue::new(rng)),
            badges: Badges::default(),
            stirred: Notify::new(),
            reads: Semaphore::new(limits::PUSH_READS),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Begins to notify where the last start ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_pushing(&self) -> Result<(), StoreError> {
        let read =
            |view: &View<'_>| Ok::<_, StoreError>((view.pushed()?, view.pusher_stands()?, view.position()));
        let (pushed, stands, position) = self.store.read(read).await?;
        self.pushing.lock().begin(pushed, &stands, position);
        Ok(())
    }

    /// Whether anybody wants to be notified.
    pub fn has_pushers(&self) -> bool {
        !self.pushing.lock().is_empty()
    }

    /// Finds out whom everything concerns that is new in the log.
    ///
    /// # Errors
    /// The store failed.
    pub async fn look_for_pushes(&self) -> Result<(), StoreError> {
        loop {
            let (known, after) = {
                let queue = self.pushing.lock();
                (queue.users(), queue.told())
            };
            if known.is_empty() {
                return Ok(());
            }
            let (own, users) = (self.server_name.clone(), known.clone());
            let read = move |view: &View<'_>| {
                let (users, until) = concerned(view, &own, &users, after)?;
                Ok::<_, StoreError>((users, until, view.position()))
            };
            let (users, until, position) = self.store.read(read).await?;
            self.pushing.lock().stir(&known, users, until);
            if until >= position {
                return Ok(());
            }
        }
    }

    /// Which pusher's turn it is; none: nobody's now.
    pub fn next_push(&self) -> Option<Turn> {
        let work = self.pushing.lock().next(self.clock.now())?;
        Some(Turn { app: self.clone(), work: Some(work) })
    }

    /// Waits until it may be somebody's turn whom nothing new in the log concerns.
    pub async fn pushing_stirred(&self) {
        let now = self.clock.now();
        let time = self.pushing.lock().due(now).map(|due| due.since(now));
        tokio::select! {
            biased;
            () = rest(time) => {}
            () = self.pushing.stirred.notified() => {}
        }
    }

    /// How many pushers have something to tell, as far as is known.
    pub fn pushers_waiting(&self) -> usize {
        self.pushing.lock().waiting()
    }

    /// How many pushers couldn't tell their gateway something, and try again later.
    pub fn pushes_failing(&self) -> usize {
        self.pushing.lock().failing()
    }

    fn pushers_left(&self, user: UserNumber, numbers: &[PusherNumber]) {
        self.pushing.lock().keep(user, numbers);
    }

    fn pusher_set(&self, stand: &PusherStand) {
        self.pushing.lock().put(stand);
        self.pushing.stirred.notify_one();
    }

    /// Whether it may be noted how far everybody was notified.
    pub fn is_pushed_to_be_noted(&self) -> bool {
        self.pushing.lock().is_to_be_noted()
    }

    /// Notes how far everybody was notified.
    ///
    /// # Errors
    /// The store failed; it is still to be noted.
    pub async fn note_pushed(&self) -> Result<(), StoreError> {
        loop {
            let notes = self.pushing.lock().take_notes();
            let Some((stands, all)) = notes else { return Ok(()) };
            let noted = stands.clone();
            let job = move |transaction: &mut Transaction<'_>| transaction.note_pushed(&noted, all);
            if let Err(error) = self.store.write(job).await {
                self.pushing.lock().not_noted(&stands);
                return Err(error);
            }
        }
    }

    /// Notes at the end of the server how far everybody was notified.
    pub async fn end_pushing(&self) {
        if let Err(error) = self.note_pushed().await {
            tracing::warn!(%error, "what devices were notified of lately they are notified of again");
        }
    }
}

impl Turn {
    /// Tells the gateway one thing, if there is any.
    pub async fn take(mut self) {
        let Some(work) = self.work.clone() else { return };
        let outcome = tell(&self.app, &work).await;
        let now = self.app.clock.now();
        match outcome {
            Ok(Outcome::Done(done)) => self.app.pushing.lock().done(&work, done),
            Ok(Outcome::Failed { after }) => self.app.pushing.lock().failed(&work, after, now),
            Ok(Outcome::Gone) => self.app.pushing.lock().gone(&work),
            // Dropped, it is put off.
            Ok(Outcome::Busy) => return,
            Err(error) => {
                tracing::warn!(%error, "what a device is to be notified of can't be read");
                return;
            }
        }
        self.work = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.app.pushing.lock().put_off(&work, self.app.clock.now());
        }
    }
}

enum Outcome {
    Done(Done),
    /// The gateway didn't take what follows this.
    Failed {
        after: Position,
    },
    Busy,
    Gone,
}

async fn tell(app: &App, work: &Work) -> Result<Outcome, StoreError> {
    let notice = loop {
        let (pushing, asked, now) = (app.pushing.clone(), work.clone(), app.clock.now());
        match read(app, move |view| Step::read(view, &pushing.badges, &asked, now)).await? {
            Step::Gone => return Ok(Outcome::Gone),
            Step::Nothing(until) => return Ok(Outcome::Done(Done { until, told: None })),
            Step::Count(onlooker) => count(app, &onlooker).await?,
            Step::Tell(notice) => break notice,
        }
    };
    let Notice { url, pushkey, body, after, until, unread } = notice;
    let Ok(gateway) = Url::parse(&url) else { return Ok(Outcome::Gone) };
    let sent = send(app, &gateway, body).await;
    if !matches!(sent, Err(PushError::Net(NetError::Busy))) {
        app.pushing.lock().heard(work, !matches!(sent, Err(PushError::Net(_))));
    }
    match sent {
        Ok(rejected) if rejected.contains(&pushkey) => {
            let number = work.key.1;
            let job =
                move |transaction: &mut Transaction<'_>| transaction.remove_rejected_pusher(number, &url);
            match app.store.write(job).await? {
                true => Ok(Outcome::Gone),
                // It has another gateway meanwhile.
                false => Ok(Outcome::Failed { after }),
            }
        }
        Ok(_) => Ok(Outcome::Done(Done { until, told: Some(unread) })),
        Err(PushError::Net(NetError::Busy)) => Ok(Outcome::Busy),
        Err(error) => {
            tracing::debug!(%error, gateway = gateway.host_str(), "a push gateway takes nothing now");
            Ok(Outcome::Failed { after })
        }
    }
}

/// Counts how much is new to a user. Between two parts others have their turn.
async fn count(app: &App, onlooker: &Onlooker) -> Result<(), StoreError> {
    let mut counted = None;
    while counted.is_none() {
        let (pushing, onlooker) = (app.pushing.clone(), onlooker.clone());
        counted = read(app, move |view| pushing.badges.count(view, &onlooker)).await?;
    }
    Ok(())
}

/// Reads when it is one's turn: what is judged takes its time, and requests want to read as well.
async fn read<T: Send + 'static>(
    app: &App,
    read: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let _place = app.pushing.reads.acquire().await.expect("it is never closed");
    app.store.read(read).await
}

/// What is next for a pusher.
enum Step {
    Gone,
    /// Nothing, up to here.
    Nothing(Position),
    /// How much is new to the user is to be counted on first.
    Count(Onlooker),
    Tell(Notice),
}

struct Notice {
    url: String,
    pushkey: String,
    body: String,
    /// What it follows, and where it ends.
    after: Position,
    until: Position,
    unread: u64,
}

impl Step {
    fn read(view: &View<'_>, badges: &Badges, work: &Work, now: Timestamp) -> Result<Self, StoreError> {
        let (user, number) = work.key;
        let Some(pusher) = view.pusher(number)? else { return Ok(Self::Gone) };
        // Whose account is locked is told nothing.
        if view.is_locked(pusher.device)? != Some(false) {
            return Ok(Self::Nothing(view.position()));
        }
        let onlooker = Onlooker { user, user_id: view.user_id(user)?, device: pusher.device, now };
        let older = Timestamp(now.0.saturating_sub(limits::PUSH_AGE.as_millis() as u64));
        let older = Some(older).filter(|_| work.failures > 0);
        let News { until, mut event, is_touched, is_read, is_late } =
            News::read(view, &onlooker, work.from, older)?;
        // Where it isn't known what the device shows, it is told anew once the user has read something.
        let is_less = is_read || is_late || is_touched && work.unread.is_some();
        if event.is_none() && !is_less {
            return Ok(Self::Nothing(until));
        }
        let Some(unread) = badges.count(view, &onlooker)? else { return Ok(Self::Count(onlooker)) };
        if event.is_none() && work.unread == Some(unread) {
            return Ok(Self::Nothing(until));
        }
        let after = event.as_ref().map_or(work.from, |event| Position(event.position.0 - 1));
        let is_short = work.failures >= limits::PUSH_TRIES;
        let body = notice::written(view, &pusher, event.as_mut(), unread, is_short)?.to_string();
        let PusherSettings { url, pushkey, .. } = pusher.settings;
        Ok(Self::Tell(Notice { url, pushkey, body, after, until, unread }))
    }
}

#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("it answers {0}")]
    Refused(StatusCode),
}

/// Tells a gateway something, and gives the push keys that it doesn't want to hear of any more.
async fn send(app: &App, url: &Url, body: String) -> Result<Vec<String>, PushError> {
    let (target, path) = Target::of_url(url)?;
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| NetError::Request("a URL with a malformed path"))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let response = app.gateways.send(&target, request, BOUNDS).await?;
    if !response.status().is_success() {
        return Err(PushError::Refused(response.status()));
    }
    // It has the notification, whatever else it says.
    let body = response.into_body().collect().await.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let rejected = answer.get("rejected").and_then(Value::as_array);
    Ok(rejected.into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).collect())
}

const BOUNDS: Bounds = Bounds {
    total: limits::PUSH_TIME,
    head: limits::PUSH_TIME,
    idle: limits::PUSH_TIME,
    body_bytes: limits::PUSH_ANSWER_BYTES,
};
