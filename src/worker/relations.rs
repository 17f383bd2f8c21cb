//! Indexes the relations of what an older server stored, once.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    while let Err(error) = app.index_relations().await {
        tracing::warn!(%error, "the relations of older events are indexed later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
