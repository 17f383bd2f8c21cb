//! Sends events that were put off, when their time comes: one timer for all of them. What came due while no server ran is
//! sent at the start.

use std::future::pending;

use tokio::time::sleep;

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    loop {
        let pause = app.send_delayed().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "events that are due are sent later");
            Some(limits::WORKER_RETRY)
        });
        let timer = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = app.delay_scheduled() => {}
        }
    }
}
