//! The engine as a whole: real SQLite and LMDB in a temporary folder.

mod model;
pub(in crate::store) mod power;

use std::ops::Bound::Unbounded;

use super::{tables::Table, *};
use crate::base::clock::Timestamp;

fn open(dir: &std::path::Path) -> Store {
    let clock = Clock::manual(Timestamp(1_000));
    let options = Options { dir: dir.to_owned(), clock, rng: Rng::seeded(1) };
    // A child of another test has this process's files, and with them its locks, until it has become its program.
    for _ in 0..1_000 {
        match Store::open(options.clone()) {
            Err(OpenError::Locked(_)) => std::thread::sleep(std::time::Duration::from_millis(1)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", dir.display())
}

async fn put(store: &Store, key: &'static [u8], value: &'static [u8]) -> Position {
    let job = move |transaction: &mut Transaction<'_>| {
        transaction.put(Table::Names, key, value);
        Ok::<_, StoreError>(transaction.next_position())
    };
    store.write(job).await.unwrap()
}

async fn all(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = |view: &View<'_>| {
        let owned = |entry: view::Entry<'_>| entry.map(|(key, value)| (key.into_owned(), value.into_owned()));
        let forth: Vec<_> =
            view.range(Table::Names, (Unbounded, Unbounded)).map(owned).collect::<Result<_, _>>()?;
        let mut back: Vec<_> =
            view.range(Table::Names, (Unbounded, Unbounded)).rev().map(owned).collect::<Result<_, _>>()?;
        back.reverse();
        let mut both = view.range(Table::Names, (Unbounded, Unbounded));
        let mut met = Vec::new();
        while let Some(entry) = if met.len() % 2 == 0 { both.next() } else { both.next_back() } {
            met.push(owned(entry)?);
        }
        met.sort();
        assert_eq!(forth, met);
        assert_eq!(forth, back);
        for (key, value) in &forth {
            assert_eq!(view.get(Table::Names, key)?.as_deref(), Some(&value[..]));
        }
        Ok::<_, StoreError>(forth)
    };
    store.read(read).await.unwrap()
}

fn entries(entries: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[tokio::test]
async fn a_store_opens_that_was_cut_short_before_it_had_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut sql = Connection::open(folder.path().join("records.sqlite")).unwrap();
    records::migrations::run(&mut sql).unwrap();
    drop(sql);
    for value in [b"1", b"2"] {
        let store = open(folder.path());
        put(&store, b"key", value).await;
        store.close();
    }
    assert_eq!(all(&open(folder.path())).await, entries(&[(b"key", b"2")]));
}

#[tokio::test]
async fn a_store_without_threads_keeps_what_it_answered_and_no_more() {
    blocking::keep_here();
    let (folder, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path());
    let both = tokio::join!(put(&store, b"a", b"1"), put(&store, b"b", b"2"));
    assert_eq!(both, (Position(1), Position(2)));
    tokio::select! {
        biased;
        _ = put(&store, b"c", b"3") => panic!("nobody has done it yet"),
        () = std::future::ready(()) => {}
    }
    // The power goes: what is on the disk is all there is.
    std::fs::create_dir(cut.path().join("events")).unwrap();
    for name in ["records.sqlite", "records.sqlite-wal", "events/data.mdb"] {
        std::fs::copy(folder.path().join(name), cut.path().join(name)).unwrap();
    }
    let kept = entries(&[(b"a", b"1"), (b"b", b"2")]);
    for _ in 0..2 {
        let store = open(cut.path());
        assert_eq!(all(&store).await, kept);
        store.close();
        let pointer = store.0.published.load();
        assert!(pointer.tail.is_empty() && pointer.frozen.is_none(), "all of it is in LMDB");
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(put(&store, b"a", b"1").await, Position(1));
    assert_eq!(put(&store, b"b", b"2").await, Position(2));
    assert_eq!(store.position(), Position(2));
    store.close();
    assert!(matches!(store.write(|_| Ok::<_, StoreError>(())).await, Err(StoreError::Closed)));
    drop(store);
    let store = open(dir.path());
    assert_eq!(all(&store).await, entries(&[(b"a", b"1"), (b"b", b"2")]));
    let replace = |transaction: &mut Transaction<'_>| {
        transaction.put(Table::Names, b"a", b"3");
        transaction.delete(Table::Names, b"b");
        transaction.put(Table::Names, b"c", b"4");
        Ok::<_, StoreError>(())
    };
    store.write(replace).await.unwrap();
    assert_eq!(all(&store).await, entries(&[(b"a", b"3"), (b"c", b"4")]));
    drop(store);
    let store = open(dir.path());
    assert_eq!(all(&store).await, entries(&[(b"a", b"3"), (b"c", b"4")]));
    assert_eq!(put(&store, b"d", b"5").await, Position(4));
}

#[tokio::test]
async fn a_job_that_fails_leaves_nothing_and_gives_its_positions_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"1").await;
    let failing = |transaction: &mut Transaction<'_>| {
        transaction.put(Table::Names, b"a", b"2");
        transaction.sql().execute("UPDATE identity SET epoch = 9", [])?;
        transaction.next_position();
        Err::<(), _>(StoreError::Full)
    };
    assert!(matches!(store.write(failing).await, Err(StoreError::Full)));
    assert_eq!(put(&store, b"b", b"2").await, Position(2));
    assert_eq!(all(&store).await, entries(&[(b"a", b"1"), (b"b", b"2")]));
    let epoch = |view: &View<'_>| {
        Ok::<i64, StoreError>(view.sql().query_row("SELECT epoch FROM identity", [], |row| row.get(0))?)
    };
    assert_eq!(store.read(epoch).await.unwrap(), 1);
}

