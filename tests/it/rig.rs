//! The rig: whole servers on loopback, each in a folder of its own, and a client that speaks JSON to them. Time stands
//! still unless a test moves it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::{
    api,
    base::{
        clock::{Clock, Timestamp},
        rng::Rng,
        secret::Secret,
    },
    config::{Config, RegistrationMode},
    http::{Bind, Limits, Listener, Server, Settings},
    net::Transport,
    service::{App, app::Parts, signer::signing_key},
    store::{
        OpenError, Options, Store,
        backup::{Backup, Manner, Restoration},
    },
    worker,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// A running server.
pub(crate) struct Rig {
    pub(crate) app: App,
    address: SocketAddr,
    workers: JoinSet<()>,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
    folder: TempDir,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
}

impl Rig {
    /// A server where anybody may register.
    pub(crate) async fn start() -> Self {
        Self::with(|config| config.registration.mode = RegistrationMode::Open).await
    }

    /// A server that somebody configured.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::on(TempDir::new().unwrap(), Clock::manual(Timestamp(1_800_000_000_000)), configure).await
    }

    /// Stops, and starts again with this configuration.
    pub(crate) async fn again(self, configure: impl FnOnce(&mut Config)) -> Self {
        let clock = self.app.clock.clone();
        Self::anew(self.end().await, clock, configure).await
    }

    /// The same without the notes that a server makes at its end, as after a crash.
    pub(crate) async fn after_crash(self, configure: impl FnOnce(&mut Config)) -> Self {
        let clock = self.app.clock.clone();
        Self::anew(self.stop(false).await, clock, configure).await
    }

    async fn anew(folder: TempDir, clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        // What nobody waits for, such as when a device was seen, may hold the store a moment longer.
        while matches!(Store::open(options(&folder, &clock)), Err(OpenError::Locked(_))) {
            tokio::task::yield_now().await;
        }
        Self::on(folder, clock, configure).await
    }

    /// Stops, and leaves the data folder.
    pub(crate) async fn end(self) -> TempDir {
        self.stop(true).await
    }

    async fn stop(self, in_order: bool) -> TempDir {
        let Self { app, mut workers, _stop: stop, _task: task, folder, .. } = self;
        drop(stop);
        task.await.unwrap();
        workers.shutdown().await;
        if in_order {
            app.end_sending().await;
            app.end_pushing().await;
            app.keep_connections().await;
        }
        app.store.close();
        // Its last clone holds the lock.
        drop(app);
        folder
    }

    /// Backs the server up into a folder.
    pub(crate) fn back_up(&self, dir: &Path) {
        let source = self.folder().join("media/content");
        let mut backup = Backup::begin(dir, &source, Clock::system(), Manner::default()).unwrap();
        self.app.store.dump(&mut |item| backup.take(item)).unwrap();
        backup.finish(&mut |_| ()).unwrap();
    }

    /// Stops, loses everything, and starts as the server that was backed up into a folder.
    pub(crate) async fn restored(self, dir: &Path, configure: impl FnOnce(&mut Config)) -> Self {
        let (clock, folder) = (self.app.clock.clone(), TempDir::new().unwrap());
        self.end().await;
        let places = (Path::new("media/content"), &[][..]);
        let restoration = Restoration::of(dir, None).unwrap();
        restoration.run(folder.path(), places, clock.now(), &mut |_, _| {}).unwrap();
        Self::on(folder, clock, configure).await
    }

    async fn on(folder: TempDir, clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        let mut parts = parts_at(&folder, clock);
        configure(&mut parts.config);
        Self::serve(App::new(parts), folder).await
    }

    /// A server where anybody may register, which reaches others in another way than over the network.
    pub(crate) async fn through(transport: Arc<dyn Transport>, configure: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut parts = parts(&folder);
        parts.config.registration.mode = RegistrationMode::Open;
        configure(&mut parts.config);
        Self::serve(App::through(parts, transport), folder).await
    }

    pub(crate) async fn serve(app: App, folder: TempDir) -> Self {
        let mut listener = Listener::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()));
        listener.proxies = vec![IpAddr::from(PROXY).to_string().parse().unwrap()];
        let listeners = vec![listener];
        let settings = Settings { listeners, rate_limit: false, limits: Limits::default() };
        let server = Server::bind(settings, app.clone(), api::routes()).await.unwrap();
        let address = server.addresses()[0];
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move { _ = stopped.await }));
        let workers = worker::start(&app);
        Self { app, address, workers, _stop: stop, _task: task, folder }
    }

    /// Ends what the server does without being asked, as its end does.
    pub(crate) async fn stop_workers(&mut self) {
        self.workers.shutdown().await;
    }

    /// Begins it again, as a start does.
    pub(crate) fn start_workers(&mut self) {
        self.workers = worker::start(&self.app);
    }

    /// Moves the server's time on.
    pub(crate) fn advance(&self, by: Duration) {
        self.app.clock.advance(by);
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to the server.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection from another address of this machine.
    pub(crate) async fn connect_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a request; `Value::Null` is no body.
    pub(crate) async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> Reply {
        exchange(self.connect().await, method, path, token, body).await
    }

    /// Sends a request with a header of its own that tells who sends it.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: Value,
    ) -> Reply {
        try_request(self.connect().await, method, path, authorization, body).await.unwrap()
    }

    /// The same with any text as the body.
    pub(crate) async fn send_text(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: &str,
    ) -> Reply {
        let fields = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
        try_text(self.connect().await, method, path, &fields, body).await.unwrap()
    }

    /// Sends a request of somebody at any address, which a reverse proxy tells.
    pub(crate) async fn send_from(
        &self,
        client: &str,
        method: &str,
        path: &str,
        who: Option<&Member>,
        body: Value,
    ) -> Reply {
        let mut fields = format!("x-forwarded-for: {client}\r\n");
        if let Some(who) = who {
            fields += &format!("authorization: Bearer {}\r\n", who.token);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        try_text(self.connect_from(PROXY).await, method, path, &fields, &body).await.unwrap()
    }

    /// The same of somebody without an account, with any text as the body.
    pub(crate) async fn send_text_from(&self, client: &str, method: &str, path: &str, body: &str) -> Reply {
        let fields = format!("x-forwarded-for: {client}\r\n");
        try_text(self.connect_from(PROXY).await, method, path, &fields, body).await.unwrap()
    }

    /// A `GET` without a token.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None, Value::Null).await
    }

    /// A `POST` without a token.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, None, body).await
    }

    /// A request of somebody who is logged in.
    pub(crate) async fn send_as(&self, member: &Member, method: &str, path: &str, body: Value) -> Reply {
        self.send(method, path, Some(&member.token), body).await
    }

    /// Registers an account with [`PASSWORD`], in open mode.
    pub(crate) async fn register(&self, name: &str) -> Member {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        Member::of(self.post("/_matrix/client/v3/register", body).await)
    }

    /// Logs in with [`PASSWORD`] on a new device.
    pub(crate) async fn log_in(&self, name: &str) -> Member {
        let identifier = json!({"type": "m.id.user", "user": name});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        Member::of(self.post("/_matrix/client/v3/login", body).await)
    }
}

