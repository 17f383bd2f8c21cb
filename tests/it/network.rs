//! Several whole servers that reach each other by name; a test cuts them off, and sees what they ask of each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use ruma::{OwnedServerName, ServerName};
use serde_json::Value;
use tayberry::{
    base::{
        clock::{Clock, Timestamp},
        secret::Secret,
    },
    config::{Config, RegistrationMode},
    net::{
        Body, Bounds, NetError, Target, Transport,
        dns::{DnsError, Service},
        transport::Boxed,
    },
    service::{App, signer::signing_key},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::Notify, time::sleep};

use crate::rig::{Rig, parts_at};

/// The servers by their names, which have a port: so nobody has to be asked where they are.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    addresses: BTreeMap<String, SocketAddr>,
    cut: BTreeSet<String>,
    /// Those that never answer.
    hung: BTreeSet<String>,
    /// Whether transactions get nowhere.
    silent: bool,
    asked: Vec<Asked>,
    played: BTreeMap<String, Arc<Played>>,
    held: Option<(String, Held)>,
    tamper: Option<Arc<Tamper>>,
}

/// A request that is on its way for as long as a test likes.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) reached: Arc<Notify>,
    pub(crate) let_go: Arc<Notify>,
}

/// What a test answers in a server's place; none leaves it to that.
type Played = dyn Fn(&Asked) -> Option<(u16, Value)> + Send + Sync;

/// What changes answers on their way, by the path that was asked.
type Tamper = dyn Fn(&str, &mut StatusCode, &mut Vec<u8>) + Send + Sync;

/// A request that one server made of another.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) by: String,
    pub(crate) of: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

/// The way out of one of them.
struct Way {
    network: Network,
    own: String,
}

impl Network {
    /// A server of this name, such as `one.example:1`, where anybody may register.
    pub(crate) async fn start(&self, name: &str, configure: impl FnOnce(&mut Config)) -> Rig {
        self.on(name, TempDir::new().unwrap(), Clock::manual(Timestamp(1_800_000_000_000)), configure).await
    }

    async fn on(
        &self,
        name: &str,
        folder: TempDir,
        clock: Clock,
        configure: impl FnOnce(&mut Config),
    ) -> Rig {
        let mut parts = parts_at(&folder, clock);
        parts.config.server_name = ServerName::parse(name).unwrap();
        parts.config.registration.mode = RegistrationMode::Open;
        parts.signing_key = signing_key("1", &seed(name)).unwrap();
        configure(&mut parts.config);
        let way = Way { network: self.clone(), own: name.to_owned() };
        let rig = Rig::serve(App::through(parts, Arc::new(way)), folder).await;
        self.0.lock().unwrap().addresses.insert(name.to_owned(), rig.address());
        rig
    }

    /// Stops a server, and starts it again.
    pub(crate) async fn again(&self, rig: Rig) -> Rig {
        let name = rig.app.server_name.clone();
        let clock = rig.app.clock.clone();
        let folder = rig.end().await;
        self.on(name.as_str(), folder, clock, |_| {}).await
    }

    /// Cuts a server off from all others, both ways.
    pub(crate) fn cut(&self, name: &str) {
        self.0.lock().unwrap().cut.insert(name.to_owned());
    }

    /// Undoes that.
    pub(crate) fn mend(&self, name: &str) {
        self.0.lock().unwrap().cut.remove(name);
    }

    /// Lets a server take requests and never answer.
    pub(crate) fn hang(&self, name: &str) {
        self.0.lock().unwrap().hung.insert(name.to_owned());
    }

    /// Lets no transaction arrive that a server sends by itself.
    pub(crate) fn silence(&self) {
        self.0.lock().unwrap().silent = true;
    }

    /// Lets transactions arrive again.
    pub(crate) fn end_silence(&self) {
        self.0.lock().unwrap().silent = false;
    }

    /// What was asked whose path holds this, in the order in which it was.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.0.lock().unwrap().asked.iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    }

    /// Lets a test answer in a server's place where it likes.
    pub(crate) fn play(
        &self,
        name: &str,
        played: impl Fn(&Asked) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) {
        self.0.lock().unwrap().played.insert(name.to_owned(), Arc::new(played));
    }

    /// Holds the next request whose path holds this, or the path behind the name of whom it is for.
    pub(crate) fn hold(&self, path: &str) -> Held {
        let held = Held::default();
        self.0.lock().unwrap().held = Some((path.to_owned(), held.clone()));
        held
    }