#[tokio::test]
async fn a_job_that_panics_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let panicking = |_: &mut Transaction<'_>| -> Result<(), StoreError> { panic!("a defect") };
    let (panicked, written) = tokio::join!(store.write(panicking), put(&store, b"a", b"1"));
    assert!(matches!(panicked, Err(StoreError::Panicked)));
    assert_eq!(written, Position(1));
    assert_eq!(all(&store).await, entries(&[(b"a", b"1")]));
}

#[tokio::test]
async fn a_job_that_puts_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = |transaction: &mut Transaction<'_>| {
        transaction.put(Table::Names, b"large", &vec![0; 300 << 10]);
        Ok::<_, StoreError>(())
    };
    assert!(matches!(store.write(large).await, Err(StoreError::TooLarge(_))));
    assert_eq!(all(&store).await, []);
}

#[tokio::test]
async fn the_journal_holds_what_lmdb_lacks_and_the_newest_row() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |view: &View<'_>| {
        let count = "SELECT (SELECT count(*) FROM journal_0) + (SELECT count(*) FROM journal_1)";
        Ok::<u64, StoreError>(view.sql().query_row(count, [], |row| row.get(0))?)
    };
    for _ in 0..3 {
        let store = open(dir.path());
        for _ in 0..3 {
            put(&store, b"a", b"1").await;
            assert_eq!(store.read(rows).await.unwrap(), 1);
            put(&store, b"b", b"2").await;
            assert_eq!(store.read(rows).await.unwrap(), 2);
            store.0.queue.send(Message::Checkpoint).unwrap();
            let all_moved = |pointer: &view::Pointer| pointer.tail.is_empty() && pointer.frozen.is_none();
            while !all_moved(&store.0.published.load()) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_lmdb_cannot_hold_does_not_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (length, fits) in [(0, false), (511, true), (512, false)] {
        let job = move |tx: &mut Transaction<'_>| {
            tx.put(Table::Names, &vec![7; length], b"value");
            Ok::<_, StoreError>(())
        };
        assert_eq!(store.write(job).await.is_ok(), fits, "{length}");
    }
    drop(store);
    assert_eq!(all(&open(dir.path())).await, entries(&[(&[7; 511], b"value")]));
}

