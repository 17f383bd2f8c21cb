//! Sends to other servers what is theirs to have: finds out what that is, and gives each server its turn.

use std::{future::pending, pin::Pin};

use tokio::{
    task::JoinSet,
    time::{Sleep, sleep},
};

use crate::{base::limits, service::App, store::Topic};

pub(super) async fn run(app: App) {
    if !app.config.federation.enabled {
        return;
    }
    let mut log = app.store.watch(vec![Topic::Federation]);
    while let Err(error) = app.begin_sending().await {
        tracing::warn!(%error, "other servers are sent nothing for now");
        sleep(limits::WORKER_RETRY).await;
    }
    let mut turns = JoinSet::new();
    let mut note: Option<Pin<Box<Sleep>>> = None;
    let mut is_new = true;
    loop {
        if is_new || app.has_rumours() {
            if let Err(error) = app.distribute().await {
                tracing::warn!(%error, "other servers are sent nothing for now");
                sleep(limits::WORKER_RETRY).await;
                continue;
            }
            is_new = false;
        }
        while turns.try_join_next().is_some() {}
        while turns.len() < limits::SENDERS
            && let Some(turn) = app.next_turn()
        {
            turns.spawn(turn.take());
        }
        if note.is_none() && app.is_sent_to_be_noted() {
            note = Some(Box::pin(sleep(limits::SENT_EVERY)));
        }
        let noting = async {
            match &mut note {
                Some(time) => time.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = noting => {
                note = None;
                if let Err(error) = app.note_sent().await {
                    tracing::warn!(%error, "how far everything was sent is noted later");
                }
            }
            () = log.changed() => is_new = true,
            () = app.sending_stirred() => {}
            Some(_) = turns.join_next() => {}
        }
    }
}
