//! Erases the content of redacted events when its time is over.

use crate::{base::limits, service::App};

pub(super) async fn run(app: App) {
    loop {
        let pause = match app.erase_redacted().await {
            Ok(Some(pause)) => pause,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the content of redacted events is erased later");
                limits::WORKER_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
