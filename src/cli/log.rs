//! The log: lines for people on a terminal, JSON for whatever else reads the standard error output.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

/// Starts the log of this process.
pub(super) fn start(level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
}
