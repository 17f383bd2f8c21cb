//! The log: lines for people on a terminal, JSON for whatever else reads the standard error output.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts the log of this process. Of other crates it takes warnings only: what they tell of their work may hold what
/// must not be in a log.
pub(super) fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let text = match log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    if text {
        let colours = io::stderr().is_terminal();
        lines.with_target(false).with_ansi(colours).finish().with(targets).init();
    } else {
        lines.json().flatten_event(true).finish().with(targets).init();
    }
}
