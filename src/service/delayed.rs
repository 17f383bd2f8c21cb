//! Events that are sent later: when their time comes, or when whoever knows their id says so. They are kept until then, over
//! restarts, and are sent as their sender's clients send them, with what the sender may do at that time.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use std::{collections::HashSet, time::Duration};

use ruma::{OwnedRoomId, RoomId, events::TimelineEventType};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use super::{App, federation::joining::Elsewhere, rooms, sessions::Session, write::append::WriteError};
use crate::{
    base::{clock::Timestamp, ids::UserNumber, json::Object, limits},
    room::build::Draft,
    store::{
        DelayedEvent, StoreError, View,
        events::{Endpoint, TransactionIdentity},
    },
};

/// Why an event is not scheduled, sent, restarted or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    #[error("an event is put off by some time")]
    None,
    #[error("an event can't be put off for so long")]
    TooLong,
    /// How long until some of it is sent.
    #[error("the user has scheduled too much")]
    TooMuch(Duration),
    #[error("there is no such delayed event")]
    Unknown,
    #[error("the delayed event came to another end")]
    Ended,
    #[error("the account is locked")]
    Locked,
    #[error("the account is suspended")]
    Suspended,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an event ends that was put off, if it was: by its id, and since when it must have been as it is.
#[derive(Clone, Debug)]
pub struct Delay {
    pub(super) id: String,
    pub(super) since: Timestamp,
}

impl Delay {
    /// Whether nobody ended it meanwhile, or began it anew.
    pub(super) fn is_due(&self, view: &View<'_>) -> Result<bool, StoreError> {
        let event = view.delayed_event(&self.id)?;
        Ok(event.is_some_and(|event| event.ended.is_none() && event.since == self.since))
    }
}

/// What is done with a scheduled event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Send,
    Cancel,
    /// The delay begins anew.
    Restart,
}

/// Schedules an event and gives the id by which it is managed. `transaction` is the id that the client gave the request.
/// Whether the event may be sent is asked when it is.
pub async fn schedule(
    app: &App,
    sender: &Session,
    room_id: &RoomId,
    draft: Draft,
    transaction: Option<String>,
    delay: Duration,
) -> Result<String, DelayError> {
    if delay.is_zero() {
        return Err(DelayError::None);
    }
    if delay > limits::DELAY {
        return Err(DelayError::TooLong);
    }
    let event = DelayedEvent {
        id: app.rng.token(),
        user: sender.number,
        device: sender.device,
        room_id: room_id.to_string(),
        kind: draft.kind.to_string(),
        state_key: draft.state_key,
        content: draft.content.text(),
        delay_ms: delay.as_millis() as u64,
        since: app.clock.now(),
        ended: None,
    };
    let size = event.content.len();
    let fields = [Some(&event.kind), event.state_key.as_ref()];
    if size > limits::EVENT_BYTES
        || fields.into_iter().flatten().any(|field| field.len() > limits::EVENT_FIELD_BYTES)
    {
        return Err(WriteError::TooLarge.into());
    }
    let scheduled = app.store.write(move |job| {
        if let Some(id) = &transaction
            && let Some(known) = job.delayed_event_of_transaction(event.device, &event.room_id, id)?
        {
            return Ok(known);
        }
        let scheduled = job.scheduled(event.user)?;
        if scheduled.count >= limits::DELAYS as u64
            || scheduled.bytes + size as u64 > limits::DELAYS_BYTES as u64
        {
            return Err(DelayError::TooMuch(scheduled.first.unwrap_or_default().since(event.since)));
        }
        job.schedule_event(&event, transaction.as_deref())?;
        Ok(event.id.clone())
    });
    let id = scheduled.await?;
    app.delays.notify_one();
    Ok(id)
}

/// A user's delayed event, also one that has ended.
pub async fn event(app: &App, user: UserNumber, id: String) -> Result<DelayedEvent, DelayError> {
    app.store.read(move |view| of(view, &id, Some(user))).await
}

/// What a user has scheduled, the first that is due first.
pub async fn scheduled(app: &App, user: UserNumber) -> Result<Vec<DelayedEvent>, StoreError> {
    app.store.read(move |view| view.scheduled_events(user)).await
}

/// Does something with a scheduled event: for its sender or, if none is given, for somebody who knows its id. What was done
/// already is done.
pub async fn manage(app: &App, by: Option<UserNumber>, id: String, action: Action) -> Result<(), DelayError> {
    if action == Action::Send {
        return send(app, by, id).await;
    }
    app.store
        .write(move |transaction| {
            let event = of(transaction, &id, by)?;
            match action {
                _ if event.ended.is_some() => as_ended(&event, action)?,
                Action::Restart => transaction.restart_delay(&id)?,
                _ => transaction.end_delay(&id, None, None)?,
            }
            Ok(())
        })
        .await
}

/// Sends an event before its time. One that can't be sent now is still sent when its time comes, if it can.
async fn send(app: &App, by: Option<UserNumber>, id: String) -> Result<(), DelayError> {
    loop {
        let again = id.clone();
        let event = app.store.read(move |view| of(view, &again, by)).await?;
        if event.ended.is_some() {
            return as_ended(&event, Action::Send);
        }
        match deliver(app, event).await {
            // Somebody was faster, or restarted it.
            Err(DelayError::Write(WriteError::Withdrawn)) => {}
            sent => return sent,
        }
    }
}

fn of(view: &View<'_>, id: &str, by: Option<UserNumber>) -> Result<DelayedEvent, DelayError> {
    let event = view.delayed_event(id)?;
    event.filter(|event| by.is_none_or(|user| user == event.user)).ok_or(DelayError::Unknown)
}

