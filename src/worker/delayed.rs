//! Sends events that were put off, when their time comes: one timer for all of them. What came due while no server ran is
//! sent at the start.

use crate::{
    base::{clock::rest, limits},
    service::App,
};

pub(super) async fn run(app: App) {
    loop {
        let pause = app.send_delayed().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "events that are due are sent later");
            Some(limits::WORKER_RETRY)
        });
        tokio::select! {
            () = rest(pause) => {}
            () = app.delay_scheduled() => {}
        }
    }
}
