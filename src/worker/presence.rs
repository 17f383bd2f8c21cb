//! Shows who came and went, and wakes those who are to know.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    if !app.config.presence.enabled {
        return;
    }
    while let Err(error) = app.recall_presence().await {
        tracing::warn!(%error, "who was there before the start is found out later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
    loop {
        if let Err(error) = app.tell_presence().await {
            tracing::warn!(%error, "those who wait don't hear at once who came and went");
            tokio::time::sleep(limits::WORKER_RETRY).await;
        }
    }
}
