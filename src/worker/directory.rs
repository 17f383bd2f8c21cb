//! Brings into the directories what was in a store before they were, once after each start.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    while let Err(error) = app.fill_directories().await {
        tracing::warn!(%error, "the directories are filled later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
