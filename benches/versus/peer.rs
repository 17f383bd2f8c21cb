//! Another server, played by the bench: it has a room that others join, and sends transactions to a room that it has
//! joined itself.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ruma::{
    CanonicalJsonObject, ServerName,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tayberry::{
    net::x_matrix::{Signable, sign},
    room::version::Version,
};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    authority::Authority,
    client::Connection,
    graph::{End, Graph},
    person::transaction_id,
    server::Server,
};

/// It answers until the bench ends.
pub(crate) struct Peer {
    name: String,
    seed: Vec<u8>,
    tls: TlsConnector,
    rooms: Rooms,
}

/// What it has, by the ids of rooms.
type Rooms = Arc<Mutex<Vec<Arc<Hosted>>>>;

/// A room that others may join.
struct Hosted {
    id: String,
    version: Version,
    depth: u64,
    last: String,
    auth_events: Vec<String>,
    /// What an answer to `send_join` has beside the event: the rest of its JSON.
    rest: String,
}

/// A room of another server, in which this one has somebody.
pub(crate) struct Guest {
    graph: Graph,
    end: End,
    user: String,
    to: String,
    connection: Connection,
}

impl Peer {
    /// Starts it.
    pub(crate) async fn start(authority: &Authority) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let name = listener.local_addr()?.to_string();
        let seed = Ed25519KeyPair::generate().to_vec();
        let peer = Self { name, seed, tls: authority.connector()?, rooms: Rooms::default() };
        let (keys, rooms) = (Bytes::from(peer.keys()?), peer.rooms.clone());
        tokio::spawn(serve(listener, authority.acceptor()?, keys, rooms));
        Ok(peer)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a public room with so many members; gives its id.
    pub(crate) fn host(&self, version: Version, members: usize) -> Result<String> {
        let mut graph = Graph::new(&self.name, self.key()?, version, &format!("of{members}"))?;
        let mut end = End::default();
        let chain: Vec<String> = graph.begin(&mut end)?.iter().map(|made| made.object.text()).collect();
        let mut state = chain.clone();
        for member in 0..members {
            let user = graph.user(&format!("member{member}"));
            let content = json!({"membership": "join", "displayname": format!("Member {member}")});
            state.push(graph.add(&mut end, "m.room.member", Some(&user), &user, content)?.object.text());
        }
        let (state, chain) = (state.join(","), chain.join(","));
        let auth_events = graph.auth_events(&end, "m.room.member", "").into_iter().cloned().collect();
        let hosted = Hosted {
            id: graph.id.to_string(),
            version,
            depth: graph.events,
            last: end.last.context("a room has events")?,
            auth_events,
            rest: format!(r#""members_omitted":false,"state":[{state}],"auth_chain":[{chain}]}}"#),
        };
        let id = hosted.id.clone();
        self.rooms.lock().expect("nobody panics with it").push(Arc::new(hosted));
        Ok(id)
    }

    /// Somebody of it joins a public room of a server.
    pub(crate) async fn join(&self, server: &Server, room: &str) -> Result<Guest> {
        let mut connection = Connection::secure(server.meets_at()?, self.tls.clone()).await?;
        let (to, user) = (server.name(), format!("@guest:{}", self.name));
        let known: String = Version::all().map(|version| format!("ver={}&", version.id())).collect();
        let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?{known}");
        let template = ask(&mut connection, self, &to, Method::GET, &path, &Value::Null).await?;
        let id = template["room_version"].as_str().context("make_join without a version")?;
        let version = Version::of(&id.try_into()?).context("a known version")?;
        let mut graph = Graph::new(&self.name, self.key()?, version, "joined")?;
        graph.id = room.try_into()?;
        let mut event = template["event"].clone();
        graph.events = event["depth"].as_u64().context("make_join without a depth")?;
        event["origin_server_ts"] = (1_700_000_000_000 + graph.events).into();
        let made = graph.sign(event)?;
        let id = made.pdu.event_id().to_string();
        let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
        let event = serde_json::from_str(&made.object.text())?;
        let answer = ask(&mut connection, self, &to, Method::PUT, &path, &event).await?;
        let mut end = End { last: Some(id.clone()), ..End::default() };
        for event in answer["state"].as_array().context("send_join without state")? {
            let key =
                [&event["type"], &event["state_key"]].map(|part| part.as_str().unwrap_or_default().into());
            if let [kind, key] = key
                && key != user
            {
                let event = tayberry::base::json::canonical_object(&event.to_string())?;
                let pdu = tayberry::room::pdu::Pdu::parse(&event.into(), version)?;
                end.state.insert((kind, key), pdu.event_id().to_string());
            }
        }
        end.state.insert(("m.room.member".to_owned(), user.clone()), id);
        Ok(Guest { graph, end, user, to, connection })
    }

    fn key(&self) -> Result<Ed25519KeyPair> {
        Ok(Ed25519KeyPair::from_der(&self.seed, "1".to_owned())?)
    }

    /// What it answers who asks for its keys.
    fn keys(&self) -> Result<String> {
        let key = self.key()?;
        let public = Base64::<Standard, _>::new(key.public_key().to_vec()).encode();
        let document = json!({
            "server_name": self.name, "valid_until_ts": 4_000_000_000_000_u64,
            "verify_keys": {"ed25519:1": {"key": public}}, "old_verify_keys": {},
        });
        let mut document: CanonicalJsonObject = serde_json::from_value(document)?;
        sign_json(&self.name, &key, &mut document)?;
        Ok(serde_json::to_string(&document)?)
    }
}

impl Guest {
    /// Makes transactions of so many messages each; the id of each one's last goes with it.
    pub(crate) fn transactions(&mut self, count: usize, messages: usize) -> Result<Vec<(Value, String)>> {
        let mut transactions = Vec::with_capacity(count);
        for _ in 0..count {
            let mut pdus = Vec::with_capacity(messages);
            for _ in 0..messages {
                let body = format!("message {}, which is as long as most are", self.graph.events);
                let content = json!({"msgtype": "m.text", "body": body});
                let made = self.graph.add(&mut self.end, "m.room.message", None, &self.user, content)?;
                pdus.push(serde_json::from_str::<Value>(&made.object.text())?);
            }
            let transaction = json!({"origin": self.graph.server, "origin_server_ts": 1, "pdus": pdus});
            transactions.push((transaction, self.end.last.clone().context("nothing was made")?));
        }
        Ok(transactions)
    }

