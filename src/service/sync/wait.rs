//! Long-polling: answering when there is something to tell, or when the client has waited long enough.

use std::{mem, sync::Arc, time::Duration};

use super::{
    plan::Query,
    unlogged::Unlogged,
    v3::{self, Answer},
};
use crate::{
    base::limits,
    service::{
        App,
        presence::{self, State},
        sessions::SessionError,
        to_device,
        turn::Turn,
        unread,
    },
    store::Watch,
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
    let query = Arc::new(query);
    let mut answer = read(app, &query).await?;
    if answer.has_delivered {
        to_device::acknowledge(app, query.onlooker.device, query.to_device).await;
    }
    if at_once {
        return Ok(answer);
    }
    let deadline = tokio::time::sleep(timeout.min(limits::SYNC_WAIT));
    tokio::pin!(deadline);
    let mut watching: Option<(Vec<_>, Watch)> = None;
    while answer.is_empty {
        match &watching {
            Some((topics, watch)) if *topics == answer.topics => {
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
            _ => watching = Some((answer.topics.clone(), app.store.watch(answer.topics.clone()))),
        }
        answer = read(app, &query).await?;
    }
    if answer.has_echo {
        // Clients expect the answer to what they sent before they hear of it; matrix-js-sdk sends it again otherwise.
        turn.pause(tokio::time::sleep(limits::ECHO_PAUSE)).await;
    }
    Ok(answer)
}

async fn read(app: &App, query: &Arc<Query>) -> Result<Answer, SessionError> {
    let (user, query) = (query.onlooker.user, query.clone());
    let unlogged = Unlogged::of(app, &query);
    let answer = app.store.read(move |view| match view.is_locked(query.onlooker.device)? {
        Some(false) => Ok(v3::answer(view, &query, unlogged)?),
        Some(true) => Err(SessionError::Locked),
        None => Err(SessionError::UnknownToken { soft_logout: false }),
    });
    let mut answer = answer.await?;
    unread::keep(app, user, mem::take(&mut answer.counted));
    Ok(answer)
}
