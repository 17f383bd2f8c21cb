//! A provider of OpenID Connect on loopback, over TLS. It gives codes, checks what it is asked, and tells and signs what it is
//! made to.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tayberry::base::clock::Timestamp;
use tokio::net::TcpListener;
use url::{Url, form_urlencoded};

use crate::net::Authority;

/// A provider.
pub(super) struct Idp {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What it does.
pub(super) struct State {
    issuer: String,
    pub(super) now: Timestamp,
    /// The keys that it publishes.
    pub(super) keys: Vec<Signer>,
    /// The one that signs, published or not.
    pub(super) signer: Signer,
    /// Changes header and claims before they are signed.
    pub(super) forge: fn(&mut Value, &mut Value),
    /// Changes the token after that.
    pub(super) tamper: fn(String) -> String,
    /// What it says of whoever signs in.
    pub(super) person: Value,
    /// What it says of them only when it is asked.
    pub(super) more: Value,
    pub(super) configuration: Value,
    /// By path, what it answers in place of what it should. Without body, the connection ends.
    pub(super) answers: BTreeMap<&'static str, (u16, Option<String>)>,
    /// Where it sends people back to.
    pub(super) redirect_uri: String,
    /// How it wants the secret: in a header, in the body, or not at all.
    pub(super) secret: Secret,
    codes: HashMap<String, HashMap<String, String>>,
    given: usize,
    asked: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    Basic,
    Post,
    None,
}

#[derive(Clone)]
pub(super) struct Signer {
    pub(super) id: String,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Pss(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn new(algorithm: &str, id: &str) -> Self {
        let random = SystemRandom::new();
        let rsa = || RsaKeyPair::from_pkcs8(include_bytes!("../../data/rsa.pk8")).unwrap();
        let pair = match algorithm {
            "RS256" => Pair::Rsa(rsa()),
            "PS256" => Pair::Pss(rsa()),
            "ES256" => {
                let way = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let made = EcdsaKeyPair::generate_pkcs8(way, &random).unwrap();
                Pair::Ec(EcdsaKeyPair::from_pkcs8(way, made.as_ref(), &random).unwrap())
            }
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            other => panic!("{other}"),
        };
        Self { id: id.to_owned(), pair: Arc::new(pair) }
    }

    fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Pss(_) => "PS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    fn published(&self) -> Value {
        let mut key = match &*self.pair {
            Pair::Rsa(pair) | Pair::Pss(pair) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "n": BASE64.encode(public.n), "e": BASE64.encode(public.e)})
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(pair.public_key().as_ref())})
            }
        };
        key["kid"] = self.id.as_str().into();
        key["use"] = "sig".into();
        key
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Pss(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

impl Idp {
    /// One that knows Alice.
    pub(super) async fn start(authority: &Authority) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = format!("https://{address}/realm");
        let signer = Signer::new("ES256", "first");
        let state = State {
            keys: vec![signer.clone()],
            signer,
            forge: |_, _| (),
            tamper: |token| token,
            person: json!({"sub": "alice-1", "preferred_username": "alice", "name": "Alice Liddell"}),
            more: Value::Null,
            configuration: json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize?tenant=1"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/keys"),
                "userinfo_endpoint": format!("{issuer}/me"),
                "authorization_response_iss_parameter_supported": true,
            }),
            issuer,
            now: Timestamp(1_800_000_000_000),
            answers: BTreeMap::new(),
            redirect_uri: format!("https://example.org{CALLBACK}"),
            secret: Secret::Basic,
            codes: HashMap::new(),
            given: 0,
            asked: Vec::new(),
        };
        let idp = Self { address, state: Arc::new(Mutex::new(state)) };
        let (tls, state) = (authority.tls(&["127.0.0.1"], &["http/1.1"]), idp.state.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, state) = (tls.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, state.clone()));
                    // How it ends is the other side's business, or was meant so.
                    _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        idp
    }

    pub(super) fn issuer(&self) -> String {
        format!("https://{}/realm", self.address)
    }

    pub(super) fn set(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What it was asked, by path.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.set().asked.iter().filter(|asked| *asked == path).count()
    }

    /// Signs a person in who comes with such a request: the path and query with which they go back.
    #[track_caller]
    pub(super) fn sign_in(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        let mut state = self.set();
        assert_eq!((url.path(), url.port()), ("/realm/authorize", Some(self.address.port())));
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let is = |name: &str, expected: &str| assert_eq!(query[name], expected, "{name}");
        is("tenant", "1");
        is("response_type", "code");
        is("client_id", "us");
        is("redirect_uri", &state.redirect_uri);
        is("code_challenge_method", "S256");
        is("scope", "openid profile");
        assert!(query["nonce"].len() == 43 && query["state"].len() == 43 && query["nonce"] != query["state"]);
        let (code, back) = (format!("code{}", state.given), query["state"].clone());
        state.given += 1;
        state.codes.insert(code.clone(), query);
        let callback = state.redirect_uri.strip_prefix("https://example.org").unwrap().to_owned();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &back)
            .append_pair("iss", &state.issuer)
            .finish();
        format!("{callback}?{query}")
    }
}

