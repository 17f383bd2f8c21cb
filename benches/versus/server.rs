//! The servers under measurement: install, start, stop, and what the kernel says of the process.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{authority::Authority, client::Connection, meter::Stopwatch};

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
    /// Where other servers reach it over TLS, if they are to.
    meeting: Option<SocketAddr>,
    process: Option<Child>,
}

impl Server {
    /// Prepares a data folder. Nothing runs yet.
    pub(crate) fn install(kind: Kind, folder: &Path) -> Result<Self> {
        let server =
            Self { kind, folder: folder.to_owned(), address: free_address()?, meeting: None, process: None };
        if kind == Kind::Synapse {
            server.generate_synapse_config()?;
        }
        Ok(server)
    }

    /// The same for a server that meets those whose certificates are of this authority.
    pub(crate) fn meeting(kind: Kind, folder: &Path, authority: &Authority) -> Result<Self> {
        fs::create_dir(folder)?;
        let (address, meeting) = (free_address()?, free_address()?);
        let server = Self { kind, folder: folder.to_owned(), address, meeting: Some(meeting), process: None };
        let (certificate, key) = authority.certify()?;
        fs::write(folder.join("cert.pem"), certificate.pem())?;
        fs::write(folder.join("key.pem"), key.serialize_pem())?;
        let (file, template) = match kind {
            Kind::Synapse => ("meeting.yaml", SYNAPSE_MEETING_CONFIG),
            Kind::Tayberry => ("tayberry.toml", TAYBERRY_CONFIG),
        };
        let config = template
            .replace("{name}", &server.name())
            .replace("{port}", &address.port().to_string())
            .replace("{meeting}", &meeting.port().to_string())
            .replace("{authority}", &authority.file().display().to_string());
        if kind == Kind::Synapse {
            server.generate_synapse_config()?;
        }
        fs::write(folder.join(file), config)?;
        Ok(server)
    }

    /// Its server name.
    pub(crate) fn name(&self) -> String {
        match self.meeting {
            Some(meeting) => meeting.to_string(),
            None => format!("localhost:{}", self.address.port()),
        }
    }

    /// Where other servers reach it.
    pub(crate) fn meets_at(&self) -> Result<SocketAddr> {
        self.meeting.context("the server meets no others")
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
            if self.meeting.is_some() {
                command.args(["--config-path", "meeting.yaml"]);
            }
            return Ok(command);
        };
        let mut command = Command::new(binary);
        if self.meeting.is_some() {
            command.args(["serve", "--config", "tayberry.toml"]);
            return Ok(command);
        }
        command.args(["localserve", "--port", &self.address.port().to_string(), "--data-dir"]);
        command.arg(self.folder.join("data"));
        Ok(command)
    }

    fn generate_synapse_config(&self) -> Result<()> {
        let generated = synapse()?
            .args(["--generate-config", "--report-stats", "no", "--config-path", "base.yaml"])
            .args(["--server-name", &self.name(), "--data-directory"])
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

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
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

/// What it needs beside that to meet servers on loopback, without limits to what they may ask.
const SYNAPSE_MEETING_CONFIG: &str = r#"
listeners:
  - port: {port}
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{names: [client]}]
  - port: {meeting}
    type: http
    tls: true
    bind_addresses: ["127.0.0.1"]
    resources: [{names: [federation]}]
tls_certificate_path: cert.pem
tls_private_key_path: key.pem
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
rc_federation: {window_size: 1000, sleep_limit: 100000, reject_limit: 100000, concurrent: 100}
"#;

/// The same of Tayberry.
const TAYBERRY_CONFIG: &str = r#"
server_name = "{name}"
data_dir = "data"
registration.mode = "open"
rate_limit.enabled = false
federation.allow_private_addresses = true
federation.trusted_ca_files = ["{authority}"]
push.allow_private_gateways = true

[[listener]]
bind = "127.0.0.1:{port}"

[[listener]]
bind = "127.0.0.1:{meeting}"
tls = { certificate = "cert.pem", key = "key.pem" }
"#;

const SYNAPSE_LOG_CONFIG: &str = "\
version: 1
handlers: {console: {class: logging.StreamHandler}}
root: {level: WARNING, handlers: [console]}
";
