//! What an operator decides: one file a section, whose doc comments are the manual.
//!
//! A section is a struct declared with `section!`. The macro reads its fields from TOML or the environment, prints
//! them, and hands their doc comments to [`example`]: an option is documented and tested where it is declared. Every
//! problem of a file is told at once, each with its line.

mod backup;
mod errors;
mod federation;
mod listener;
mod log;
mod media;
mod oauth;
mod presence;
mod previews;
mod push;
mod rate_limit;
mod reader;
mod registration;
mod retention;
mod rtc;
mod search;
mod section;
mod signing_key;
mod sso;
mod terms;
#[cfg(test)]
mod tests;
mod turn;
mod value;
mod well_known;

use std::{
    fs,
    path::{Path, PathBuf},
};

use ruma::{OwnedServerName, ServerName};

pub use self::{
    backup::Backup,
    errors::ConfigErrors,
    federation::Federation,
    listener::{Bind, Listener, Tls},
    log::{Log, LogFormat, LogLevel},
    media::Media,
    oauth::OAuth,
    presence::Presence,
    previews::Previews,
    push::Push,
    rate_limit::RateLimit,
    registration::{Registration, RegistrationMode},
    retention::{Retention, Span},
    rtc::Rtc,
    search::Search,
    signing_key::{SigningKey, SigningKeyError, is_version},
    sso::{ClientUrl, Icon, Issuer, ProviderId, Sso, Upstream},
    terms::Terms,
    turn::Turn,
    well_known::{Contact, HttpUrl, WellKnown},
};
use self::{
    reader::{Environment, Source},
    section::{Section, section},
};

section! {
    /// The configuration of a Tayberry server.
    ///
    /// Relative paths begin at the folder of this file. A `#` right before a key hides what holds anyway, or an example
    /// where nothing holds. The environment goes before this file: `TAYBERRY_SERVER_NAME` sets `server_name`, and
    /// `TAYBERRY_LOG_LEVEL` the `level` of `[log]`. `tayberry config --check` finds mistakes.
    pub struct Config {
        /// The name in this server's user and room ids. It can't change once there is an account: what other servers
        /// know of this one hangs on it.
        server_name: OwnedServerName => "\"example.org\"",
        /// The folder that holds everything the server keeps, its signing key included. One server at a time uses it.
        data_dir: PathBuf => "\"tayberry-data\"",
        listener: Vec<Listener> = vec![Listener::plain(Bind::Tcp(([127, 0, 0, 1], 8008).into()))],
        registration: Registration,
        terms: Terms,
        sso: Sso,
        upstream: Vec<Upstream> = Vec::new(),
        oauth: OAuth,
        media: Media,
        previews: Previews,
        retention: Retention,
        search: Search,
        presence: Presence,
        push: Push,
        rate_limit: RateLimit,
        federation: Federation,
        well_known: WellKnown,
        turn: Turn,
        rtc: Rtc,
        backup: Backup,
        log: Log,
    }
}

impl Config {
    /// Reads the configuration from a file and the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(path, &Self::read(path)?)
    }

    /// The same without the secrets that lie in files: those may be for the server alone, as systemd's credentials are.
    ///
    /// # Errors
    /// Everything else that is wrong with it.
    pub fn load_without_secrets(path: &Path) -> Result<Self, ConfigErrors> {
        let (text, environment) = (&Self::read(path)?, &Environment::of_process());
        Source { path, text, environment, reads_secrets: false }.parse()
    }

    fn read(path: &Path) -> Result<String, ConfigErrors> {
        let failed = |error| {
            let remedy = "name a file that is this user's, or let `tayberry init` write one";
            ConfigErrors::new([format!("{} can't be read: {error}; {remedy}", path.display())])
        };
        fs::read_to_string(path).map_err(failed)
    }

    /// Reads the configuration from the text of a file and the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        Source { path, text, environment: &Environment::of_process(), reads_secrets: true }.parse()
    }

    /// What is wrong with values that are good each by itself.
    fn conflict(&self) -> Option<String> {
        let ids: Vec<_> = self.upstream.iter().map(|provider| provider.id.0.as_str()).collect();
        let twice = ids.iter().enumerate().find(|(index, id)| ids[..*index].contains(id));
        if let Some((_, id)) = twice {
            return Some(format!("two of `upstream` have the id {id}"));
        }
        if let Some(conflict) = self.well_known.conflict() {
            return Some(conflict);
        }
        let old = self.upstream.iter().filter(|provider| provider.old_redirect_uri).count();
        (old > 1).then(|| "two of `upstream` have `old_redirect_uri`: leave it to one of them".to_owned())
    }

    /// The configuration in which everything that can be left out is.
    pub fn of_defaults(server_name: &ServerName, data_dir: &Path) -> Self {
        let text = format!("server_name = \"{server_name}\"\ndata_dir = \"data\"");
        let source = Source {
            path: Path::new(""),
            text: &text,
            environment: &Environment::default(),
            reads_secrets: true,
        };
        let config = source.parse().expect("what is left out has a default");
        Self { data_dir: data_dir.to_owned(), ..config }
    }

    /// The file that holds the server's signing key.
    pub fn signing_key_file(&self) -> PathBuf {
        self.data_dir.join("signing.key")
    }

    /// The file of the key that is to take its place.
    pub fn next_signing_key_file(&self) -> PathBuf {
        self.data_dir.join("signing.key.new")
    }

    /// The effective configuration as TOML, with secrets masked.
    pub fn to_toml(&self) -> String {
        self.print().to_string()
    }

    /// The options that another configuration sets otherwise: `log.level` is the `level` of `[log]`.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        Section::changed(self, other)
    }
}

/// The commented example of a configuration, for a server of this name.
pub fn example(server_name: &ServerName) -> String {
    name_server(&Config::MANUAL.to_toml(), NAME, server_name)
}

/// The same text with the server's name set, which stands there behind a `#` as the example has it; none if it doesn't.
pub fn named(text: &str, server_name: &ServerName) -> Option<String> {
    let unset = format!("\n#{NAME}\n");
    text.contains(&unset).then(|| name_server(text, &unset[1..unset.len() - 1], server_name))
}

fn name_server(text: &str, line: &str, server_name: &ServerName) -> String {
    text.replacen(line, &format!("server_name = {}", toml::Value::from(server_name.as_str())), 1)
}

/// How the example names a server.
const NAME: &str = "server_name = \"example.org\"";
