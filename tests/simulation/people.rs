//! What people do: everything a client may ask of its server, through the server's own router.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use ruma::ServerName;
use serde_json::{Value, json};
use tayberry::{
    base::{ids::RoomNumber, rng::Rng, secret::Secret},
    service::{
        accounts::{self, Registration},
        sessions::DeviceRequest,
    },
    store::{StoreError, View},
};
use vodozemac::Ed25519SecretKey;

use crate::{
    host,
    world::{HONEST, World},
};

/// Somebody with a device.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) number: usize,
    pub(crate) home: &'static str,
    pub(crate) id: String,
    pub(crate) device: String,
    token: String,
    /// How far the device has followed.
    since: Option<String>,
    /// How many more devices there ever were.
    others: usize,
}

/// A room.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) number: usize,
    pub(crate) id: String,
    pub(crate) alias: String,
    /// Whether whoever came in stays in when it is closed. Before version 12 a fork can take that back by its resolution.
    pub(crate) keeps_joins: bool,
}

/// An event that a server said it had taken.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) room: usize,
    pub(crate) id: String,
    pub(crate) at: Duration,
    /// The honest servers that it knew to be in the room. Others hear of the event with what comes after it.
    pub(crate) to: Vec<&'static str>,
}

impl Person {
    /// Makes somebody an account, and publishes the keys of the device.
    pub(crate) async fn create(world: &Arc<World>, home: &'static str, name: &str, has_password: bool) {
        let app = world.state().hosts[home].app.clone();
        let device = DeviceRequest { id: Some("DEVICE".into()), display_name: None, refresh: false };
        let wanted = Registration {
            name: Some(name.to_owned()),
            password: has_password.then(|| Secret::new(PASSWORD.to_owned())),
            device: Some(device),
            ..Registration::default()
        };
        let registered = accounts::register(&app, wanted).await.unwrap();
        let number = world.state().people.len();
        let person = Self {
            number,
            home,
            id: registered.user_id.to_string(),
            device: "DEVICE".to_owned(),
            token: registered.log_in.unwrap().tokens.access.expose().clone(),
            since: None,
            others: 0,
        };
        world.state().people.push(person.clone());
        person.publish(world).await;
    }

