//! Keeps the index of what was said in step with the log, some time after.

use tokio::time::sleep;

use crate::{base::limits, service::App, store::Topic};

pub(super) async fn run(app: App) {
    let is_wanted = app.config.search.enabled;
    // Whatever is said touches it.
    let mut log = app.store.watch(vec![Topic::Push]);
    loop {
        let done = if is_wanted { app.index_words().await } else { app.remove_words().await };
        match done {
            Err(error) => {
                tracing::warn!(%error, "messages are indexed later");
                sleep(limits::WORKER_RETRY).await;
            }
            Ok(()) if !is_wanted => return,
            Ok(()) => tokio::select! {
                () = app.index_lost() => {}
                () = log.changed() => sleep(limits::INDEX_EVERY).await,
            },
        }
    }
}
