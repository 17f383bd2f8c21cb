//! Notifies devices that sleep: finds out whom news concern, and gives each pusher its turn.

use std::{future::pending, pin::Pin};

use tokio::{
    task::JoinSet,
    time::{Sleep, sleep},
};

use crate::{base::limits, service::App, store::Topic};

pub(super) async fn run(app: App) {
    let mut log = app.store.watch(vec![Topic::Push]);
    while let Err(error) = app.begin_pushing().await {
        tracing::warn!(%error, "no device is notified for now");
        sleep(limits::WORKER_RETRY).await;
    }
    let mut turns = JoinSet::new();
    let mut note: Option<Pin<Box<Sleep>>> = None;
    let mut is_new = true;
    loop {
        if is_new {
            if let Err(error) = app.look_for_pushes().await {
                tracing::warn!(%error, "no device is notified for now");
                sleep(limits::WORKER_RETRY).await;
                continue;
            }
            is_new = false;
        }
        while turns.try_join_next().is_some() {}
        while let Some(turn) = app.next_push() {
            turns.spawn(turn.take());
        }
        if note.is_none() && app.is_pushed_to_be_noted() {
            note = Some(Box::pin(sleep(limits::PUSHED_EVERY)));
        }
        let noting = async {
            match &mut note {
                Some(time) => time.await,
                None => pending().await,
            }
        };
        // For nobody, nothing is looked at.
        let news = async {
            match app.has_pushers() {
                true => log.changed().await,
                false => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = noting => {
                note = None;
                if let Err(error) = app.note_pushed().await {
                    tracing::warn!(%error, "how far devices were notified is noted later");
                }
            }
            () = news => is_new = true,
            () = app.pushing_stirred() => {}
            Some(_) = turns.join_next() => {}
        }
    }
}
