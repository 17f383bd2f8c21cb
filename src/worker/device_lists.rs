//! Gets lists of devices anew that are not fresh, and forgets those of users whom nobody here meets any more.

use std::time::Duration;

use crate::{
    base::limits,
    service::{App, keys},
};

pub(super) async fn run(app: App) {
    if !app.config.federation.enabled {
        return;
    }
    let (mut forget_at, mut resyncing) = (Duration::ZERO, keys::Resyncing::default());
    loop {
        let done = async {
            if app.clock.monotonic() >= forget_at {
                keys::forget_strangers(&app).await?;
                forget_at = app.clock.monotonic() + limits::FORGET_EVERY;
            }
            app.resync_device_lists(&mut resyncing).await?;
            app.resync_wanted(&mut resyncing).await
        };
        if let Err(error) = done.await {
            tracing::warn!(%error, "other users' lists of devices are had later");
            tokio::time::sleep(limits::WORKER_RETRY).await;
        }
    }
}
