//! Fetches the parents of events that wait for them.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    if !app.config.federation.enabled {
        return;
    }
    while let Err(error) = app.close_gaps().await {
        tracing::warn!(%error, "the parents of events that wait are fetched later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
