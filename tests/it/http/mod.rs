//! The HTTP server on real sockets, with endpoints made for these tests: it must not matter what they do.

mod limits;
mod requests;
mod sockets;
mod stop;
mod tls;

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ruma::{
    OwnedDeviceId,
    api::client::{
        account::{get_3pids, get_username_availability, whoami},
        alias::get_alias,
        discovery::{discover_support, get_supported_versions},
        session::{get_login_types, login, refresh_token},
    },
    owned_room_id, owned_server_name,
};
use tayberry::{
    api::{Anyone, Error, Routes, User},
    base::clock::Clock,
    http::{Bind, Limits, Listener, Server, Settings},
    service::{
        App,
        accounts::{self, Registration},
        app::Parts,
        sessions::DeviceRequest,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

use crate::rig;

/// A server of its own for one test.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    app: App,
    _folder: TempDir,
}

impl Running {
    async fn start(settings: Settings) -> Self {
        let folder = TempDir::new().unwrap();
        let app = app(&folder);
        let server = Server::bind(settings, app.clone(), routes()).await.expect("a free port");
        let address = server.addresses().first().copied().unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move { _ = stopped.await }));
        Self { address, stop: Some(stop), task, app, _folder: folder }
    }

    async fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut settings = plain();
        change(&mut settings.limits);
        Self::start(settings).await
    }

    /// Makes an account, and gives an access token of it.
    async fn register(&self, name: &str) -> String {
        let wanted = Registration {
            name: Some(name.to_owned()),
            device: Some(DeviceRequest { id: None, display_name: None, refresh: false }),
            ..Registration::default()
        };
        let registered = accounts::register(&self.app, wanted).await.unwrap();
        registered.log_in.unwrap().tokens.access.expose().clone()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server accepts")
    }

    /// Sends raw bytes and reads until the server closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    /// A `GET` on a connection of its own, with more header lines.
    async fn get(&self, path: &str, headers: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
    }

    /// A `POST` of a body to the endpoint that echoes, on a connection of its own.
    async fn post(&self, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST {ECHO} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        self.exchange([head.as_bytes(), body].concat()).await
    }
}

fn app(folder: &TempDir) -> App {
    App::new(Parts { clock: Clock::system(), ..rig::parts(folder) })
}

fn plain() -> Settings {
    let listeners = vec![Listener::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()))];
    Settings { listeners, rate_limit: false, limits: Limits::default() }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes the connection")
        .expect("the connection is not reset");
    String::from_utf8(bytes).expect("the tests read text only")
}

/// The status of a raw response.
fn status(response: &str) -> u16 {
    response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The error code in a raw response.
fn errcode(response: &str) -> String {
    let body = response.split("\r\n\r\n").nth(1).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    body["errcode"].as_str().unwrap_or_default().to_owned()
}

/// The value of a header in a raw response, whose names the server writes in lower case.
fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const BIG: &str = "/_matrix/client/versions";
const ECHO: &str = "/_matrix/client/v3/refresh";
/// An answer of some [`HUGE_BYTES`].
const HUGE: &str = "/_matrix/client/v3/directory/room/%23a:x";
const HUGE_BYTES: usize = 5_000_000;
const PANIC: &str = "/.well-known/matrix/support";
/// A `GET` that waits for ever.
const WAIT: &str = "/_matrix/client/v3/login";
/// The same of a user.
const USER_WAIT: &str = "/_matrix/client/v3/account/3pid";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

/// A `POST` that takes half a second and puts the device of its body into [`CHANGED`] at its end.
const CHANGE: &str = WAIT;
static CHANGED: Mutex<Vec<OwnedDeviceId>> = Mutex::new(Vec::new());

/// A request to [`CHANGE`].
fn change(device: &str) -> String {
    let body = format!(r#"{{"type":"m.login.token","token":"x","device_id":"{device}"}}"#);
    let length = body.len();
    format!("POST {CHANGE} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A `GET` that waits for ever and sets [`LEFT`] when nobody waits for it any more.
const READ: &str = "/_matrix/client/v3/register/available?username=a";
static LEFT: AtomicBool = AtomicBool::new(false);

fn routes() -> Routes {
    let mut routes = Routes::default();
    routes.add(big);
    routes.add(huge);
    routes.add(echo);
    routes.add(panics);
    routes.add(waits);
    routes.add(user_waits);
    routes.add(changes);
    routes.add(reads);
    routes.add(whoami);
    routes
}

async fn big(
    _: App,
    _: Anyone,
    _: get_supported_versions::Request,
) -> Result<get_supported_versions::Response, Error> {
    Ok(get_supported_versions::Response::new(vec!["v1.1".to_owned(); 1_000]))
}

async fn huge(_: App, _: Anyone, _: get_alias::v3::Request) -> Result<get_alias::v3::Response, Error> {
    let servers = vec![owned_server_name!("abcdefg"); HUGE_BYTES / 10];
    Ok(get_alias::v3::Response::new(owned_room_id!("!a:x"), servers))
}

async fn echo(
    _: App,
    _: Anyone,
    request: refresh_token::v3::Request,
) -> Result<refresh_token::v3::Response, Error> {
    assert_ne!(request.refresh_token, "panic");
    Ok(refresh_token::v3::Response::new(request.refresh_token))
}

async fn panics(
    _: App,
    _: Anyone,
    _: discover_support::Request,
) -> Result<discover_support::Response, Error> {
    panic!("on purpose")
}

async fn waits(
    _: App,
    _: Anyone,
    _: get_login_types::v3::Request,
) -> Result<get_login_types::v3::Response, Error> {
    std::future::pending().await
}

async fn user_waits(_: App, _: User, _: get_3pids::v3::Request) -> Result<get_3pids::v3::Response, Error> {
    std::future::pending().await
}

async fn whoami(_: App, user: User, _: whoami::v3::Request) -> Result<whoami::v3::Response, Error> {
    Ok(whoami::v3::Response::new(user.0.user_id, false))
}

async fn changes(_: App, _: Anyone, request: login::v3::Request) -> Result<login::v3::Response, Error> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    CHANGED.lock().unwrap().extend(request.device_id);
    Err(Error::forbidden("Done"))
}

async fn reads(
    _: App,
    _: Anyone,
    _: get_username_availability::v3::Request,
) -> Result<get_username_availability::v3::Response, Error> {
    struct Left;
    impl Drop for Left {
        fn drop(&mut self) {
            LEFT.store(true, Ordering::SeqCst);
        }
    }
    let _left = Left;
    std::future::pending().await
}