/// Whether an event came to the end that an action would bring about.
fn as_ended(event: &DelayedEvent, action: Action) -> Result<(), DelayError> {
    let is_sent = event.ended.as_ref().is_some_and(|end| end.event_id.is_some());
    let as_wanted = match action {
        Action::Send => is_sent,
        Action::Cancel => !is_sent,
        Action::Restart => false,
    };
    if as_wanted { Ok(()) } else { Err(DelayError::Ended) }
}

/// Sends an event as a client of its sender would.
async fn deliver(app: &App, event: DelayedEvent) -> Result<(), DelayError> {
    let user = event.user;
    let (account, user_id) = app
        .store
        .read(move |view| Ok::<_, StoreError>((view.account_by_number(user)?, view.user_id(user)?)))
        .await?;
    match account {
        Some(account) if account.locked => return Err(DelayError::Locked),
        Some(account) if account.suspended => return Err(DelayError::Suspended),
        _ => {}
    }
    let unreadable = |what: &str| WriteError::Content(format!("the {what} can't be read"));
    let room_id: OwnedRoomId = event.room_id.try_into().map_err(|_| unreadable("room's id"))?;
    let draft = Draft {
        kind: TimelineEventType::from(event.kind),
        state_key: event.state_key,
        content: Object::parse(&event.content).map_err(|_| unreadable("content"))?,
        redacts: None,
    };
    let request =
        TransactionIdentity { device: event.device, endpoint: Endpoint::Delayed, id: event.id.clone() };
    rooms::deliver(
        app,
        user_id,
        &room_id,
        draft,
        Some(request),
        Some(Delay { id: event.id, since: event.since }),
    )
    .await?;
    Ok(())
}

impl App {
    /// Waits until an event is scheduled, or was since this was called last.
    pub async fn delay_scheduled(&self) {
        self.delays.notified().await;
    }

    /// Sends what is due, and says for how long nothing will be; none if nothing is scheduled. Each user's events are sent
    /// in the order in which they are due, and those of several users beside each other if need be.
    ///
    /// # Errors
    /// The store failed; what was not sent is still due.
    pub async fn send_delayed(&self) -> Result<Option<Duration>, StoreError> {
        let (mut sending, mut busy, mut failed) = (JoinSet::new(), HashSet::new(), false);
        loop {
            let (now, most) = (self.clock.now(), limits::DELAYS_SENT + busy.len());
            let mut due = match failed {
                true => Vec::new(),
                false => self.store.read(move |view| view.due_events(now, most)).await?,
            };
            due.retain(|event| !busy.contains(&event.user));
            due.truncate(limits::DELAYS_SENDING - busy.len());
            if due.is_empty() && sending.is_empty() {
                if failed {
                    return Ok(Some(limits::WORKER_RETRY));
                }
                let next = self.store.read(|view| view.next_due()).await?;
                return Ok(next.map(|next| next.since(self.clock.now()).min(limits::DELAY_LOOK)));
            }
            for event in due {
                let (app, user) = (self.clone(), event.user);
                busy.insert(user);
                sending.spawn(async move { (user, send_due(app, event).await) });
            }
            // Some take long, as they wait for a policy server or for another one.
            match timeout(limits::DELAY_PATIENCE, sending.join_next()).await {
                Ok(Some(Ok((user, sent)))) => {
                    busy.remove(&user);
                    failed |= sent.is_err();
                }
                Ok(Some(Err(_))) => failed = true,
                Ok(None) | Err(_) => {}
            }
        }
    }
}

/// Sends an event whose time has come. One that can't be sent has ended, too, and nobody tries again, unless another server
/// doesn't answer for the time being.
async fn send_due(app: App, event: DelayedEvent) -> Result<(), StoreError> {
    let (id, now) = (event.id.clone(), app.clock.now());
    let late = now.since(event.since.plus(Duration::from_millis(event.delay_ms)));
    let error = match deliver(&app, event).await {
        // Another server decides, and may answer soon.
        Err(DelayError::Write(WriteError::Elsewhere(Elsewhere::Failed(_) | Elsewhere::Busy)))
            if late < limits::DELAY_TRIED =>
        {
            let again = now.plus(limits::DELAY_RETRY);
            return app.store.write(move |transaction| transaction.put_off_delay(&id, again)).await;
        }
        Ok(()) | Err(DelayError::Write(WriteError::Withdrawn)) => return Ok(()),
        Err(DelayError::Store(error) | DelayError::Write(WriteError::Store(error))) => {
            tracing::warn!(%error, "an event that is due is sent later");
            return Err(error);
        }
        Err(error) => error,
    };
    let code = match &error {
        DelayError::Locked => "M_USER_LOCKED",
        DelayError::Suspended => "M_USER_SUSPENDED",
        DelayError::Write(WriteError::Denied(_) | WriteError::UnknownRoom | WriteError::Remote) => {
            "M_FORBIDDEN"
        }
        DelayError::Write(WriteError::UnknownEvent) => "M_NOT_FOUND",
        DelayError::Write(WriteError::TooLarge) => "M_TOO_LARGE",
        DelayError::Write(WriteError::Content(_)) => "M_BAD_JSON",
        DelayError::Write(WriteError::InviteBlocked(blocked)) => blocked.code(),
        DelayError::Write(WriteError::DuplicateAnnotation) => "M_DUPLICATE_ANNOTATION",
        DelayError::Write(WriteError::Unconsented(_)) => "M_LIMIT_EXCEEDED",
        _ => "M_UNKNOWN",
    };
    let told = json!({"errcode": code, "error": error.to_string()}).to_string();
    app.store.write(move |transaction| transaction.end_delay(&id, None, Some(&told))).await
}
