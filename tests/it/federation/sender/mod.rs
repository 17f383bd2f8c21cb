//! What a server sends to others, which are played by the test: they take it, or don't.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

mod absence;
mod beside;
mod devices;
mod events;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use ruma::{
    CanonicalJsonObject, RoomVersionId, ServerName,
    signatures::{hash_and_sign_event, reference_hash, sign_json},
};
use serde_json::{Value, json};
use tayberry::net::x_matrix::{Signable, sign};

use super::FEDERATION;
use crate::{
    net::{pair, public},
    network::Network,
    rig::{Reply, Rig},
};

/// Another server, which answers with a status and notes what it took.
struct Player {
    name: String,
    status: Arc<AtomicU16>,
    /// With which status it answers transactions that hold what.
    refused: Arc<Mutex<Option<(String, u16)>>>,
    taken: Arc<Mutex<Vec<Sent>>>,
}

/// A transaction.
#[derive(Clone, Debug)]
struct Sent {
    id: String,
    body: Value,
}

/// The server that is tested.
const OWN: &str = "one.example:1";

impl Player {
    fn new(network: &Network, name: &str) -> Self {
        let (status, taken) = (Arc::new(AtomicU16::new(200)), Arc::<Mutex<Vec<Sent>>>::default());
        let refused = Arc::<Mutex<Option<(String, u16)>>>::default();
        let player = Self {
            name: name.to_owned(),
            status: status.clone(),
            refused: refused.clone(),
            taken: taken.clone(),
        };
        let keys = keys(name);
        network.play(name, move |asked| {
            if asked.path.contains("/key/v2/server") {
                return Some((200, keys.clone()));
            }
            let mut status = status.load(Ordering::SeqCst);
            let holds =
                |(text, _): &&(String, u16)| String::from_utf8_lossy(&asked.body).contains(text.as_str());
            if let Some((_, refusal)) = refused.lock().unwrap().as_ref().filter(holds) {
                status = *refusal;
            }
            if let Some((_, id)) = asked.path.split_once("/federation/v1/send/")
                && status == 200
            {
                let body = serde_json::from_slice(&asked.body).unwrap();
                taken.lock().unwrap().push(Sent { id: id.to_owned(), body });
            }
            Some((status, if status == 200 { json!({"pdus": {}}) } else { json!({"errcode": "M_UNKNOWN"}) }))
        });
        player
    }

    /// How it answers from now on.
    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// With which status it answers what holds this from now on.
    fn refuse(&self, text: &str, status: u16) {
        *self.refused.lock().unwrap() = Some((text.to_owned(), status));
    }

    /// It refuses nothing any more.
    fn relent(&self) {
        *self.refused.lock().unwrap() = None;
    }

    fn user(&self) -> String {
        format!("@carol:{}", self.name)
    }

    /// Asks the tested server for something.
    async fn ask(&self, rig: &Rig, method: &str, path: &str, body: Value) -> Reply {
        let content = body.to_string();
        let content = Some(content.as_str()).filter(|_| !body.is_null());
        let [from, to] = [&self.name, OWN].map(|name| ServerName::parse(name).unwrap());
        let request = Signable { method, uri: path, content };
        let header: HeaderValue = sign(request, &from, &to, &pair("a", 1)).unwrap();
        rig.send_with(method, path, Some(header.to_str().unwrap()), body).await
    }

    /// Brings its user into a room, or out of it.
    async fn act(&self, rig: &Rig, wish: &str, room: &str) {
        let path = format!("{FEDERATION}/v1/make_{wish}/{room}/{}?ver=11", self.user());
        let event = self.ask(rig, "GET", &path, Value::Null).await.ok()["event"].clone();
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let rules = RoomVersionId::V11.rules().unwrap();
        hash_and_sign_event(&self.name, &pair("a", 1), &mut object, &rules.redaction).unwrap();
        let id = reference_hash(&object, &rules).unwrap();
        let event = serde_json::to_value(&object).unwrap();
        self.ask(rig, "PUT", &format!("{FEDERATION}/v2/send_{wish}/{room}/${id}"), event).await.ok();
    }

    /// The transactions that it took.
    fn taken(&self) -> Vec<Sent> {
        self.taken.lock().unwrap().clone()
    }

    /// The events among that.
    fn events(&self) -> Vec<Value> {
        self.taken().iter().flat_map(|sent| list(&sent.body, "pdus")).collect()
    }

    /// The contents of what isn't an event, of one type.
    fn edus(&self, kind: &str) -> Vec<Value> {
        let edus = self.taken().into_iter().flat_map(|sent| list(&sent.body, "edus"));
        edus.filter(|edu| edu["edu_type"] == kind).map(|edu| edu["content"].clone()).collect()
    }

    /// The texts of the messages.
    fn texts(&self) -> Vec<String> {
        let texts = self.events().into_iter();
        texts.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    /// Waits until it has messages with these texts, and no others.
    async fn has(&self, texts: &[&str]) {
        until(&format!("{} has {texts:?}", self.name), || self.texts().len() >= texts.len()).await;
        assert_eq!(self.texts(), texts, "{}", self.name);
    }
}

fn list(body: &Value, field: &str) -> Vec<Value> {
    body.get(field).map_or_else(Vec::new, |list| list.as_array().unwrap().clone())
}

fn keys(name: &str) -> Value {
    let key = json!({"ed25519:a": {"key": public(1)}});
    let document = json!({
        "server_name": name, "verify_keys": key, "old_verify_keys": {}, "valid_until_ts": 1_900_000_000_000u64,
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    sign_json(name, &pair("a", 1), &mut object).unwrap();
    serde_json::to_value(&object).unwrap()
}

/// Waits for something that is about to be so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

/// The tested server, and others of these names.
async fn servers<const N: usize>(names: [&str; N]) -> (Network, Rig, [Player; N]) {
    let network = Network::default();
    let rig = network.start(OWN, |_| {}).await;
    let players = names.map(|name| Player::new(&network, name));
    (network, rig, players)
}
