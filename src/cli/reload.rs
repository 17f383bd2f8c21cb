//! What of its configuration a server takes up while it runs, and what it says of the rest.

use std::path::PathBuf;

use super::log::Level;
use crate::config::Config;

/// What is needed to read the configuration of a running server again.
#[derive(Clone)]
pub(super) struct Reload {
    pub file: PathBuf,
    pub level: Level,
}

impl Reload {
    /// Sets the level of the log, and says what else would be otherwise if the server started now. A configuration with
    /// mistakes changes nothing. It blocks, as reading files does.
    pub(super) fn configuration(&self, running: &Config) {
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(errors) => {
                tracing::error!(%errors, "the configuration has mistakes, what held before goes on");
                return;
            }
        };
        self.level.set(config.log.level);
        let mut changed = running.changed(&config);
        // The rest is the commands' own, who read the file themselves.
        changed.retain(|option| option != "log.level" && !option.starts_with("backup."));
        if changed.is_empty() {
            tracing::info!("the configuration was read again");
        } else {
            let options = changed.join(", ");
            tracing::warn!(options, "the configuration was read again, but these options need a restart");
        }
    }
}
