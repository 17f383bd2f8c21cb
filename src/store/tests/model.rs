//! The [`View`] against a model: random histories of groups, failing jobs, checkpoints, merges of runs of ids, restarts,
//! crashes and long-lived readers. Each follows from a seed, which a failure names.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    ops::{Bound, RangeBounds},
    sync::{Arc, mpsc},
};

use tempfile::TempDir;
use tokio::{runtime::Builder, sync::oneshot, task::JoinHandle};

use super::open;
use crate::{
    base::{ids::Position, rng::Rng},
    store::{Store, StoreError, Table, Transaction, View, writer::Message},
};

#[test]
fn a_view_shows_what_was_committed_up_to_its_position() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    for seed in 0..if whole { 500 } else { 12 } {
        Builder::new_current_thread().build().unwrap().block_on(play(seed));
    }
}

/// What a view must show.
#[derive(Clone, Default)]
struct Model {
    position: Position,
    entries: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    ids: BTreeMap<[u8; 16], u64>,
    /// Jobs that succeeded; the record store counts them too.
    jobs: u64,
}

/// What one job does.
struct Plan {
    puts: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    ids: Vec<([u8; 16], u64)>,
    positions: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Panic,
}

/// Somebody who keeps a view for long.
struct Reader {
    release: mpsc::Sender<()>,
    reading: JoinHandle<Result<(), StoreError>>,
}

async fn play(seed: u64) {
    let rng = Rng::seeded(seed);
    let mut dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for life in 0..LIVES {
        let store = open(dir.path());
        let mut readers: VecDeque<Reader> = VecDeque::new();
        for step in 0..STEPS {
            let at = format!("seed {seed}, life {life}, step {step}");
            match rng.below(8) {
                0..4 => write_group(&store, &mut model, &rng, &at).await,
                4..6 => store.0.queue.send(Message::Checkpoint).unwrap(),
                6 if readers.len() < LONG_READERS => {
                    readers.push_back(Reader::begin(&store, &model, &rng, &at).await);
                }
                _ => end_all(readers.drain(..1.min(readers.len()))).await,
            }
            let check = checker(&model, &rng, &at);
            store.read(move |view| check(view)).await.unwrap();
        }
        if rng.below(2) == 0 {
            // The old folder goes when its store is closed.
            dir = crashed(&store, &dir);
        }
        end_all(readers.into_iter()).await;
    }
}

/// Several jobs, which queue up in this order; each must find what those before it left.
async fn write_group(store: &Store, model: &mut Model, rng: &Rng, at: &str) {
    let mut jobs = Vec::new();
    for _ in 0..=rng.below(6) {
        let plan = Plan::random(rng);
        let (end, after) = (plan.end, model.after(&plan));
        let (finds, leaves) = (checker(model, rng, at), checker(&after, rng, at));
        let job = move |tx: &mut Transaction<'_>| {
            finds(tx)?;
            plan.run(tx)?;
            leaves(tx)?;
            match plan.end {
                End::Success => Ok(()),
                End::Failure => Err(StoreError::Full),
                // Without the message of a panic that nobody expected.
                End::Panic => std::panic::resume_unwind(Box::new("planned")),
            }
        };
        let store = store.clone();
        jobs.push((end, tokio::spawn(async move { store.write(job).await })));
        if end == End::Success {
            *model = after;
        }
    }
    for (end, job) in jobs {
        let came_to = match job.await.unwrap() {
            Ok(()) => End::Success,
            Err(StoreError::Full) => End::Failure,
            Err(StoreError::Panicked) => End::Panic,
            Err(other) => panic!("{at}: {other}"),
        };
        assert_eq!(came_to, end, "{at}");
    }
    assert_eq!(store.position(), model.position, "{at}");
}

impl Reader {
    /// Opens a view and keeps it until told to end: it must show then what it showed at first.
    async fn begin(store: &Store, model: &Model, rng: &Rng, at: &str) -> Self {
        let check = checker(model, rng, &format!("{at}, a long read"));
        let (opened, is_open) = oneshot::channel();
        let (release, released) = mpsc::channel();
        let store = store.clone();
        let read = move |view: &View<'_>| {
            opened.send(()).unwrap();
            released.recv().unwrap();
            check(view)
        };
        let reading = tokio::spawn(async move { store.read(read).await });
        is_open.await.unwrap();
        Self { release, reading }
    }
}

async fn end_all(readers: impl Iterator<Item = Reader>) {
    for Reader { release, reading } in readers {
        release.send(()).unwrap();
        reading.await.unwrap().unwrap();
    }
}