#[tokio::test]
async fn only_one_server_opens_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let options = Options { dir: dir.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(2) };
    assert!(matches!(Store::open(options), Err(OpenError::Locked(_))));
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn a_folder_of_another_word_size_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // The first page of an environment begins with a word.
    let (ours, header) = if usize::BITS == 64 { (16, 12) } else { (12, 16) };
    let page = dir.path().join("events/data.mdb");
    drop(open(dir.path()));
    let written = std::fs::read(&page).unwrap();
    let other = [&vec![0; header][..], &written[ours..]].concat();
    std::fs::write(&page, &other).unwrap();
    let records = std::fs::read(dir.path().join("records.sqlite")).unwrap();
    let options = Options { dir: dir.path().to_owned(), clock: Clock::system(), rng: Rng::seeded(2) };
    let refusal = Store::open(options).err().unwrap().to_string();
    assert!(refusal.contains("tayberry backup") && refusal.contains("tayberry restore"), "{refusal}");
    assert_eq!(std::fs::read(&page).unwrap(), other);
    assert_eq!(std::fs::read(dir.path().join("records.sqlite")).unwrap(), records);
    let refusal = super::Compaction::of(dir.path()).err().unwrap().to_string();
    assert!(refusal.contains("tayberry backup"), "{refusal}");
}

#[tokio::test]
async fn the_last_to_hold_a_store_may_be_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ((go_on, held), (begin, mut begun)) = (mpsc::channel(), tokio::sync::mpsc::unbounded_channel());
    let writing = tokio::spawn(async move {
        let own = store.clone();
        let job = move |transaction: &mut Transaction<'_>| {
            begin.send(()).unwrap();
            transaction.put(Table::Names, b"a", own.position().0.to_string().as_bytes());
            transaction.next_position();
            held.recv().map_err(|_| StoreError::Closed)
        };
        store.write(job).await
    });
    begun.recv().await.unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();

    // The folder stays locked until everything is where it belongs.
    let store = open(dir.path());
    let txn = store.0.lmdb.read().unwrap();
    assert_eq!(store.0.lmdb.tree(Table::Names).stat(&txn).unwrap().entries, 1);
}

#[tokio::test]
async fn progress_is_the_writers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let position = store.position();
    store.progress().await.unwrap();
    assert_eq!(store.position(), position);

    let ((go_on, held), (begin, mut begun)) = (mpsc::channel(), tokio::sync::mpsc::unbounded_channel());
    let job = move |_: &mut Transaction<'_>| {
        begin.send(()).unwrap();
        held.recv().map_err(|_| StoreError::Closed)
    };
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.write(job).await }
    });
    begun.recv().await.unwrap();
    let mut progress = Box::pin(store.progress());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), &mut progress).await.is_err());
    go_on.send(()).unwrap();
    progress.await.unwrap();
    writing.await.unwrap().unwrap();

    store.close();
    assert!(matches!(store.progress().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn ids_are_found_wherever_they_have_got_to() {
    let dir = tempfile::tempdir().unwrap();
    let hash =
        |number: u64| -> [u8; 16] { *blake3::hash(&number.to_be_bytes()).as_bytes().first_chunk().unwrap() };
    for round in 0..6u64 {
        let store = open(dir.path());
        let job = move |transaction: &mut Transaction<'_>| {
            (round * 100..round * 100 + 100).for_each(|number| transaction.put_id(hash(number), number));
            Ok::<_, StoreError>(())
        };
        store.write(job).await.unwrap();
        let check = move |view: &View<'_>| {
            for number in 0..round * 100 + 100 {
                assert_eq!(view.id(hash(number))?, Some(number));
            }
            assert_eq!(view.id(hash(1_000_000))?, None);
            Ok::<_, StoreError>(())
        };
        store.read(check).await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_is_woken_by_what_it_watches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let room = Topic::Room(crate::base::ids::RoomNumber(7));
    let mut watch = store.watch(vec![room]);
    let touch = move |transaction: &mut Transaction<'_>| {
        transaction.touch(room);
        Ok::<_, StoreError>(())
    };
    store.write(touch).await.unwrap();
    watch.changed().await;
}

#[tokio::test]
async fn events_fill_their_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for from in (0..1_000_u64).step_by(100) {
        let job = move |transaction: &mut Transaction<'_>| {
            (from..from + 100).for_each(|n| transaction.put(Table::Events, &n.to_be_bytes(), &[7; 780]));
            Ok::<_, StoreError>(transaction.next_position())
        };
        store.write(job).await.unwrap();
        store.0.queue.send(Message::Checkpoint).unwrap();
    }
    store.close();
    let txn = store.0.lmdb.read().unwrap();
    assert_eq!(store.0.lmdb.tree(Table::Events).stat(&txn).unwrap().leaf_pages, 200);
}
