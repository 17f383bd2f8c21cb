//! Takes the operator's commands to a data folder: through the socket of the server that runs on it, or by opening the
//! store, under the lock that a server would hold.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use lexopt::prelude::*;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::{Failure, localserve, open};
use crate::{
    base::limits,
    config::{Config, SigningKey},
    service::{
        App,
        operator::{self, Command, Outcome},
    },
    store::{
        Store, View,
        backup::{Take, stream},
    },
};

/// The operator's socket of the server that runs on a data folder.
pub(super) fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// Which data folder a command line means: that of a configuration, or one of `localserve`.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub config: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// Reads it from a command line that says nothing else.
    pub(super) fn alone(mut arguments: lexopt::Parser) -> Result<Self, Failure> {
        let mut place = Self::default();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("config") => place.config = Some(arguments.value()?.into()),
                Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(place)
    }

    /// The configuration, and whether it is one that somebody wrote. No command needs the server's secrets.
    pub(super) fn config(self) -> Result<(Config, bool), Failure> {
        match self {
            Self { config: Some(file), data_dir: None } => {
                let config = Config::load_without_secrets(&file);
                Ok((config.map_err(|errors| Failure::Error(errors.into()))?, true))
            }
            Self { config: None, data_dir: Some(dir) } => Ok((localserve::config(8008, dir)?, false)),
            _ => Err(Failure::Usage("either --config FILE or --data-dir DIR must be given".into())),
        }
    }
}

/// Where the commands go.
pub(super) enum Operator {
    /// To the server that listens here.
    Running(PathBuf),
    /// To the store, which is this process's alone.
    Stopped(Runtime, App),
}

impl Operator {
    /// Finds the server, or opens the store where none runs.
    pub(super) fn at(place: Place) -> Result<Self, Failure> {
        Self::about_to_change(place, None)
    }

    /// The same before a change to another signing key, which needs no other one than that.
    pub(super) fn about_to_change(place: Place, key: Option<&SigningKey>) -> Result<Self, Failure> {
        let (config, configured) = place.config()?;
        match Self::running_on(&config.data_dir)? {
            Some(running) => Ok(running),
            None => {
                let (runtime, app) = Self::opened(config, configured, key)?;
                Ok(Self::Stopped(runtime, app))
            }
        }
    }

    /// Finds the server, which must run.
    pub(super) fn running(place: Place) -> Result<Self, Failure> {
        let config = place.config()?.0;
        check_folder(&config)?;
        let dir = config.data_dir;
        let none = || anyhow!("no server runs on {}: start it, or look into its log", dir.display());
        Ok(Self::running_on(&dir)?.with_context(none)?)
    }

    /// Opens the store of a server that must not run.
    pub(super) fn alone(place: Place) -> Result<(Runtime, App), Failure> {
        let (config, configured) = place.config()?;
        match Self::running_on(&config.data_dir)? {
            Some(_) => Err(anyhow!("a server runs on {}: stop it first", config.data_dir.display()).into()),
            None => Ok(Self::opened(config, configured, None)?),
        }
    }

    fn running_on(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let socket = socket(data_dir);
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Some(Self::Running(socket))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                bail!("the server's socket {} can't be used, run this as its user: {error}", socket.display())
            }
        }
    }

    fn opened(config: Config, configured: bool, key: Option<&SigningKey>) -> anyhow::Result<(Runtime, App)> {
        check_folder(&config)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut parts = open::parts(config, key)?;
        if !configured {
            let name = runtime.block_on(parts.store.read(|view: &View<'_>| view.server_name()))?;
            parts.config.server_name =
                name.context("no server has run on the data folder yet: start one first")?.parse()?;
        }
        let app = App::new(parts);
        runtime.block_on(app.claim_store())?;
        Ok((runtime, app))
    }

    /// Has a command done.
    pub(super) fn run(&self, command: Command) -> anyhow::Result<Outcome> {
        match self {
            Self::Running(socket) => ask(socket, &command),
            Self::Stopped(runtime, app) => Ok(runtime.block_on(operator::run(app, command))?),
        }
    }

    /// Gives one state of the stores to `take`.
    pub(super) fn dump(&self, take: &mut Take<'_>) -> anyhow::Result<()> {
        match self {
            Self::Running(socket) => {
                let failed =
                    || format!("the server doesn't answer at {}: look into its log", socket.display());
                let mut answer = BufReader::new(send(socket, "/dump", b"{}", limits::OPERATOR_TIME)?);
                let mut line = String::new();
                answer.read_line(&mut line).with_context(failed)?;
                if line.split(' ').nth(1) != Some("200") {
                    bail!(failed());
                }
                while line != "\r\n" {
                    line.clear();
                    if answer.read_line(&mut line).with_context(failed)? == 0 {
                        bail!(failed());
                    }
                }
                Ok(stream::read(&mut answer, take)?)
            }
            Self::Stopped(_, app) => Ok(app.store.dump(take)?),
        }
    }
}

/// Checks that a server has been on the data folder, or `init` was.
fn check_folder(config: &Config) -> anyhow::Result<()> {
    match fs::metadata(config.signing_key_file()) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                && !Store::is_in(&config.data_dir) =>
        {
            bail!("{} is not a server's data folder: name another", config.data_dir.display())
        }
        // What else is wrong, whoever opens it says.
        _ => Ok(()),
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Self::Stopped(_, app) = self {
            app.store.close();
        }
    }
}

/// Sends a command to a running server: one request, of the version of HTTP in which an answer ends with its connection.
fn ask(socket: &Path, command: &Command) -> anyhow::Result<Outcome> {
    let failed = || format!("the server doesn't answer at {}: look into its log", socket.display());
    let patience = match command {
        Command::Verify { .. } => limits::VERIFY_TIME,
        Command::Health {} => limits::HEALTH_TIME,
        _ => limits::OPERATOR_TIME,
    };
    let body = serde_json::to_vec(command)?;
    let answer = exchange(socket, &body, patience).with_context(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(failed)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return serde_json::from_str(body).with_context(failed);
    }
    let refusal: serde_json::Value = serde_json::from_str(body).with_context(failed)?;
    match refusal["error"].as_str() {
        // What the operator did wrong, and how to do it right.
        Some(text) if status.starts_with('4') => Err(anyhow!("{text}")),
        // What only the log says in full.
        Some(text) => Err(anyhow!("{text}: look into its log")),
        None => Err(anyhow!(failed())),
    }
}

/// Prints an outcome for a program to read.
pub(super) fn print_json(outcome: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(outcome)?);
    Ok(())
}

fn exchange(socket: &Path, body: &[u8], patience: Duration) -> io::Result<String> {
    let stream = send(socket, "/command", body, patience)?;
    let mut answer = String::new();
    stream.take(limits::OPERATOR_ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

fn send(socket: &Path, path: &str, body: &[u8], patience: Duration) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(limits::OPERATOR_TIME))?;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    // At once: who answers before it has read everything would else leave nobody to read the answer.
    stream.write_all(&[head.as_bytes(), body].concat())?;
    Ok(stream)
}