/// What a crash at this moment would leave: the files as they are, with a tail that no checkpoint has reached.
fn crashed(store: &Store, dir: &TempDir) -> TempDir {
    // Nothing writes to LMDB meanwhile, and what may go from SQLite's log to its database is still in the log.
    let _quiet = store.0.lmdb.write().unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("events")).unwrap();
    for file in ["events/data.mdb", "records.sqlite", "records.sqlite-wal"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

impl Model {
    fn after(&self, plan: &Plan) -> Self {
        let mut after = self.clone();
        after.position.0 += plan.positions;
        after.jobs += 1;
        after.ids.extend(plan.ids.iter().copied());
        for (table, key, value) in plan.puts.iter().cloned() {
            match value {
                Some(value) => after.entries.insert((table, key), value),
                None => after.entries.remove(&(table, key)),
            };
        }
        after
    }

    fn range(&self, table: Table, bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> VecDeque<Owned> {
        let of_table = self.entries.iter().filter(|((of, _), _)| *of == table);
        let entries = of_table.map(|((_, key), value)| (key.clone(), value.clone()));
        entries.filter(|(key, _)| bounds.contains(key)).collect()
    }
}

impl Plan {
    fn random(rng: &Rng) -> Self {
        // Now and then more than one slice of a checkpoint, or of a merge, holds.
        let (puts, ids) = match rng.below(12) {
            0 => (rng.below(1_200), 0),
            1 => (0, rng.below(6_000)),
            _ => (rng.below(8), rng.below(4)),
        };
        let put = |_| {
            let value = (rng.below(3) > 0).then(|| vec![rng.below(256) as u8; rng.below(60) as usize]);
            (TABLES[rng.below(3) as usize], key(rng), value)
        };
        Self {
            puts: (0..puts).map(put).collect(),
            ids: (0..ids).map(|_| (id(rng), rng.below(1_000))).collect(),
            positions: 1 + rng.below(3),
            end: [End::Success, End::Success, End::Success, End::Success, End::Failure, End::Panic]
                [rng.below(6) as usize],
        }
    }

    fn run(&self, tx: &mut Transaction<'_>) -> Result<(), StoreError> {
        (0..self.positions).for_each(|_| _ = tx.next_position());
        self.ids.iter().for_each(|(hash, number)| tx.put_id(*hash, *number));
        for (table, key, value) in &self.puts {
            match value {
                Some(value) => tx.put(*table, key, value),
                None => tx.delete(*table, key),
            }
        }
        tx.sql().execute_batch(
            "CREATE TABLE IF NOT EXISTS model (only INTEGER PRIMARY KEY, jobs INTEGER);
             INSERT INTO model VALUES (1, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1",
        )?;
        Ok(())
    }
}

/// Checks that a view shows what the model says: random keys and ids, and ranges walked from both ends.
fn checker(
    model: &Model,
    rng: &Rng,
    at: &str,
) -> impl Fn(&View<'_>) -> Result<(), StoreError> + Send + 'static {
    let (model, seed, at) = (Arc::new(model.clone()), rng.below(u64::MAX), at.to_owned());
    move |view| {
        let rng = Rng::seeded(seed);
        assert_eq!(view.position(), model.position, "{at}");
        if model.jobs > 0 {
            let jobs: u64 = view.sql().query_row("SELECT jobs FROM model", [], |row| row.get(0))?;
            assert_eq!(jobs, model.jobs, "{at}");
        }
        let known = model.ids.keys().nth(rng.below(1 + model.ids.len() as u64) as usize);
        for hash in known.copied().into_iter().chain([id(&rng)]) {
            assert_eq!(view.id(hash)?, model.ids.get(&hash).copied(), "{at}: {hash:x?}");
        }
        for table in TABLES {
            check_keys(view, &model, table, &rng, &at)?;
            check_range(view, &model, table, &rng, &at)?;
        }
        Ok(())
    }
}

fn check_keys(view: &View<'_>, model: &Model, table: Table, rng: &Rng, at: &str) -> Result<(), StoreError> {
    let mut keys: Vec<_> = (0..rng.below(40)).map(|_| key(rng)).collect();
    if rng.below(4) > 0 {
        keys.sort_by(|a, b| b.cmp(a));
    }
    let mut descent = view.descent(table);
    for key in keys {
        let expected = model.entries.get(&(table, key.clone())).map(Vec::as_slice);
        assert_eq!(view.get(table, &key)?.as_deref(), expected, "{at}: {table:?} {key:x?}");
        assert_eq!(descent.get(&key)?.as_deref(), expected, "{at}: descent, {table:?} {key:x?}");
    }
    Ok(())
}

fn check_range(view: &View<'_>, model: &Model, table: Table, rng: &Rng, at: &str) -> Result<(), StoreError> {
    let bounds = (bound(rng), bound(rng));
    let mut expected = model.range(table, &bounds);
    let mut range =
        view.range(table, (bounds.0.as_ref().map(|key| &key[..]), bounds.1.as_ref().map(|key| &key[..])));
    let from_back = rng.below(3);
    loop {
        let back = from_back == 2 || from_back == 1 && rng.below(2) == 0;
        let (entry, expected) = match back {
            true => (range.next_back(), expected.pop_back()),
            false => (range.next(), expected.pop_front()),
        };
        let entry = entry.transpose()?.map(|(key, value)| (key.into_owned(), value.into_owned()));
        assert_eq!(entry, expected, "{at}: {table:?} {bounds:x?}, back: {back}");
        if expected.is_none() {
            return Ok(());
        }
    }
}

fn bound(rng: &Rng) -> Bound<Vec<u8>> {
    match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    }
}

/// Short keys of few letters, which begin with each other and meet often; or one of 65,536.
fn key(rng: &Rng) -> Vec<u8> {
    match rng.below(2) {
        0 => (0..=rng.below(3)).map(|_| [0, 1, 0x61, 0xFF][rng.below(4) as usize]).collect(),
        _ => rng.bytes::<2>().to_vec(),
    }
}

/// Ids spread over all values, and some that are put again and again.
fn id(rng: &Rng) -> [u8; 16] {
    match rng.below(4) {
        0 => [rng.below(8) as u8; 16],
        _ => rng.bytes(),
    }
}

type Owned = (Vec<u8>, Vec<u8>);

/// Neighbours in the tail, and the last of all.
const TABLES: [Table; 3] = [Table::Names, Table::Keys, Table::Members];
const LIVES: u32 = 4;
const STEPS: u32 = 12;
/// A check must find a permit beside them.
const LONG_READERS: usize = 2;
