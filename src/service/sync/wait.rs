//! Long-polling: answering when there is something to tell, or when the client has waited long enough.

use std::{future::Future, mem, pin::Pin, sync::Arc, time::Duration};

use super::{
    plan::Query,
    unlogged::Unlogged,
    v3::{self, Answer},
};
use crate::{
    base::{ids::DeviceNumber, limits},
    service::{
        App,
        presence::{self, State},
        sessions::SessionError,
        to_device,
        turn::Turn,
        unread,
    },
    store::{Topic, View, Watch},
};

/// Answers a query at once if it asks for everything or there is something to tell, else when there is, or after
/// `timeout` without. While it waits, the turn is not held. Meanwhile the user is shown to be there as `state` has it.
///
/// # Errors
/// The device was logged out or the account locked, perhaps while it waited; or the store failed.
pub async fn sync(
    app: &App,
    turn: &Turn,
    query: Query,
    timeout: Duration,
    state: State,
) -> Result<Answer, SessionError> {
    let _there = presence::begin(app, query.onlooker.user, query.onlooker.device, state);
    let at_once = query.since.is_none() || query.full_state || timeout.is_zero();
    let mut looking = Looking { app, query: Arc::new(query), answer: None };
    until_news(app, turn, Some(timeout).filter(|_| !at_once), &mut looking).await?;
    Ok(looking.answer.expect("whoever looked has an answer"))
}

/// Looks for news and keeps what is to be answered.
pub(super) trait Look: Send {
    fn look(&mut self) -> Pin<Box<dyn Future<Output = Result<Seen, SessionError>> + Send + '_>>;
}

/// What a look found.
pub(super) struct Seen {
    /// What would make a later one find more.
    pub(super) topics: Vec<Topic>,
    /// Whether there is nothing to tell.
    pub(super) is_empty: bool,
    /// Whether something may be told that the device itself sent.
    pub(super) has_echo: bool,
}

/// Looks until there is something to tell, for so long, or once. While it waits, the turn is not held.
pub(super) async fn until_news(
    app: &App,
    turn: &Turn,
    timeout: Option<Duration>,
    looking: &mut dyn Look,
) -> Result<(), SessionError> {
    let mut seen = looking.look().await?;
    let Some(timeout) = timeout else { return Ok(()) };
    let deadline = tokio::time::sleep(timeout.min(limits::SYNC_WAIT));
    tokio::pin!(deadline);
    let mut watching: Option<Watch> = None;
    while seen.is_empty {
        // They may be many, and are held once.
        let topics = mem::take(&mut seen.topics);
        match &mut watching {
            Some(watch) if *watch.topics() == *topics => {
                drop(topics);
                let news = async {
                    tokio::select! {
                        biased;
                        () = &mut deadline => false,
                        () = watch.changed() => true,
                    }
                };
                if !turn.pause(news).await {
                    break;
                }
            }
            // What happened between the read and this watch is found by reading once more.
            _ => watching = Some(app.store.watch(topics)),
        }
        seen = looking.look().await?;
    }
    if seen.has_echo {
        // Clients expect the answer to what they sent before they hear of it; matrix-js-sdk sends it again otherwise.
        turn.pause(tokio::time::sleep(limits::ECHO_PAUSE)).await;
    }
    Ok(())
}

struct Looking<'a> {
    app: &'a App,
    query: Arc<Query>,
    answer: Option<Answer>,
}

impl Look for Looking<'_> {
    fn look(&mut self) -> Pin<Box<dyn Future<Output = Result<Seen, SessionError>> + Send + '_>> {
        Box::pin(async {
            let mut answer = read(self.app, &self.query).await?;
            if answer.has_delivered {
                to_device::acknowledge(self.app, self.query.onlooker.device, self.query.to_device).await;
            }
            let topics = mem::take(&mut answer.topics);
            let seen = Seen { topics, is_empty: answer.is_empty, has_echo: answer.has_echo };
            self.answer = Some(answer);
            Ok(seen)
        })
    }
}

async fn read(app: &App, query: &Arc<Query>) -> Result<Answer, SessionError> {
    let (user, query) = (query.onlooker.user, query.clone());
    let unlogged = Unlogged::of(app, &query);
    let answer = app.store.read(move |view| {
        admit(view, query.onlooker.device)?;
        Ok::<_, SessionError>(v3::answer(view, &query, unlogged)?)
    });
    let mut answer = answer.await?;
    unread::keep(app, user, mem::take(&mut answer.counted));
    Ok(answer)
}

/// Refuses a device that was logged out or whose account was locked.
pub(super) fn admit(view: &View<'_>, device: DeviceNumber) -> Result<(), SessionError> {
    match view.is_locked(device)? {
        Some(false) => Ok(()),
        Some(true) => Err(SessionError::Locked),
        None => Err(SessionError::UnknownToken { soft_logout: false }),
    }
}
