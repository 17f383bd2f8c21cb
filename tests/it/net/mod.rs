//! What goes out, on real sockets: other servers, their name servers and their certificates are made for the test.

mod client;
mod discovery;
mod dns;
mod doctor;
pub(crate) mod inbound;
mod keys;

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tayberry::{
    base::{
        clock::{Clock, Timestamp},
        rng::Rng,
        secret::Secret,
    },
    net::{
        Addresses, Body, Bounds, Client, NameServers, NetError, Settings, Target, Transport,
        client::Limits,
        dns::{DnsError, Service},
        transport::Boxed,
    },
    service::signer::signing_key,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// An authority, the certificates that it signs, and its own in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// TLS for whom these names and addresses are, in these versions of HTTP.
    pub(crate) fn tls(&self, names: &[&str], versions: &[&str]) -> TlsAcceptor {
        let (certificate, key) = self.sign(names);
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }

    /// A certificate for a name or an address and its key, as PEM.
    pub(crate) fn certificate(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.sign(&[name]);
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A client that trusts it, goes anywhere and asks this name server.
    fn settings(&self, name_server: Option<SocketAddr>) -> Settings {
        Settings {
            addresses: Addresses::new(true),
            name_servers: NameServers::These(name_server.into_iter().collect()),
            authorities: vec![self.file()],
            limits: Limits::default(),
        }
    }
}

fn client(settings: Settings) -> Client {
    Client::new(settings, Clock::system(), Rng::system())
}

/// Another server: it answers by a function, and remembers what it was asked.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    host: String,
    /// The name in the TLS handshake.
    sni: Option<String>,
    pub(crate) request: Request<Bytes>,
}

/// A stream that a peer serves, TLS or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Peer {
    pub(crate) async fn start(
        at: (impl Into<IpAddr>, u16),
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((at.0.into(), at.1)).await.unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, connections, answer) = (peer.seen.clone(), peer.connections.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let (stream, sni): (Box<dyn Stream>, _) = match tls {
                        None => (Box::new(stream), None),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let sni = stream.get_ref().1.server_name().map(str::to_owned);
                            (Box::new(stream), sni)
                        }
                    };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (seen, answer, sni) = (seen.clone(), answer.clone(), sni.clone());
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let in_uri = head.uri.authority().map(ToString::to_string);
                            let in_head =
                                head.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
                            let host = in_uri.or(in_head).unwrap_or_default();
                            let one = Seen { host, sni, request: Request::from_parts(head, body) };
                            let response = answer(&one);
                            seen.lock().unwrap().push(one);
                            Ok::<_, Infallible>(response.map(Full::new))
                        }
                    });
                    // How it ends is the client's business.
                    _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        peer
    }

    /// How many times somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// An answer of status 200.
fn ok(body: &str) -> Response<Bytes> {
    Response::new(body.to_owned().into())
}

/// A redirect.
pub(crate) fn to(location: &str) -> Response<Bytes> {
    Response::builder().status(302).header("location", location).body(Bytes::new()).unwrap()
}

/// Bounds that let a test end.
const BOUNDS: Bounds = Bounds {
    total: Duration::from_secs(20),
    head: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    body_bytes: 1_000,
};

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers requests by itself; none is a peer that can't be reached.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answer: Option<String>,
    asked: Vec<String>,
}

impl Transport for Memory {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        Box::pin(async move {
            let mut state = self.0.lock().unwrap();
            state.asked.push(format!("{}{}", target.authority, request.uri()));
            match &state.answer {
                Some(answer) if request.uri().path() == "/_matrix/key/v2/server" => {
                    Ok(Response::new(Body::whole(answer.clone().into(), bounds)))
                }
                _ => Err(NetError::Name(DnsError::Absent)),
            }
        })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

pub(crate) fn pair(version: &str, seed: u8) -> Ed25519KeyPair {
    signing_key(version, &Secret::new([seed; 32])).unwrap()
}

pub(crate) fn public(seed: u8) -> String {
    Base64::<Standard, _>::new(pair("x", seed).public_key()).encode()
}

/// What another server publishes that has one key.
fn document(version: &str, seed: u8, valid_until: Timestamp, old: Value) -> Value {
    let document = json!({
        "server_name": "hs.example:1",
        "valid_until_ts": valid_until.0,
        "verify_keys": {format!("ed25519:{version}"): {"key": public(seed)}},
        "old_verify_keys": old,
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    sign_json("hs.example:1", &pair(version, seed), &mut object).unwrap();
    serde_json::to_value(&object).unwrap()
}

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
