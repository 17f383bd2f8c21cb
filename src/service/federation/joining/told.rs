//! What a server tells of a room: each event checked as it arrives, and put aside on the disk until all are there.
//!
//! What the events say they need comes in any order, and a room's events are stored behind those that permit them. So in
//! memory is only which event needs which.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
};

use ruma::{OwnedRoomId, RoomId, events::TimelineEventType};

use super::{
    Failure,
    answer::{List, Part, Splitter},
};
use crate::{
    base::{blocking, json::Object, limits},
    net::Body,
    room::{auth::create_event_id, pdu::Pdu, receive, version::Version},
    service::{App, federation::keyring::Keyring},
    store::StoreError,
};

/// The events of an answer that are what they say they are.
pub(super) struct Told {
    file: File,
    length: u64,
    events: Vec<Event>,
    by_id: HashMap<Id, u32>,
    /// The event that was sent, as the server signed it.
    pub own: Option<Object>,
    /// The event that created the room.
    pub create: Option<Pdu>,
    pub keyring: Keyring,
}

/// A short name for an event's id.
type Id = [u8; 16];

struct Event {
    at: u64,
    length: u32,
    is_state: bool,
    /// Those that permit it.
    needs: Box<[Id]>,
}

impl Told {
    /// Reads an answer to its end. What is in it and is no event of the room is passed over.
    ///
    /// # Errors
    /// The answer breaks off, is too large or none.
    pub(super) async fn read(
        app: &App,
        (body, keyring): (Body, Keyring),
        (room_id, version): (&RoomId, Version),
    ) -> Result<Self, Failure> {
        let name = format!("join-{}", app.rng.text(16, b"abcdefghijklmnopqrstuvwxyz"));
        let file = put_aside(&app.config.data_dir.join(name)).map_err(StoreError::from)?;
        let mut told = Self {
            file,
            length: 0,
            events: Vec::new(),
            by_id: HashMap::new(),
            own: None,
            create: None,
            keyring,
        };
        let (mut body, mut splitter, mut parts) = (body, Splitter::default(), Vec::new());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = body.next().await? {
            // A piece may be the whole answer.
            for piece in piece.chunks(limits::ANSWER_PIECE_BYTES) {
                splitter.feed(piece, &mut parts)?;
                for part in parts.drain(..) {
                    match part {
                        Part::Own(text) => told.own = parse(&text),
                        Part::Event(list, text) => {
                            bytes += text.len();
                            batch.push((list, text));
                        }
                    }
                }
                if batch.len() >= limits::JOIN_BATCH || bytes >= limits::JOIN_BATCH_BYTES {
                    told = told.take(app, std::mem::take(&mut batch), (room_id, version)).await?;
                    bytes = 0;
                }
            }
        }
        splitter.finish()?;
        told.take(app, batch, (room_id, version)).await
    }

    /// Checks events and puts them aside.
    async fn take(
        mut self,
        app: &App,
        batch: Vec<(List, Vec<u8>)>,
        (room_id, version): (&RoomId, Version),
    ) -> Result<Self, Failure> {
        if self.events.len() + batch.len() > limits::JOIN_EVENTS {
            return Err(Failure::Answer("too many events"));
        }
        let objects: Vec<_> =
            batch.into_iter().filter_map(|(list, text)| Some((list, parse(&text)?))).collect();
        let learned: Vec<_> = objects.iter().map(|(_, object)| object).collect();
        self.keyring.learn(app, &learned, version).await;
        let with_keys = objects.into_iter().map(|(list, object)| {
            let keys = self.keyring.of(&object, version);
            (list, object, keys)
        });
        let mut halves = [Vec::new(), Vec::new()];
        with_keys.enumerate().for_each(|(place, event)| halves[place % 2].push(event));
        let checking = halves.map(|events| {
            let room_id = room_id.to_owned();
            blocking::run(move || {
                let checked = events.into_iter().filter_map(|(list, object, keys)| {
                    Some((list, checked(object, &keys, (&room_id, version))?))
                });
                checked.collect::<Vec<_>>()
            })
        });
        let mut checked = Vec::new();
        for checking in checking {
            checked.extend(checking.await.map_err(|_| StoreError::Panicked)?);
        }
        let putting = blocking::run(move || {
            checked.iter().try_for_each(|(list, pdu)| self.put(*list == List::State, pdu, version))?;
            Ok(self)
        });
        putting.await.map_err(|_| StoreError::Panicked)?
    }

