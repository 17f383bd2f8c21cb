//! Who is connected, and what they ask. The listeners count that, which stand above the use cases.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// What the listeners have to do at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub connections: usize,
    /// Those in flight, of which some only wait for news.
    pub requests: usize,
}

/// Whoever counts the traffic.
#[derive(Default)]
pub struct Counter(OnceLock<Box<dyn Fn() -> Traffic + Send + Sync>>);

impl Counter {
    /// Has somebody asked from now on; only who is the first is.
    pub fn ask(&self, count: impl Fn() -> Traffic + Send + Sync + 'static) {
        _ = self.0.set(Box::new(count));
    }

    /// The traffic now; none without a listener.
    pub fn now(&self) -> Traffic {
        self.0.get().map(|count| count()).unwrap_or_default()
    }
}
