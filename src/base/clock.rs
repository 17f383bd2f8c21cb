//! The only source of time. A [`Clock`] is an argument wherever time matters, so that tests can hold its hands.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// Milliseconds since the Unix epoch, at most 2^53 - 1 (what canonical JSON can carry).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration` after this one, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis().min(u128::from(u64::MAX)) as u64))
    }

    /// Time passed since `earlier`; zero if that lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<Timestamp> for MilliSecondsSinceUnixEpoch {
    fn from(timestamp: Timestamp) -> Self {
        Self(UInt::new_saturating(timestamp.0))
    }
}

impl From<MilliSecondsSinceUnixEpoch> for Timestamp {
    fn from(timestamp: MilliSecondsSinceUnixEpoch) -> Self {
        Self(timestamp.0.into())
    }
}

/// Tells wall-clock and monotonic time: the system's, or one that a test moves by hand.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { started: Instant },
    Manual(Arc<AtomicU64>),
    Told(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

/// Waits for so long; for ever if it isn't known for how long.
pub async fn rest(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

impl Clock {
    /// The system's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now() })
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it; clones move together.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// A clock that shows what it is told whenever somebody looks, which is never earlier than before. For simulation.
    pub fn told(by: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Source::Told(Arc::new(by)))
    }

    /// The current wall-clock time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Timestamp(since.as_millis() as u64)
            }
            Source::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
            Source::Told(by) => by(),
        }
    }

    /// Time since an arbitrary fixed moment; never goes backwards. For rates and time-outs.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual(now) => Duration::from_millis(now.load(Ordering::SeqCst)),
            Source::Told(by) => Duration::from_millis(by().0),
        }
    }

    /// Moves a manual clock forward; without effect on another.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp(1_000));
        let other = clock.clone();
        assert_eq!(clock.now(), Timestamp(1_000));
        other.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), Timestamp(3_000));
        assert_eq!(clock.now().since(Timestamp(1_000)), Duration::from_secs(2));
        assert_eq!(Timestamp(1).since(Timestamp(5)), Duration::ZERO);
    }
}
