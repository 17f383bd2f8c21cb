//! Removes what a crash left of uploads, once after each start.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    while let Err(error) = app.sweep_media().await {
        tracing::warn!(%error, "the files of the content repository are swept later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