    /// Sends one; each event in it must be taken.
    pub(crate) async fn send(&mut self, peer: &Peer, transaction: &Value) -> Result<()> {
        let path = format!("/_matrix/federation/v1/send/{}", transaction_id());
        let answer = ask(&mut self.connection, peer, &self.to, Method::PUT, &path, transaction).await?;
        let taken = answer["pdus"].as_object().context("an answer without pdus")?;
        ensure!(taken.values().all(|taken| taken["error"].is_null()), "not all was taken: {answer}");
        Ok(())
    }
}

/// Asks a server, in this one's name.
async fn ask(
    connection: &mut Connection,
    peer: &Peer,
    to: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let content = Some(&*body).filter(|body| !body.is_empty());
    let signable = Signable { method: method.as_str(), uri: path, content };
    let (from, to) = (ServerName::parse(&peer.name)?, ServerName::parse(to)?);
    let header = sign(signable, &from, &to, &peer.key()?)?;
    let answer = connection.authorized(method, path, Some(header), body.into()).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, keys: Bytes, rooms: Rooms) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (tls, keys, rooms) = (tls.clone(), keys.clone(), rooms.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let (keys, rooms) = (keys.clone(), rooms.clone());
                async move { Ok::<_, Infallible>(answer(request, keys, &rooms).await) }
            });
            let stream = tls.accept(stream).await?;
            http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await?;
            anyhow::Ok(())
        });
    }
}

async fn answer(request: Request<Incoming>, keys: Bytes, rooms: &Rooms) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let parts: Vec<&str> = head.uri.path().split('/').skip(2).collect();
    let hosted = |id: &str| {
        let id = id.replace("%21", "!").replace("%3A", ":");
        rooms.lock().expect("nobody panics with it").iter().find(|room| room.id == id).cloned()
    };
    let answer = match *parts {
        ["key", "v2", "server", ..] => Some(keys),
        ["federation", "v1", "send", _] => Some(Bytes::from_static(b"{\"pdus\":{}}")),
        ["federation", "v1", "make_join", room, user] => hosted(room).map(|room| room.template(user).into()),
        ["federation", "v2", "send_join", room, _] => match (hosted(room), body.collect().await) {
            (Some(room), Ok(event)) => {
                let event = String::from_utf8_lossy(&event.to_bytes()).into_owned();
                Some(format!(r#"{{"event":{event},{}"#, room.rest).into())
            }
            _ => None,
        },
        _ => None,
    };
    let status = if answer.is_some() { 200 } else { 404 };
    let answer = answer.unwrap_or(Bytes::from_static(br#"{"errcode":"M_UNRECOGNIZED","error":""}"#));
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

impl Hosted {
    fn template(&self, user: &str) -> String {
        let user = user.replace("%40", "@").replace("%3A", ":");
        json!({
            "room_version": self.version.id(),
            "event": {
                "type": "m.room.member", "state_key": user, "sender": user, "room_id": self.id,
                "content": {"membership": "join"}, "depth": self.depth + 1, "origin_server_ts": 1,
                "prev_events": [self.last], "auth_events": self.auth_events,
            },
        })
        .to_string()
    }
}
