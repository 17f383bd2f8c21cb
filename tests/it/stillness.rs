//! Time that passes by hand: whole servers on real sockets wait for as long as a test says, and no longer.

use std::{sync::mpsc, thread, time::Duration};

use tokio::task::spawn_blocking;

use crate::rig::Rig;

/// The runtime's time stands still for as long as this is there.
pub(crate) struct Stillness(#[expect(dead_code, reason = "it ends what waits for it")] mpsc::Sender<()>);

impl Stillness {
    pub(crate) fn begin() -> Self {
        let (end, ended) = mpsc::channel();
        // While a thread blocks, a runtime doesn't move its time on by itself.
        spawn_blocking(move || ended.recv());
        tokio::time::pause();
        Self(end)
    }

    /// Lets so much time pass at a server, and a moment for what comes of that.
    pub(crate) async fn pass(&self, rig: &Rig, time: Duration) {
        rig.advance(time);
        // Timers end with the millisecond in which they are due.
        tokio::time::advance(time + Duration::from_millis(1)).await;
        moment().await;
    }
}

impl Drop for Stillness {
    fn drop(&mut self) {
        if !thread::panicking() {
            tokio::time::resume();
        }
    }
}

/// Waits a moment, even while time stands still.
pub(crate) async fn moment() {
    spawn_blocking(|| thread::sleep(Duration::from_millis(5))).await.unwrap();
}

#[tokio::test]
async fn time_passes_by_hand_alone() {
    let rig = Rig::start().await;
    let stillness = Stillness::begin();
    let sleeping = tokio::spawn(tokio::time::sleep(Duration::from_secs(2)));
    moment().await;
    stillness.pass(&rig, Duration::from_secs(1)).await;
    rig.get("/_matrix/client/versions").await.ok();
    assert!(!sleeping.is_finished());
    stillness.pass(&rig, Duration::from_secs(1)).await;
    assert!(sleeping.is_finished());
}