impl State {
    /// Writes something else into its configuration.
    pub(super) fn configure(&mut self, field: &str, value: Value) {
        self.configuration[field] = value;
    }

    /// Publishes this key alone, and signs by it.
    pub(super) fn rotate(&mut self, signer: Signer) {
        self.keys = vec![signer.clone()];
        self.signer = signer;
    }

    fn token(&mut self, request: &Request<Bytes>) -> Result<Value, &'static str> {
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        let form: HashMap<String, String> = form_urlencoded::parse(request.body()).into_owned().collect();
        let basic = format!("Basic {}", BASE64_STANDARD.encode("us:s3cret%21"));
        let header = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let expected = match self.secret {
            Secret::Basic => (Some(basic), None, None),
            Secret::Post => (None, Some("us"), Some("s3cret!")),
            Secret::None => (None, Some("us"), None),
        };
        let of_form = |name: &str| form.get(name).map(String::as_str);
        assert_eq!((header, of_form("client_id"), of_form("client_secret")), expected);
        assert_eq!((&*form["grant_type"], &form["redirect_uri"]), ("authorization_code", &self.redirect_uri));
        // A code is good once.
        let asked = self.codes.remove(&form["code"]).ok_or("invalid_grant")?;
        let challenge = BASE64.encode(Sha256::digest(form["code_verifier"].as_bytes()));
        assert_eq!(challenge, asked["code_challenge"]);
        let now = self.now.0 / 1_000;
        let mut header = json!({"alg": self.signer.algorithm(), "kid": self.signer.id});
        let mut claims =
            json!({"iss": self.issuer, "aud": "us", "nonce": asked["nonce"], "iat": now, "exp": now + 300});
        if asked.get("max_age").is_some_and(|age| age == "0") {
            claims["auth_time"] = json!(now);
        }
        claims.as_object_mut().unwrap().extend(self.person.as_object().unwrap().clone());
        (self.forge)(&mut header, &mut claims);
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let token = format!("{signed}.{}", BASE64.encode(self.signer.sign(signed.as_bytes())));
        Ok(json!({"access_token": "opens", "token_type": "Bearer", "id_token": (self.tamper)(token)}))
    }
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, body.collect().await.unwrap().to_bytes());
    let mut state = state.lock().unwrap();
    let path = request.uri().path().strip_prefix("/realm").unwrap().to_owned();
    state.asked.push(path.clone());
    let (status, body) = match state.answers.get(path.as_str()).cloned() {
        Some((_, None)) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some((status, Some(body))) => (status, body),
        None => match path.as_str() {
            "/.well-known/openid-configuration" => (200, state.configuration.to_string()),
            "/keys" => {
                let keys: Vec<_> = state.keys.iter().map(Signer::published).collect();
                (200, json!({ "keys": keys }).to_string())
            }
            "/token" => match state.token(&request) {
                Ok(tokens) => (200, tokens.to_string()),
                Err(error) => (400, json!({ "error": error }).to_string()),
            },
            "/me" => {
                assert_eq!(request.headers()["authorization"], "Bearer opens");
                (200, state.more.to_string())
            }
            other => panic!("{other}"),
        },
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

pub(super) const CALLBACK: &str = "/_tayberry/sso/callback/example";
