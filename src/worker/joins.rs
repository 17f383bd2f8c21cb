//! Goes on with the rooms of other servers that were being entered when the server ended, or the store failed.

use crate::{
    base::limits,
    service::{App, federation::joining},
};

pub(super) async fn run(app: App) {
    loop {
        match joining::go_on(&app).await {
            Ok(()) => joining::left(&app).await,
            Err(error) => {
                tracing::warn!(%error, "a room is entered later");
                tokio::time::sleep(limits::WORKER_RETRY).await;
            }
        }
    }
}
