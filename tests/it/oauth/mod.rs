//! OAuth 2.0, as programs and browsers see it. <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>

mod account;
mod aware;
mod clients;
mod code;
mod devices;
mod interactive;
mod metadata;
mod pages;
mod refresh;

use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tayberry::config::{Config, HttpUrl, RegistrationMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::form_urlencoded::{self, Serializer};

use crate::rig::{PASSWORD, Reply, Rig};

/// A server to which people can be sent, on this machine.
async fn start() -> Rig {
    with(|_| {}).await
}

async fn with(configure: impl FnOnce(&mut Config)) -> Rig {
    Rig::with(|config| {
        configured(config);
        configure(config);
    })
    .await
}

fn configured(config: &mut Config) {
    config.registration.mode = RegistrationMode::Open;
    config.well_known.client_url = HttpUrl::parse(BASE);
}

/// What a browser gets.
#[derive(Debug)]
struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// Where the browser is sent.
    #[track_caller]
    fn target(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.body);
        self.header("location")
    }

    /// A page with this heading.
    #[track_caller]
    fn titled(self, title: &str) -> Self {
        assert!(self.body.contains(&format!("<h1>{title}</h1>")), "{} {}", self.status, self.body);
        self
    }

    /// A page that tells of a problem.
    #[track_caller]
    fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.body);
        let (_, rest) = self.body.split_once("role=\"alert\">").expect("a page with a problem");
        rest.split_once('<').unwrap().0
    }

    /// What its forms must hold.
    fn proof(&self) -> String {
        let proof = self.body.split_once("name=\"proof\" value=\"");
        proof.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned()).unwrap_or_default()
    }
}

/// A browser with its cookie.
struct Browser<'a> {
    rig: &'a Rig,
    cookie: Mutex<String>,
}

impl<'a> Browser<'a> {
    fn new(rig: &'a Rig) -> Self {
        Self { rig, cookie: Mutex::default() }
    }

    /// Asks for a page, or sends a form.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Page {
        let cookie = self.cookie.lock().unwrap().clone();
        let (page, cookie) = visit(self.rig, method, path, &cookie, headers, body).await;
        *self.cookie.lock().unwrap() = cookie;
        page
    }

    async fn get(&self, path: &str) -> Page {
        self.ask("GET", path, "", "").await
    }

    /// Sends the form of a page.
    async fn post(&self, page: &Page, path: &str, fields: &[(&str, &str)]) -> Page {
        let proof = page.proof();
        let form = [fields, &[("proof", &*proof)]].concat();
        self.ask("POST", path, "sec-fetch-site: same-origin\r\n", &encoded(&form)).await
    }

    async fn sign_in(&self, name: &str) {
        let page = self.get("/oauth/sign-in").await.titled("Sign in");
        let page = self.post(&page, "/oauth/sign-in", &[("user", name), ("password", PASSWORD)]).await;
        assert_eq!(page.target(), "/oauth/account");
    }

    /// Lets a program in, and gives the page to which it is sent back.
    async fn allow(&self, path: &str) -> String {
        let page = self.get(path).await.titled("Allow App?");
        self.post(&page, path, &[("decision", "allow")]).await.target().to_owned()
    }
}

async fn visit(
    rig: &Rig,
    method: &str,
    path: &str,
    cookie: &str,
    headers: &str,
    body: &str,
) -> (Page, String) {
    let mut stream = rig.connect().await;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: other=1; {cookie}\r\n{headers}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let page = Page { status, headers, body: body.to_owned() };
    let set = page.header("set-cookie").split(';').next().unwrap().to_owned();
    (page, if set.is_empty() { cookie.to_owned() } else { set })
}

fn encoded(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// What a native program says of itself.
fn app() -> Value {
    json!({
        "client_name": "App",
        "client_uri": "https://app.example.com/",
        "redirect_uris": [CALLBACK, "com.example.app:/callback", "http://127.0.0.1/callback"],
        "application_type": "native",
        "token_endpoint_auth_method": "none",
        "response_types": ["code"],
        "grant_types": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
    })
}

async fn register(rig: &Rig, metadata: Value) -> String {
    let reply = rig.post("/oauth/clients", metadata).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.body["client_id"].as_str().unwrap().to_owned()
}

/// The path of what a program asks for, with changes to what it usually asks: no value is none.
fn authorize(client: &str, changes: &[(&str, &str)]) -> String {
    let scope = scope("DEVICE0001");
    let challenge = challenge();
    let mut asked = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("scope", &*scope),
        ("state", "a b"),
        ("response_mode", "fragment"),
        ("code_challenge", &*challenge),
        ("code_challenge_method", "S256"),
    ];
    asked.retain(|(name, _)| changes.iter().all(|(other, _)| other != name));
    asked.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    format!("/oauth/authorize?{}", encoded(&asked))
}

fn scope(device: &str) -> String {
    format!("urn:matrix:client:api:* urn:matrix:client:device:{device}")
}

fn challenge() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// A parameter of the answer to a program.
fn answer(target: &str, name: &str) -> Option<String> {
    let (_, answer) = target.split_once(['#', '?'])?;
    form_urlencoded::parse(answer.as_bytes()).find(|(other, _)| other == name).map(|(_, value)| value.into())
}

/// Asks the token endpoint.
async fn token(rig: &Rig, fields: &[(&str, &str)]) -> Reply {
    rig.send_text("POST", "/oauth/token", None, &encoded(fields)).await
}

async fn exchange(rig: &Rig, client: &str, code: &str) -> Reply {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("client_id", client),
        ("code_verifier", VERIFIER),
    ];
    token(rig, &fields).await
}

/// A program's tokens.
#[derive(Debug)]
struct Pair {
    access: String,
    refresh: String,
}

impl Pair {
    #[track_caller]
    fn of(reply: Reply) -> Self {
        let body = reply.ok();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3_600)));
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

/// Lets a new program in as somebody who is registered, and gives its id and tokens.
async fn let_in(rig: &Rig, name: &str, device: &str) -> (String, Pair) {
    let client = register(rig, app()).await;
    let browser = Browser::new(rig);
    browser.sign_in(name).await;
    let target = browser.allow(&authorize(&client, &[("scope", &scope(device))])).await;
    let code = answer(&target, "code").unwrap();
    let pair = Pair::of(exchange(rig, &client, &code).await);
    (client, pair)
}

async fn refresh(rig: &Rig, client: &str, refresh_token: &str) -> Reply {
    let fields = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", refresh_token)];
    token(rig, &fields).await
}

async fn whoami(rig: &Rig, access: &str) -> Reply {
    rig.send("GET", "/_matrix/client/v3/account/whoami", Some(access), Value::Null).await
}

/// The status and the error of OAuth's own kind.
fn error(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.body["error"].as_str().unwrap_or_default())
}

const BASE: &str = "http://localhost:1";
const CALLBACK: &str = "https://app.example.com/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