    fn put(&mut self, is_state: bool, pdu: &Pdu, version: Version) -> Result<(), StoreError> {
        let id = short(pdu.event_id().as_str());
        if let Some(place) = self.by_id.get(&id) {
            self.events[*place as usize].is_state |= is_state;
            return Ok(());
        }
        let create = match pdu.kind() {
            TimelineEventType::RoomCreate => {
                self.create = Some(pdu.clone());
                None
            }
            _ => create_event_id(pdu, version),
        };
        let needs = pdu.auth_events().iter().chain(&create).map(|id| short(id.as_str())).collect();
        let text = format!("{} {}", pdu.event_id(), pdu.json());
        self.file.write_all(text.as_bytes())?;
        let (at, length) = (self.length, text.len() as u32);
        self.length += text.len() as u64;
        self.by_id.insert(id, self.events.len() as u32);
        self.events.push(Event { at, length, is_state, needs });
        Ok(())
    }

    /// The places of all events, each behind those that permit it; none if they permit one another in a circle.
    pub(super) fn order(&self) -> Option<Vec<u32>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.events.len()];
        let (mut order, mut path) = (Vec::with_capacity(self.events.len()), Vec::new());
        for begin in 0..self.events.len() as u32 {
            if marks[begin as usize] == Mark::New {
                marks[begin as usize] = Mark::Open;
                path.push((begin, 0));
            }
            while let Some((place, next)) = path.last_mut() {
                let needs = &self.events[*place as usize].needs;
                let Some(need) = needs.get(*next) else {
                    marks[*place as usize] = Mark::Done;
                    order.push(*place);
                    path.pop();
                    continue;
                };
                *next += 1;
                let Some(&need) = self.by_id.get(need) else { continue };
                match marks[need as usize] {
                    Mark::New => {
                        marks[need as usize] = Mark::Open;
                        path.push((need, 0));
                    }
                    Mark::Open => return None,
                    Mark::Done => {}
                }
            }
        }
        Some(order)
    }

    /// The first of some events that make up a part that one job stores, and whether each is of the state.
    ///
    /// # Errors
    /// They can't be read any more.
    pub(super) fn part(&self, order: &[u32]) -> Result<Vec<(Pdu, bool)>, StoreError> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for place in order {
            let Event { at, length, is_state, .. } = self.events[*place as usize];
            bytes += length as usize;
            if !part.is_empty() && bytes > limits::LOAD_BYTES {
                break;
            }
            let mut text = vec![0; length as usize];
            self.file.read_exact_at(&mut text, at)?;
            let pdu = str::from_utf8(&text)
                .ok()
                .and_then(|text| text.split_once(' '))
                .and_then(|(id, json)| Pdu::stored(id.try_into().ok()?, json, false).ok());
            part.push((pdu.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?, is_state));
        }
        Ok(part)
    }
}

fn checked(
    object: Object,
    keys: &ruma::signatures::PublicKeyMap,
    (room_id, version): (&OwnedRoomId, Version),
) -> Option<Pdu> {
    // Such an event was accepted once, whatever it names.
    match receive::verify_backfilled(object, keys, version) {
        Ok(pdu) if pdu.room_id() == room_id && pdu.state_key().is_some() => Some(pdu),
        Ok(pdu) => {
            tracing::debug!(event_id = %pdu.event_id(), "an event is not of the room's state");
            None
        }
        Err(error) => {
            tracing::debug!(%error, %room_id, "an event of a room that is entered is dropped");
            None
        }
    }
}

fn parse(text: &[u8]) -> Option<Object> {
    Object::parse(str::from_utf8(text).ok()?).ok()
}

fn short(id: &str) -> Id {
    let mut short = Id::default();
    short.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    short
}

/// A file without a name, which goes with whoever has it open.
fn put_aside(path: &std::path::Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
