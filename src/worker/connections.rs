//! Writes down what clients follow by sliding sync when they pause.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    loop {
        if let Err(error) = app.keep_idle_connections().await {
            tracing::warn!(%error, "what clients follow is written down later");
            tokio::time::sleep(limits::WORKER_RETRY).await;
        }
    }
}
