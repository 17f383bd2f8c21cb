//! The log: lines for people on a terminal, JSON for whatever else reads the standard error output.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Registry, filter::Targets, fmt, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat, LogLevel};

/// The level of the log, which can be set while the process runs.
#[derive(Clone)]
pub(super) struct Level(reload::Handle<Targets, Registry>);

impl Level {
    pub(super) fn set(&self, level: LogLevel) {
        // It fails only once there is no log.
        _ = self.0.reload(targets(level));
    }
}

/// Starts the log of this process.
pub(super) fn start(log: &Log) -> Level {
    let (filter, level) = reload::Layer::new(targets(log.level));
    let text = match log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = fmt::layer().with_writer(io::stderr);
    if text {
        let colours = io::stderr().is_terminal();
        registry().with(filter).with(lines.with_target(false).with_ansi(colours)).init();
    } else {
        registry().with(filter).with(lines.json().flatten_event(true)).init();
    }
    Level(level)
}

/// What is let through. Of other crates these are warnings only: what they tell of their work may hold what must not be in
/// a log.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(env!("CARGO_CRATE_NAME"), level)
}
