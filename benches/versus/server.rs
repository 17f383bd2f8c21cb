//! The servers under measurement: install, start, stop, and what the kernel says of the process.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{client::Connection, meter::Stopwatch};

/// Which software a server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Synapse,
    Tayberry,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Synapse => "synapse",
            Self::Tayberry => "tayberry",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "synapse" => Ok(Self::Synapse),
            "tayberry" => Ok(Self::Tayberry),
            _ => bail!("--servers takes synapse, tayberry or both with a comma, not {name:?}"),
        }
    }
}

/// One server with its data folder; the process ends when this is dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) folder: PathBuf,
    pub(crate) address: SocketAddr,
    process: Option<Child>,
}

impl Server {
    /// Prepares a data folder. Nothing runs yet.
    pub(crate) fn install(kind: Kind, folder: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = Self { kind, folder: folder.to_owned(), address, process: None };
        if kind == Kind::Synapse {
            server.generate_synapse_config()?;
        }
        Ok(server)
    }

    /// Starts the process and returns the time until its first answer.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command()?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let stopwatch = Stopwatch::start();
        let mut process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        while !self.answers().await {
            if let Some(status) = process.try_wait()? {
                bail!("{} ended at start with {status}", self.kind.name());
            }
            ensure!(stopwatch.elapsed() < Duration::from_secs(60), "{} does not answer", self.kind.name());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.process = Some(process);
        Ok(stopwatch.elapsed())
    }

    /// Asks the process to end and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            Command::new("kill").arg(process.id().to_string()).status()?;
            process.wait()?;
        }
        Ok(())
    }

    /// The process id of a running server.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the server is not running")?.id())
    }

    /// The last lines of the server's output.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
    }

    /// The release binary, where there is one.
    pub(crate) fn binary(&self) -> Option<PathBuf> {
        (self.kind == Kind::Tayberry).then(|| {
            std::env::var_os("TAYBERRY_BINARY")
                .map_or_else(|| env!("CARGO_BIN_EXE_tayberry").into(), PathBuf::from)
        })
    }

    async fn answers(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.address).await else { return false };
        connection.get("/_matrix/client/versions", None).await.is_ok()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    fn command(&self) -> Result<Command> {
        let Some(binary) = self.binary() else {
            let mut command = synapse()?;
            command.args(["--config-path", "base.yaml", "--config-path", "local.yaml"]);
            return Ok(command);
        };
        let mut command = Command::new(binary);
        command.args(["localserve", "--port", &self.address.port().to_string(), "--data-dir"]);
        command.arg(self.folder.join("data"));
        Ok(command)
    }

    fn generate_synapse_config(&self) -> Result<()> {
        let name = format!("localhost:{}", self.address.port());
        let generated = synapse()?
            .args(["--generate-config", "--report-stats", "no", "--config-path", "base.yaml"])
            .args(["--server-name", &name, "--data-directory"])
            .arg(&self.folder)
            .current_dir(&self.folder)
            .output()?;
        ensure!(generated.status.success(), "synapse: {}", String::from_utf8_lossy(&generated.stderr));
        fs::write(self.folder.join("quiet.log.config"), SYNAPSE_LOG_CONFIG)?;
        let config = SYNAPSE_CONFIG.replace("{port}", &self.address.port().to_string());
        fs::write(self.folder.join("local.yaml"), config)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

fn synapse() -> Result<Command> {
    let python = std::env::var_os("SYNAPSE_PYTHON").context("SYNAPSE_PYTHON is not set; use benches/run")?;
    let mut command = Command::new(python);
    command.args(["-m", "synapse.app.homeserver"]);
    Ok(command)
}

/// Synapse as it installs itself, with SQLite, but for what would measure something else: limits of rates,
/// slow password hashing in the set-up, presence, which costs it dearly while Tayberry's stays on, and a log line a request.
const SYNAPSE_CONFIG: &str = r#"
listeners:
  - port: {port}
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{names: [client]}]
log_config: quiet.log.config
trusted_key_servers: []
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence: {enabled: false}
rc_message: &unlimited {per_second: 100000, burst_count: 100000}
rc_registration: *unlimited
rc_login: {address: *unlimited, account: *unlimited, failed_attempts: *unlimited}
rc_joins: {local: *unlimited, remote: *unlimited}
rc_joins_per_room: *unlimited
rc_invites: {per_room: *unlimited, per_user: *unlimited, per_issuer: *unlimited}
rc_room_creation: *unlimited
max_upload_size: 110M
"#;

const SYNAPSE_LOG_CONFIG: &str = "\
version: 1
handlers: {console: {class: logging.StreamHandler}}
root: {level: WARNING, handlers: [console]}
";