impl Reply {
    /// Checks the status, and gives the body.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Status and error code.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status, self.body["errcode"].as_str().unwrap_or_default())
    }
}

impl Member {
    /// Who a registration or a log-in made.
    #[track_caller]
    pub(crate) fn of(reply: Reply) -> Self {
        let body = reply.ok();
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        Self { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
    }
}

/// Where the reverse proxy is that is believed.
const PROXY: [u8; 4] = [127, 7, 7, 7];

/// The password of everybody whom the rig registers.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// What a server on this folder is made of.
pub(crate) fn parts(folder: &TempDir) -> Parts {
    parts_at(folder, Clock::manual(Timestamp(1_800_000_000_000)))
}

pub(crate) fn parts_at(folder: &TempDir, clock: Clock) -> Parts {
    let options = options(folder, &clock);
    let rng = options.rng.clone();
    let mut config = Config::of_defaults(ruma::server_name!("example.org"), folder.path());
    // Who comes and goes would answer every sync that waits for something else.
    config.presence.enabled = false;
    Parts {
        config,
        store: Store::open(options).unwrap(),
        signing_key: signing_key("1", &Secret::new([7; 32])).unwrap(),
        clock,
        rng,
    }
}

fn options(folder: &TempDir, clock: &Clock) -> Options {
    Options { dir: folder.path().to_owned(), clock: clock.clone(), rng: Rng::system() }
}

/// Sends one request over a connection of its own.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> Reply {
    try_exchange(stream, method, path, token, body).await.unwrap()
}

/// The same with a server that may die meanwhile.
pub(crate) async fn try_exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> io::Result<Reply> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    try_request(stream, method, path, authorization.as_deref(), body).await
}

pub(crate) async fn try_request(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: Value,
) -> io::Result<Reply> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let fields = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    try_text(stream, method, path, &fields, &body).await
}

/// Sends one request with these lines in its head.
async fn try_text(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> io::Result<Reply> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let declared = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    if declared.is_some_and(|length| length != body.len().to_string()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let chunked = head.split("\r\n").any(|line| line == "transfer-encoding: chunked");
    let body = if chunked { joined(body).ok_or(io::ErrorKind::UnexpectedEof)? } else { body.to_owned() };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Reply { status, body: serde_json::from_str(&body).unwrap_or_default() })
}

/// A body that came in chunks; none if it broke off.
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length + 2..)?;
    }
}
