//! A room of another server's users, made event by event.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use anyhow::{Result, ensure};
use ruma::{
    CanonicalJsonObject, OwnedRoomId,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap, hash_and_sign_event},
};
use serde_json::{Value, json};
use tayberry::{
    base::{clock::Clock, ids::RoomNumber, json::Object, rng::Rng},
    room::{graph::State, pdu::Pdu, version::Version},
    service::write::{
        ingest::{Ingested, ingest},
        lane::Lanes,
    },
    store::{Options, Store, StoreError, View, events::Standing},
};
use tempfile::TempDir;

const SERVER: &str = "two.example";
const CREATOR: &str = "@creator:two.example";

pub(crate) struct Room {
    store: Store,
    lanes: Lanes,
    version: Version,
    key: Ed25519KeyPair,
    keys: Arc<PublicKeyMap>,
    id: OwnedRoomId,
    number: RoomNumber,
    events: u64,
    _folder: TempDir,
}

/// An end of the room's graph: its last event, and the state after it.
#[derive(Clone, Default)]
pub(crate) struct End {
    last: Option<String>,
    state: BTreeMap<(String, String), String>,
}

impl End {
    /// The state before the last event, which is a message.
    pub(crate) fn state(&self, view: &View<'_>, room: RoomNumber) -> Result<State, StoreError> {
        let last = self.last.as_deref().unwrap_or_default();
        let number = view.event_number(room, last.try_into().expect("an event id"))?;
        let header = view.header(room, number.expect("a stored event"))?;
        Ok(State::stored(header.state_before.expect("a known state")))
    }
}

impl Room {
    /// A public room with so many members.
    pub(crate) async fn new(version: Version, members: usize) -> Result<(Self, End)> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let options = Options { dir: folder.path().to_owned(), clock: Clock::system(), rng: Rng::system() };
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned())?;
        let public = [("ed25519:1".to_owned(), Base64::new(key.public_key().to_vec()))];
        let mut room = Self {
            store: Store::open(options)?,
            lanes: Lanes::default(),
            version,
            keys: Arc::new(PublicKeyMap::from([(SERVER.to_owned(), public.into())])),
            key,
            id: OwnedRoomId::try_from("!bench:two.example")?,
            number: RoomNumber::default(),
            events: 0,
            _folder: folder,
        };
        let mut levels = json!({});
        if !version.auth().explicitly_privilege_room_creators {
            levels["users"] = json!({CREATOR: 100});
        }
        let mut end = End::default();
        let create = json!({"room_version": version.id()});
        room.add(&mut end, "m.room.create", Some(""), CREATOR, create).await?;
        room.add(&mut end, "m.room.member", Some(CREATOR), CREATOR, json!({"membership": "join"})).await?;
        room.add(&mut end, "m.room.power_levels", Some(""), CREATOR, levels).await?;
        room.add(&mut end, "m.room.join_rules", Some(""), CREATOR, json!({"join_rule": "public"})).await?;
        for member in 0..members {
            room.rename(&mut end, member, "").await?;
        }
        Ok((room, end))
    }

    /// The room in which everybody of these has a new name, and something was said then.
    pub(crate) async fn renamed(&mut self, end: &End, members: Range<usize>) -> Result<End> {
        let mut end = end.clone();
        let name = self.events.to_string();
        for member in members {
            self.rename(&mut end, member, &name).await?;
        }
        self.add(&mut end, "m.room.message", None, CREATOR, json!({"body": "", "msgtype": "m.text"})).await?;
        Ok(end)
    }

    async fn rename(&mut self, end: &mut End, member: usize, name: &str) -> Result<()> {
        let user = format!("@member{member}:{SERVER}");
        let content = json!({"membership": "join", "displayname": name});
        self.add(end, "m.room.member", Some(&user), &user, content).await
    }

    async fn add(
        &mut self,
        end: &mut End,
        kind: &str,
        state_key: Option<&str>,
        sender: &str,
        content: Value,
    ) -> Result<()> {
        self.events += 1;
        let mut event = json!({
            "type": kind, "sender": sender, "content": content, "depth": self.events,
            "origin_server_ts": self.events, "prev_events": end.last.as_slice(),
            "auth_events": self.auth_events(end, kind, sender),
        });
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        if kind != "m.room.create" || !self.version.room_id_is_hash() {
            event["room_id"] = self.id.as_str().into();
        }
        let mut object: CanonicalJsonObject = serde_json::from_value(event)?;
        hash_and_sign_event(SERVER, &self.key, &mut object, self.version.redaction())?;
        let object = Object::from(object);
        let pdu = Pdu::parse(&object, self.version)?;
        if kind == "m.room.create" {
            self.id = pdu.room_id().to_owned();
            let (id, version) = (self.id.clone(), self.version);
            let create = self.store.write::<_, StoreError>(move |job| job.create_room(&id, version));
            self.number = create.await?;
        }
        let taken =
            ingest(&self.store, &self.lanes, self.id.clone(), (object, None), self.keys.clone()).await?;
        ensure!(matches!(taken, Ingested::As(Standing::Live)), "{kind} of {sender}: {taken:?}");
        let id = pdu.event_id().to_string();
        if let Some(state_key) = state_key {
            end.state.insert((kind.to_owned(), state_key.to_owned()), id.clone());
        }
        end.last = Some(id);
        Ok(())
    }

    /// The events of an end's state that permit an event.
    fn auth_events<'a>(&self, end: &'a End, kind: &str, sender: &str) -> Vec<&'a String> {
        let mut keys = vec![("m.room.power_levels", ""), ("m.room.member", sender)];
        if !self.version.room_id_is_hash() {
            keys.push(("m.room.create", ""));
        }
        if kind == "m.room.member" {
            keys.push(("m.room.join_rules", ""));
        }
        keys.iter()
            .filter_map(|(kind, key)| end.state.get(&((*kind).to_owned(), (*key).to_owned())))
            .collect()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn number(&self) -> RoomNumber {
        self.number
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}
