//! Two servers with a room of the one in which somebody of the other is: what the one knows of the other's people.

use ruma::{
    CanonicalJsonObject, RoomVersionId,
    api::federation::transactions::edu::Edu,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tayberry::{net::x_matrix::Signable, service::federation::edus};

use crate::{
    encryption::Signer,
    network::Network,
    rig::{Member, Reply, Rig},
    rooms::create,
};

pub(super) const ONE: &str = "one.example:1";
pub(super) const TWO: &str = "two.example:1";

/// The servers, Anna of the first and Bob of the second, who is in a room of hers.
pub(super) struct Across {
    pub(super) network: Network,
    pub(super) one: Rig,
    pub(super) two: Rig,
    pub(super) anna: Signer,
    pub(super) bob: Signer,
    pub(super) room: String,
}

impl Across {
    pub(super) async fn new() -> Self {
        let network = Network::default();
        let mut one = network.start(ONE, |_| {}).await;
        // What they would do by themselves the tests do, when it is time.
        one.stop_workers().await;
        let two = network.start(TWO, |_| {}).await;
        let (anna, bob) = (Signer::register(&one, "anna").await, Signer::register(&two, "bob").await);
        let room = create(&one, &anna.member, json!({"preset": "public_chat", "room_version": "11"})).await;
        let across = Self { network, one, two, anna, bob, room };
        across.enter(&across.bob.member.user_id, &across.room).await;
        across
    }

    /// Lets the second server ask the first.
    pub(super) async fn ask(&self, method: &str, uri: &str, body: Value) -> Reply {
        let signer = self.two.app.signer();
        let content = body.to_string();
        let content = Some(content.as_str()).filter(|_| !body.is_null());
        let signable = Signable { method, uri, content };
        let to = &self.one.app.server_name;
        let header = tayberry::net::x_matrix::sign(signable, signer.server_name, to, signer.key).unwrap();
        self.one.send_with(method, uri, Some(header.to_str().unwrap()), body).await
    }

    /// Brings a user of the second server into a room of the first, which then knows of it.
    pub(super) async fn enter(&self, user: &str, room: &str) {
        self.come_or_go("join", user, room).await;
    }

    /// Takes a user out of it.
    pub(super) async fn leave(&self, user: &str, room: &str) {
        self.come_or_go("leave", user, room).await;
    }

    async fn come_or_go(&self, wish: &str, user: &str, room: &str) {
        let path = format!("/_matrix/federation/v1/make_{wish}/{room}/{user}?ver=11");
        let template = self.ask("GET", &path, Value::Null).await.ok();
        let mut event: CanonicalJsonObject = serde_json::from_value(template["event"].clone()).unwrap();
        let rules = RoomVersionId::V11.rules().unwrap();
        hash_and_sign_event(TWO, self.two.app.signer().key, &mut event, &rules.redaction).unwrap();
        let id = reference_hash(&event, &rules).unwrap();
        let path = format!("/_matrix/federation/v2/send_{wish}/{room}/${id}");
        self.ask("PUT", &path, serde_json::to_value(&event).unwrap()).await.ok();
    }

    /// Lets the second server tell the first something.
    pub(super) async fn tell(&self, kind: &str, content: Value) {
        tell(&self.one, TWO, &[(kind, content)]).await;
    }

    /// Looks a user's keys up as Anna.
    pub(super) async fn query(&self, user: &str) -> Value {
        let body = json!({"device_keys": {user: []}, "timeout": 5_000});
        self.one.send_as(&self.anna.member, "POST", "/_matrix/client/v3/keys/query", body).await.ok()
    }

    /// How often the second server was asked for something.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.network.asked(path).iter().filter(|asked| asked.of == TWO).count()
    }
}

/// Lets a server tell another something that is no event of a room.
pub(super) async fn tell(to: &Rig, origin: &str, told: &[(&str, Value)]) {
    let told = told.iter().map(|(kind, content)| json!({"edu_type": kind, "content": content}));
    let told: Vec<Box<RawValue>> = told.map(|edu| to_raw_value(&edu).unwrap()).collect();
    let origin = ruma::ServerName::parse(origin).unwrap();
    let (messages, rest) = edus::read(&origin, &told);
    for heard in [messages, rest] {
        edus::receive(&to.app, &origin, heard).await.unwrap();
    }
}

/// A change of a device as its server tells it.
pub(super) fn update(who: &Signer, (prev, stream): (Option<u64>, u64), more: Value) -> Value {
    let Member { user_id, device_id, .. } = &who.member;
    let mut content = json!({
        "user_id": user_id, "device_id": device_id, "stream_id": stream,
        "prev_id": prev.into_iter().collect::<Vec<_>>(), "keys": who.device_keys(),
    });
    for (field, value) in more.as_object().unwrap() {
        content[field] = value.clone();
    }
    // As others would read it.
    let edu = json!({"edu_type": "m.device_list_update", "content": content});
    assert!(matches!(serde_json::from_value(edu).unwrap(), Edu::DeviceListUpdate(_)));
    content
}
