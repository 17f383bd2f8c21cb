//! What a test's own thread logs, kept in memory.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Dispatch, level_filters::LevelFilter, subscriber::DefaultGuard};

/// Everything logged on this thread from [`Log::capture`] on, at every level.
pub(crate) struct Log {
    bytes: Bytes,
    _guard: DefaultGuard,
    _second: Dispatch,
}

impl Log {
    pub(crate) fn capture() -> Self {
        let bytes = Bytes::default();
        let writer = bytes.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        // As long as there is only one subscriber, tracing asks whichever thread comes first whether a line is wanted.
        let second = Dispatch::new(tracing_subscriber::registry());
        Self { bytes, _guard: tracing::subscriber::set_default(subscriber), _second: second }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
