//! A room of another server's users, made event by event.

use std::{ops::Range, sync::Arc};

use anyhow::{Result, ensure};
use ruma::{
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap},
};
use serde_json::{Value, json};
use tayberry::{
    base::{clock::Clock, ids::RoomNumber, rng::Rng},
    room::{graph::State, version::Version},
    service::write::{
        ingest::{Ingested, ingest},
        lane::Lanes,
    },
    store::{Options, Store, StoreError, View, events::Standing},
};
use tempfile::TempDir;

use crate::graph::{End, Graph, Made};

const SERVER: &str = "two.example";

pub(crate) struct Room {
    store: Store,
    lanes: Lanes,
    graph: Graph,
    keys: Arc<PublicKeyMap>,
    number: RoomNumber,
    folder: TempDir,
}

/// The state before the last event of an end, which is a message.
pub(crate) fn state(end: &End, view: &View<'_>, room: RoomNumber) -> Result<State, StoreError> {
    let last = end.last.as_deref().unwrap_or_default();
    let number = view.event_number(room, last.try_into().expect("an event id"))?;
    let header = view.header(room, number.expect("a stored event"))?;
    Ok(State::stored(header.state_before.expect("a known state")))
}

fn open(folder: &TempDir) -> Result<Store> {
    let dir = folder.path().to_owned();
    Ok(Store::open(Options { dir, clock: Clock::system(), rng: Rng::system() })?)
}

impl Room {
    /// A public room with so many members.
    pub(crate) async fn new(version: Version, members: usize) -> Result<(Self, End)> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned())?;
        let public = [("ed25519:1".to_owned(), Base64::new(key.public_key().to_vec()))];
        let mut graph = Graph::new(SERVER, key, version, "bench")?;
        let mut end = End::default();
        let begun = graph.begin(&mut end)?;
        let store = open(&folder)?;
        let id = graph.id.clone();
        let number = store.write::<_, StoreError>(move |job| job.create_room(&id, version)).await?;
        let mut room = Self {
            store,
            lanes: Lanes::default(),
            graph,
            keys: Arc::new(PublicKeyMap::from([(SERVER.to_owned(), public.into())])),
            number,
            folder,
        };
        for made in begun {
            room.take(made).await?;
        }
        for member in 0..members {
            room.rename(&mut end, member, "").await?;
        }
        Ok((room, end))
    }

    /// The same from the disk: whatever the store still had in memory is in its files.
    pub(crate) fn reopened(self) -> Result<Self> {
        let Self { store, lanes, graph, keys, number, folder } = self;
        store.close();
        drop(store);
        let store = open(&folder)?;
        ensure!(store.load().tail_bytes == 0, "a closed store leaves nothing to its journal");
        Ok(Self { store, lanes, graph, keys, number, folder })
    }

    /// The room in which everybody of these has a new name, and something was said then.
    pub(crate) async fn renamed(&mut self, end: &End, members: Range<usize>) -> Result<End> {
        let mut end = end.clone();
        let name = self.graph.events.to_string();
        for member in members {
            self.rename(&mut end, member, &name).await?;
        }
        let creator = self.graph.user("creator");
        self.add(&mut end, "m.room.message", None, &creator, json!({"body": "", "msgtype": "m.text"}))
            .await?;
        Ok(end)
    }

    async fn rename(&mut self, end: &mut End, member: usize, name: &str) -> Result<()> {
        let user = self.graph.user(&format!("member{member}"));
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
        let made = self.graph.add(end, kind, state_key, sender, content)?;
        self.take(made).await
    }

    async fn take(&self, made: Made) -> Result<()> {
        let (id, keys) = (self.graph.id.clone(), self.keys.clone());
        let taken = ingest(&self.store, &self.lanes, id, (made.object, None), keys).await?;
        ensure!(matches!(taken, Ingested::As(Standing::Live)), "{}: {taken:?}", made.pdu.event_id());
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn number(&self) -> RoomNumber {
        self.number
    }

    pub(crate) fn events(&self) -> u64 {
        self.graph.events
    }
}
