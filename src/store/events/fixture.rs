//! One room in a real store, fed with the events of a made-up world, for the tests of this folder.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, EventId, signatures::PublicKeyMap};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{Admission, Checked, Finding, NewEvent, RoomRecord, TransactionIdentity};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        ids::{EventNumber, RoomNumber},
        rng::Rng,
    },
    room::{
        advance::{Stand, advance},
        fixture::World,
        graph::State,
        pdu::Pdu,
        receive::{Judgement, judge, soft_failure, verify},
        version::Version,
    },
    store::{Options, Store, StoreError, Transaction, View},
};

/// A store in a folder of its own with one room in it.
pub(in crate::store) struct Rig {
    pub(in crate::store) store: Store,
    runtime: Runtime,
    pub(in crate::store) room: RoomNumber,
    version: Version,
    keys: PublicKeyMap,
    dir: TempDir,
}

/// What became of an event that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Outcome {
    Needs,
    Rejected(EventNumber),
    SoftFailed(EventNumber),
    Accepted(EventNumber),
}

impl Rig {
    /// A store whose room holds what the world's room holds, in the same order.
    pub(in crate::store) fn of(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let runtime = Builder::new_current_thread().build().unwrap();
        let (room_id, version) = (world.room_id.clone(), world.version);
        let created = store.write(move |tx| tx.create_room(&room_id, version));
        let room = runtime.block_on(created).unwrap();
        let rig = Self { store, runtime, room, version, keys: world.keys.clone(), dir };
        for id in world.ids() {
            let object = world.pdu(&id).unwrap().object();
            assert!(matches!(rig.arrive(object.canonical().unwrap()), Outcome::Accepted(_)), "{id}");
        }
        rig
    }

    pub(in crate::store) fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.store.write(job)).unwrap()
    }

    pub(in crate::store) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.store.read(read)).unwrap()
    }

    /// The same folder, opened again: what was in the tail now lies in LMDB.
    pub(in crate::store) fn reopened(self) -> Self {
        self.store.close();
        drop(self.store);
        Self { store: open(&self.dir), ..self }
    }

    /// The data folder, which nobody has open any more.
    pub(in crate::store) fn closed(self) -> TempDir {
        self.store.close();
        self.dir
    }

    /// The data folder.
    pub(in crate::store) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The store of a folder in which the world's room is already.
    pub(in crate::store) fn on(dir: TempDir, world: &World) -> Self {
        let (store, runtime) = (open(&dir), Builder::new_current_thread().build().unwrap());
        let (room_id, version) = (world.room_id.clone(), world.version);
        let room = runtime.block_on(store.read(move |view| view.room_number(&room_id))).unwrap().unwrap();
        Self { store, runtime, room, version, keys: world.keys.clone(), dir }
    }

    /// Judges an event as the core does and appends it in one job.
    pub(in crate::store) fn arrive(&self, object: &CanonicalJsonObject) -> Outcome {
        self.arrive_by(object, None)
    }

    pub(in crate::store) fn arrive_by(
        &self,
        object: &CanonicalJsonObject,
        transaction: Option<TransactionIdentity>,
    ) -> Outcome {
        let pdu = verify(object.clone(), &self.keys, self.version).unwrap();
        let (room, version) = (self.room, self.version);
        self.write(move |tx| {
            let admit = |tx: &mut Transaction<'_>, pdu: &Pdu, admission: Admission<'_>| {
                tx.append_event(room, &NewEvent { pdu, transaction: transaction.clone(), admission })
            };
            let graph = tx.graph(room);
            let (pdu, before) = match judge(pdu.clone(), &graph, version).unwrap() {
                Judgement::Needs(_) => return Ok(Outcome::Needs),
                Judgement::Rejected { pdu, before, .. } => {
                    let rejected = Admission::Rejected { before: Some(&before) };
                    return Ok(Outcome::Rejected(admit(tx, &pdu, rejected)?));
                }
                Judgement::Accepted { pdu, before } => (Arc::new(pdu), before),
            };
            let record = tx.room(room)?;
            let current = State::stored(record.state);
            if soft_failure(&pdu, &current, &graph, version)?.is_some() {
                let failed = Admission::SoftFailed { before: &before };
                return Ok(Outcome::SoftFailed(admit(tx, &pdu, failed)?));
            }
            let stand = Stand { extremities: &record.extremities, state: None };
            let advanced = advance(&pdu, &before, stand, &graph, version).unwrap();
            let live = Admission::Live { before: &before, advanced: &advanced };
            Ok(Outcome::Accepted(admit(tx, &pdu, live)?))
        })
    }

    /// Appends an event without judging it.
    pub(in crate::store) fn outlier(&self, object: &CanonicalJsonObject) -> EventNumber {
        let pdu = Pdu::parse(&object.clone().into(), self.version).unwrap();
        let room = self.room;
        self.write(move |tx| {
            let event = NewEvent { pdu: &pdu, transaction: None, admission: Admission::Outlier };
            tx.append_event(room, &event)
        })
    }

    pub(in crate::store) fn number(&self, id: &EventId) -> Option<EventNumber> {
        let (room, id) = (self.room, id.to_owned());
        self.read(move |view| view.event_number(room, &id))
    }

    pub(in crate::store) fn record(&self) -> RoomRecord {
        let room = self.room;
        self.read(move |view| view.room(room))
    }

    /// Everything that breaks an invariant.
    pub(in crate::store) fn findings(&self) -> Vec<Finding> {
        self.read(|view| {
            let mut findings = Vec::new();
            let mut part = Some(Checked::default());
            while let Some(from) = part {
                part = view.check_events(from, 2, &mut |finding| findings.push(finding))?;
            }
            Ok(findings)
        })
    }
}

fn open(dir: &TempDir) -> Store {
    let clock = Clock::manual(Timestamp(1_000));
    Store::open(Options { dir: dir.path().to_owned(), clock, rng: Rng::seeded(1) }).unwrap()
}
