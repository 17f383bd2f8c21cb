//! A server's rooms for tests: jobs on a transaction, and short words for what users do.

use std::sync::{Arc, LazyLock};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, server_name, signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    append::WriteError,
    create,
    lane::Lanes,
    member::Profile,
    membership::{Action, act, show_profile},
    plan::{NewRoom, Preset, plan},
    send::send,
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        ids::RoomNumber,
        json::Object,
        rng::Rng,
    },
    room::{build::Draft, fixture::key_pair, pdu::Pdu, version::Version},
    service::{federation::policy::Consents, signer::Signer},
    store::{
        Options, Store, StoreError, Transaction, View,
        events::{Membership, RoomRecord, Stay, StoredEvent, TransactionIdentity},
    },
};

pub(crate) const ALICE: &str = "@alice:one.example";
pub(crate) const BOB: &str = "@bob:one.example";
pub(crate) const CAROL: &str = "@carol:one.example";

/// The server `one.example`, with a store in a folder of its own.
pub(crate) struct Server {
    store: Store,
    key: Arc<Ed25519KeyPair>,
    runtime: Runtime,
    rooms: u32,
    _dir: TempDir,
}

fn signer(key: &Ed25519KeyPair) -> Signer<'_> {
    static CONSENTS: LazyLock<Consents> = LazyLock::new(Consents::default);
    Signer { server_name: server_name!("one.example"), key, consents: &CONSENTS }
}

pub(crate) fn user(id: &str) -> &UserId {
    <&UserId>::try_from(id).unwrap()
}

pub(crate) fn owned(id: &str) -> OwnedUserId {
    user(id).to_owned()
}

pub(crate) fn object(value: &Value) -> Object {
    Object::parse(&value.to_string()).unwrap()
}

pub(crate) fn version(id: &str) -> Version {
    Version::of(&id.try_into().unwrap()).unwrap()
}

pub(crate) fn new_room(id: &str, preset: Preset) -> NewRoom {
    NewRoom::new(version(id), preset)
}

pub(crate) fn draft(kind: &str, state_key: Option<&str>, content: Value) -> Draft {
    Draft {
        kind: kind.into(),
        state_key: state_key.map(str::to_owned),
        content: object(&content),
        redacts: None,
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_000_000));
        let store = Store::open(Options { dir: dir.path().to_owned(), clock, rng: Rng::seeded(1) }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store, key: Arc::new(key_pair("one.example")), runtime, rooms: 0, _dir: dir }
    }

    pub(crate) fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        job: impl FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.runtime.block_on(self.store.write(job))
    }

    /// A job that signs.
    pub(crate) fn signed<T: Send + 'static>(
        &self,
        mut job: impl FnMut(&mut Transaction<'_>, Signer<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let key = self.key.clone();
        self.write(move |transaction| job(transaction, signer(&key)))
    }

    pub(crate) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.store.read(read)).unwrap()
    }

    /// Alice makes a room.
    pub(crate) fn create(&mut self, wanted: NewRoom) -> Result<RoomNumber, WriteError> {
        self.rooms += 1;
        let room_id: OwnedRoomId = format!("!room{}:one.example", self.rooms).try_into().unwrap();
        let (version, alias) = (wanted.version, wanted.alias.clone());
        let drafts = plan(wanted, user(ALICE), &Profile::default())?;
        let key = self.key.clone();
        self.write(move |transaction| {
            let (room, drafts) = ((version, room_id.clone()), drafts.clone());
            create::begin(transaction, signer(&key), user(ALICE), room, alias.as_deref(), drafts)
        })
    }

    /// Alice makes a public room which Bob and Carol join.
    pub(crate) fn public_room(&mut self, version: &str) -> RoomNumber {
        let room = self.create(new_room(version, Preset::Public)).unwrap();
        self.act(room, BOB, &Action::Join).unwrap();
        self.act(room, CAROL, &Action::Join).unwrap();
        room
    }

    pub(crate) fn act(&self, room: RoomNumber, actor: &str, action: &Action) -> Result<(), WriteError> {
        let (key, actor, action) = (self.key.clone(), owned(actor), action.clone());
        self.write(move |transaction| act(transaction, signer(&key), room, &actor, &action, None))
    }

    pub(crate) fn show_profile(&self, room: RoomNumber, id: &str) {
        let (key, user) = (self.key.clone(), owned(id));
        self.write(move |transaction| show_profile(transaction, signer(&key), room, &user)).unwrap();
    }

    pub(crate) fn send(
        &self,
        room: RoomNumber,
        sender: &str,
        draft: Draft,
        request: Option<TransactionIdentity>,
    ) -> Result<OwnedEventId, WriteError> {
        let (key, sender) = (self.key.clone(), owned(sender));
        self.write(move |transaction| {
            send(transaction, signer(&key), room, &sender, draft.clone(), request.clone())
        })
    }

    /// Says something short and sees it sent.
    pub(crate) fn say(&self, room: RoomNumber, sender: &str, body: &str) -> OwnedEventId {
        let message = draft("m.room.message", None, json!({ "msgtype": "m.text", "body": body }));
        self.send(room, sender, message, None).unwrap()
    }

    /// Says one thing after another, as long as the gate is open.
    pub(crate) async fn many(&self, room: RoomNumber, id: &str, count: u32, lanes: &Lanes, room_id: &RoomId) {
        for number in 0..count {
            let _passing = lanes.pass(room_id).await;
            let (key, sender) = (self.key.clone(), owned(id));
            let message = draft("m.room.message", None, json!({ "here": number }));
            let job = move |transaction: &mut Transaction<'_>| {
                send(transaction, signer(&key), room, &sender, message.clone(), None)
            };
            self.store.write(job).await.unwrap();
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn stay(&self, room: RoomNumber, id: &str) -> Option<Stay> {
        let user = owned(id);
        self.read(move |view| match view.user_number(&user)? {
            Some(number) => view.stay(number, room),
            None => Ok(None),
        })
    }

    pub(crate) fn membership(&self, room: RoomNumber, id: &str) -> Option<Membership> {
        self.stay(room, id).map(|stay| stay.membership)
    }

    pub(crate) fn record(&self, room: RoomNumber) -> RoomRecord {
        self.read(move |view| view.room(room))
    }

    pub(crate) fn room_id(&self, room: RoomNumber) -> OwnedRoomId {
        self.read(move |view| view.room_id(room))
    }

    /// A room's event by its id.
    pub(crate) fn event(&self, room: RoomNumber, id: &EventId) -> StoredEvent {
        let id = id.to_owned();
        self.read(move |view| {
            let number = view.event_number(room, &id)?.expect("the event is stored");
            view.event(room, number)
        })
    }

    /// The state event of a room's current state.
    pub(crate) fn state(&self, room: RoomNumber, kind: &'static str, key: &'static str) -> Option<Arc<Pdu>> {
        self.read(move |view| {
            let root = view.room(room)?.state;
            let number = view.state_event(room, root, kind, key)?;
            number.map(|number| Ok(view.event(room, number)?.pdu)).transpose()
        })
    }

    /// How many events the room's timeline has.
    pub(crate) fn count(&self, room: RoomNumber) -> usize {
        self.read(move |view| view.timeline(room, ..).try_fold(0, |count, item| item.map(|_| count + 1)))
    }
}