    async fn exchange(
        &self,
        own: &str,
        target: &Target,
        mut request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        let (name, path) = (&target.authority, request.uri().to_string());
        let held = {
            let mut state = self.0.lock().unwrap();
            state.held.take_if(|(held, _)| format!("{name}{path}").contains(&**held))
        };
        if let Some((_, held)) = held {
            held.reached.notify_one();
            held.let_go.notified().await;
        }
        let asked = Asked {
            by: own.to_owned(),
            of: name.clone(),
            method: request.method().to_string(),
            path: path.clone(),
            body: request.body().clone(),
        };
        let (address, played, is_hung) = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(asked.clone());
            let is_silent = state.silent && asked.path.contains("/federation/v1/send/");
            let is_cut = is_silent || state.cut.contains(own) || state.cut.contains(name);
            let played = state.played.get(name).filter(|_| !is_cut).cloned();
            (state.addresses.get(name).filter(|_| !is_cut).copied(), played, state.hung.contains(name))
        };
        if is_hung {
            sleep(bounds.head).await;
            return Err(NetError::Late { what: "the answer", time: bounds.head });
        }
        if let Some((status, answer)) = played.and_then(|played| played(&asked)) {
            let body = Body::whole(answer.to_string().into(), bounds);
            return Ok(Response::builder().status(status).body(body).unwrap());
        }
        let address = address.ok_or_else(|| refused(io::ErrorKind::ConnectionRefused.into()))?;
        request.headers_mut().insert(HOST, name.parse().unwrap());
        let stream = TcpStream::connect(address).await.map_err(refused)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request.map(Full::new)).await;
        let (mut head, body) = response.map_err(|error| refused(io::Error::other(error)))?.into_parts();
        let mut body = body.collect().await.map_err(|error| refused(io::Error::other(error)))?.to_bytes();
        let tamper = self.0.lock().unwrap().tamper.clone();
        if let Some(tamper) = tamper {
            let mut changed = body.to_vec();
            tamper(&path, &mut head.status, &mut changed);
            body = changed.into();
        }
        Ok(Response::from_parts(head, Body::whole(body, bounds)))
    }

    /// Changes what is answered from now on.
    pub(crate) fn tamper(
        &self,
        change: impl Fn(&str, &mut StatusCode, &mut Vec<u8>) + Send + Sync + 'static,
    ) {
        self.0.lock().unwrap().tamper = Some(Arc::new(change));
    }
}

/// What a server's key is made of.
pub(crate) fn seed(name: &str) -> Secret<[u8; 32]> {
    Secret::new([name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)); 32])
}

fn refused(error: io::Error) -> NetError {
    NetError::Connect(Arc::new(error))
}

impl Transport for Way {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        Box::pin(self.network.exchange(&self.own, target, request, bounds))
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

#[tokio::test]
async fn servers_reach_each_other_unless_they_are_cut_off() {
    let network = Network::default();
    let one = network.start("one.example:1", |_| {}).await;
    let _two = network.start("two.example:1", |_| {}).await;
    let two: OwnedServerName = ServerName::parse("two.example:1").unwrap();
    let fetch = async || tayberry::net::keys::fetch(&one.app.federation, &two, one.app.clock.now()).await;
    assert_eq!(fetch().await.unwrap().server, two);
    network.cut("one.example:1");
    fetch().await.unwrap_err();
    network.mend("one.example:1");
    let one = network.again(one).await;
    tayberry::net::keys::fetch(&one.app.federation, &two, one.app.clock.now()).await.unwrap();
    let asked = network.asked("/key/");
    assert_eq!(asked.len(), 3);
    for Asked { by, of, method, body, .. } in asked {
        assert_eq!((&*by, &*of, &*method, &body[..]), ("one.example:1", "two.example:1", "GET", &b""[..]));
    }
}

/// A way out that leads nowhere, and remembers how long it was to be tried.
#[derive(Default)]
pub(crate) struct Slow(pub(crate) Mutex<Vec<Bounds>>);

impl Transport for Slow {
    fn send<'a>(
        &'a self,
        _: &'a Target,
        _: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        self.0.lock().unwrap().push(bounds);
        Box::pin(async move { Err(NetError::Late { what: "the answer", time: bounds.total }) })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}