    async fn publish(&self, world: &Arc<World>) {
        let Self { id, device, .. } = self;
        let seed = 100 * self.number + self.others;
        let key = Ed25519SecretKey::from_slice(&Rng::seeded(seed as u64).bytes());
        let mut keys = json!({
            "user_id": id,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                format!("ed25519:{device}"): key.public_key().to_base64(),
                format!("curve25519:{device}"): "wjLpTLRqbqBzLs63aYaEv2Boi6cFEbbM/sSRQ2oAKk4",
            },
        });
        let signature = key.sign(keys.to_string().as_bytes()).to_base64();
        keys["signatures"] = json!({id: {format!("ed25519:{device}"): signature}});
        self.ask(world, "POST", "keys/upload", json!({"device_keys": keys})).await;
    }

    /// Brings another device, which may go again.
    pub(crate) async fn change_devices(&self, world: &Arc<World>) {
        let others = {
            let mut state = world.state();
            let others = &mut state.people[self.number].others;
            *others += 1;
            *others
        };
        let device = format!("DEVICE{others}");
        let body = json!({
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.id},
            "password": PASSWORD,
            "device_id": device,
        });
        let Some((200, body)) = self.ask(world, "POST", "login", body).await else { return };
        let token = body["access_token"].as_str().unwrap().to_owned();
        let on_it = Self { device, token, others, ..self.clone() };
        on_it.publish(world).await;
        world.pass(Duration::from_secs(20)).await;
        if world.chance(40) {
            on_it.ask(world, "POST", "logout", json!({})).await;
        }
    }

    /// Asks the server; none if that is down, or ends meanwhile.
    pub(crate) async fn ask(
        &self,
        world: &Arc<World>,
        method: &str,
        path: &str,
        body: Value,
    ) -> Option<(u16, Value)> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let uri = format!("/_matrix/client/v3/{path}");
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body).unwrap();
        let number = world.next();
        let who = format!("{} #{number}", self.id);
        world.log(&who, format_args!("{method} {path}"));
        let answer = host::answer(world, self.home, &self.id, request).await;
        let Some(answer) = answer else {
            world.log(&who, "no answer");
            return None;
        };
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        world.log(&who, format_args!("{status} {}", body["errcode"].as_str().unwrap_or_default()));
        Some((status, body))
    }

    /// Puts an event in a room, and notes it if the server says that it took it.
    pub(crate) async fn put(
        &self,
        world: &Arc<World>,
        room: &Room,
        path: &str,
        content: Value,
    ) -> Option<String> {
        let path = format!("rooms/{}/{path}", room.id);
        let (status, body) = self.ask(world, "PUT", &path, content).await?;
        let id = body["event_id"].as_str().filter(|_| status == 200)?.to_owned();
        let at = world.elapsed();
        let to = joined(world, self.home, room, |view, number| {
            let mut to = Vec::new();
            for name in HONEST {
                let server = <&ServerName>::try_from(name).unwrap();
                if view.is_server_joined(number, server)? {
                    to.push(name);
                }
            }
            Ok(to)
        });
        let to = to.await.unwrap_or_default();
        world.state().acknowledged.push(Acknowledged { room: room.number, id: id.clone(), at, to });
        Some(id)
    }

    /// Says something.
    pub(crate) async fn say(&self, world: &Arc<World>, room: &Room, text: &str) -> Option<String> {
        let path = format!("send/m.room.message/t{}", world.next());
        self.put(world, room, &path, json!({"msgtype": "m.text", "body": text})).await
    }

    /// Sends a message to somebody's device.
    pub(crate) async fn message(&self, world: &Arc<World>, to: &Person) {
        let number = world.next();
        let path = format!("sendToDevice/m.test/t{number}");
        let content = json!({"messages": {&to.id: {&to.device: {"number": number}}}});
        // Nothing is for servers that were in no room that is known there.
        let Some(app) = world.state().hosts.get(self.home).map(|host| host.app.clone()) else { return };
        let home = to.home;
        let known = move |view: &View<'_>| view.server_number(<&ServerName>::try_from(home).unwrap());
        let is_known = home == self.home || app.store.read(known).await.unwrap().is_some();
        if let Some((200, _)) = self.ask(world, "PUT", &path, content).await
            && is_known
        {
            world.state().messages.insert(number, to.number);
        }
    }

    /// Follows, and takes the messages to the device.
    pub(crate) async fn sync(&self, world: &Arc<World>) {
        let since = world.state().people[self.number].since.clone();
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let Some((200, body)) = self.ask(world, "GET", &format!("sync?timeout=0{since}"), Value::Null).await
        else {
            return;
        };
        let numbers = body["to_device"]["events"].as_array().into_iter().flatten();
        let numbers: Vec<_> = numbers.filter_map(|event| event["content"]["number"].as_u64()).collect();
        let mut state = world.state();
        state.people[self.number].since = body["next_batch"].as_str().map(str::to_owned);
        state.received.extend(numbers.into_iter().map(|number| (number, self.number)));
    }

    /// Reads a room back to its beginning, as far as the server can have it.
    pub(crate) async fn read_back(&self, world: &Arc<World>, room: &Room) {
        let mut from = String::new();
        for _ in 0..100 {
            let path = format!("rooms/{}/messages?dir=b&limit=100{from}", room.id);
            let Some((200, body)) = self.ask(world, "GET", &path, Value::Null).await else { return };
            let Some(end) = body["end"].as_str() else { return };
            from = format!("&from={end}");
        }
        world.fail(format_args!("{} reads {} back without end", self.id, room.id));
    }

    /// The content of a room's state, as the person sees it.
    pub(crate) async fn state(&self, world: &Arc<World>, room: &Room, kind: &str) -> Option<Value> {
        let path = format!("rooms/{}/state/{kind}/", room.id);
        let (status, body) = self.ask(world, "GET", &path, Value::Null).await?;
        (status == 200).then_some(body)
    }
}

/// The password of those who have one.
const PASSWORD: &str = "correct horse battery staple";

/// What a server has of a room, if one of its users is in it.
pub(crate) async fn joined<T: Send + 'static>(
    world: &World,
    name: &str,
    room: &Room,
    read: impl FnOnce(&View<'_>, RoomNumber) -> Result<T, StoreError> + Send + 'static,
) -> Option<T> {
    let app = world.state().hosts.get(name)?.app.clone();
    let id = ruma::OwnedRoomId::try_from(room.id.as_str()).unwrap();
    let own = app.server_name.clone();
    let read = move |view: &View<'_>| {
        let Some(room) = view.room_number(&id)? else { return Ok(None) };
        if view.is_server_joined(room, &own)? { read(view, room).map(Some) } else { Ok(None) }
    };
    app.store.read::<_, StoreError>(read).await.unwrap()
}
