//! One key of the state of a large room: found without loading the state.
//!
//! Measured inside this process, on a store in a folder of its own: over HTTP the request would hide it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruma::{EventId, OwnedRoomId, OwnedUserId};
use serde_json::json;
use tayberry::{
    base::{clock::Clock, ids::RoomNumber, json::canonical_object, rng::Rng},
    room::{
        advance::{Advanced, NEW},
        graph::State,
        pdu::Pdu,
        version::Version,
    },
    store::{
        Options, Store, StoreError, Transaction, View,
        events::{Admission, NewEvent},
    },
};

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct StateKey;

impl Figure for StateKey {
    const NAME: &'static str = "state-key";
    const ROWS: &'static [Row] = &[
        Row { what: "one key of the state of 100,000 members, warm median, µs", goal: Goal::AtMost(20.0) },
        Row { what: "the same, 99th percentile, µs", goal: Goal::None },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind != Kind::Tayberry {
            return Ok(Measured { values: vec![None; Self::ROWS.len()], notes: Vec::new() });
        }
        let members = scale.of(MEMBERS);
        fill(&server.folder, members).await?;
        // Opened again, so that all of it is read from LMDB.
        let store = open(&server.folder)?;
        let mut times = store.read(move |view| look_up(view, members)).await?;
        store.close();
        Ok(Measured::from([percentile(&mut times, 0.5), percentile(&mut times, 0.99)]))
    }
}

/// Times look-ups of members all over the room, by names, after as many that are not timed.
fn look_up(view: &View<'_>, members: usize) -> Result<Vec<f64>> {
    let room_id = room_id();
    let mut times = Vec::with_capacity(LOOK_UPS);
    for at in 0..2 * LOOK_UPS {
        // A stride without a common factor visits members in no order of theirs.
        let user = user(at % LOOK_UPS * 7_919 % members);
        let stopwatch = Stopwatch::start();
        let room = view.room_number(&room_id)?.context("the room is there")?;
        let root = view.room(room)?.state;
        let found = view.state_event(room, root, "m.room.member", user.as_str())?;
        let taken = stopwatch.elapsed();
        ensure!(found.is_some(), "{user} is a member");
        if at >= LOOK_UPS {
            times.push(taken.as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// Fills a store with one room that so many users have joined, one event each.
async fn fill(folder: &Path, members: usize) -> Result<()> {
    let store = open(folder)?;
    let create = |transaction: &mut Transaction<'_>| transaction.create_room(&room_id(), Version::DEFAULT);
    let room = store.write(create).await?;
    for from in (0..members).step_by(JOINS_PER_JOB) {
        let joins: Result<Vec<Pdu>> = (from..members.min(from + JOINS_PER_JOB)).map(join).collect();
        let joins = joins?;
        store
            .write(move |transaction| joins.iter().try_for_each(|join| append(transaction, room, join)))
            .await?;
    }
    store.close();
    Ok(())
}

fn append(transaction: &mut Transaction<'_>, room: RoomNumber, pdu: &Pdu) -> Result<(), StoreError> {
    let before = State::stored(transaction.room(room)?.state);
    let mut current = before.clone();
    if let Some(key) = pdu.key() {
        current.set(key, NEW);
    }
    let advanced = Advanced { beside: Vec::new(), current };
    let admission = Admission::Live { before: &before, advanced: &advanced };
    transaction.append_event(room, &NewEvent { pdu, transaction: None, admission })?;
    Ok(())
}

/// A join in the form and size that a server sends, though nobody signed it.
fn join(member: usize) -> Result<Pdu> {
    let (user, depth) = (user(member), member + 1);
    let hash = |part: u8| {
        EventId::new_v2_or_v3(&blake3::hash(&[&[part][..], &member.to_be_bytes()].concat()).to_hex()[..43])
    };
    let event = json!({
        "auth_events": [hash(1)?, hash(2)?, hash(3)?],
        "content": { "displayname": format!("Member {member}"), "membership": "join" },
        "depth": depth,
        "hashes": { "sha256": &hash(4)?.as_str()[1..] },
        "origin_server_ts": 1_700_000_000_000_u64 + member as u64,
        "prev_events": [hash(5)?],
        "room_id": room_id(),
        "sender": user,
        "signatures": { "example.org": { "ed25519:1": format!("{}{}", hash(6)?, hash(7)?) } },
        "state_key": user,
        "type": "m.room.member",
    });
    Ok(Pdu::parse(&canonical_object(&event.to_string())?.into(), Version::DEFAULT)?)
}

fn open(folder: &Path) -> Result<Store> {
    let dir = folder.join("store");
    Ok(Store::open(Options { dir, clock: Clock::system(), rng: Rng::system() })?)
}

fn room_id() -> OwnedRoomId {
    ruma::room_id!("!large:example.org").to_owned()
}

fn user(member: usize) -> OwnedUserId {
    let user = format!("@member{member}:example.org");
    OwnedUserId::try_from(user).expect("the user id is well-formed")
}

const MEMBERS: usize = 100_000;
const LOOK_UPS: usize = 10_000;
/// One job puts at most 256 KB.
const JOINS_PER_JOB: usize = 40;
