//! `[log]`: what is written to the standard error output.

use super::{section::section, value::choice};

section! {
    /// What is written to the standard error output. No token, password or message is.
    pub struct Log {
        /// The least that is written: `error`, `warn`, `info` or `debug`.
        level: LogLevel = LogLevel::Info,
        /// `text` is for people, `json` for programs; `auto` is text on a terminal and JSON elsewhere.
        format: LogFormat = LogFormat::Auto,
    }
}

/// The least weight that an entry of the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

choice! { LogLevel: Error = "error", Warn = "warn", Info = "info", Debug = "debug" }

/// How an entry of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

choice! { LogFormat: Auto = "auto", Text = "text", Json = "json" }
