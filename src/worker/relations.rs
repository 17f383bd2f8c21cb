//! Indexes what an older server stored, once: relations, and members by their servers.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    while let Err(error) = app.index_relations().await {
        tracing::warn!(%error, "the relations of older events are indexed later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
    while let Err(error) = app.index_servers().await {
        tracing::warn!(%error, "the members of older rooms are indexed later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
