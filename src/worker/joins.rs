//! Goes on with the rooms of other servers that were being entered when the server ended.

use crate::{
    base::limits,
    service::{App, federation::joining},
};

pub(super) async fn run(app: App) {
    while let Err(error) = joining::go_on(&app).await {
        tracing::warn!(%error, "a room is entered later");
        tokio::time::sleep(limits::WORKER_RETRY).await;
    }
}
