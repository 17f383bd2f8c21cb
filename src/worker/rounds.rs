//! Makes rounds through the rooms of users whose profile changed or whose account ended.

use crate::{base::limits, service::App};

/// Makes what is wanted already, and then whatever is.
pub(super) async fn run(app: App) {
    loop {
        match app.make_rounds().await {
            Ok(()) => app.round_wanted().await,
            Err(error) => {
                tracing::warn!(%error, "a round through a user's rooms is put off");
                tokio::time::sleep(limits::WORKER_RETRY).await;
            }
        }
    }
}
