//! Backups of real stores, and what is made of them.

mod damage;
mod hostile;
mod sealed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    base::{
        age::Identity,
        clock::{Clock, Timestamp},
        ids::{DeviceNumber, Position, UserNumber},
        limits,
        rng::Rng,
    },
    room::fixture::{ALICE, World},
    store::{
        ContentHash, NewMedia, OneTimeKey, OpenError, Options, Store, StoreError, StoredContent, Table,
        Transaction,
        events::{
            codec::seal,
            fixture::{Outcome, Rig},
        },
        search,
    },
};

/// Everything that a store holds, by table.
type Content = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

fn content(store: &Store) -> (Head, Content) {
    let (mut head, mut tables, mut table) = (None, Content::new(), String::new());
    let mut take = |item: Item<'_>| {
        match item {
            Item::Head(given) => head = Some(given),
            Item::Table(name) => {
                table = name.to_owned();
                tables.insert(table.clone(), Vec::new());
            }
            Item::Entry { key, value } => {
                tables.get_mut(&table).unwrap().push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(())
    };
    store.dump(&mut take).unwrap();
    (head.unwrap(), tables)
}

/// Backs a store up, with the files of a folder.
fn back_up(store: &Store, files: &Path, dir: &Path, checks_all: bool) -> Result<Kept, BackupError> {
    back_up_sealed(store, files, dir, checks_all, None)
}

/// The same, encrypted if there is a seal.
fn back_up_sealed(
    store: &Store,
    files: &Path,
    dir: &Path,
    checks_all: bool,
    seal: Option<Seal>,
) -> Result<Kept, BackupError> {
    let manner = Manner { seal, ..manner(checks_all) };
    let backup = Backup::begin(dir, files, Clock::manual(Timestamp(5_000)), manner)?;
    dumped(store, backup)?.finish(&mut |_| ())
}

fn manner(checks_all: bool) -> Manner {
    Manner { checks_one_in: if checks_all { 1 } else { u64::MAX }, ..Manner::default() }
}

/// Has a backup take everything but the files of the content repository.
fn dumped(store: &Store, mut backup: Backup) -> Result<Backup, BackupError> {
    store.dump(&mut |item| backup.take(item))?;
    backup.take(Item::Table(FILES))?;
    backup.take(Item::Entry { key: b"signing.key", value: b"the key" })?;
    backup.take(Item::Entry { key: b"tayberry.toml", value: b"the configuration" })?;
    Ok(backup)
}

fn restore(dir: &Path, to: &Path) -> Result<Restored, BackupError> {
    restore_opened(dir, to, None)
}

fn restore_opened(dir: &Path, to: &Path, identity: Option<Identity>) -> Result<Restored, BackupError> {
    let places = (Path::new("media/content"), &["signing.key"][..]);
    let mut last = (0, 0);
    let restored = Restoration::of(dir, identity)?
        .run(to, places, Timestamp(9_000), &mut |done, all| last = (done, all))?;
    assert_eq!(last.0, last.1, "it ends where it was to end");
    Ok(restored)
}

fn open(dir: &Path) -> Store {
    let options =
        Options { dir: dir.to_owned(), clock: Clock::manual(Timestamp(9_000)), rng: Rng::seeded(2) };
    Store::open(options).unwrap()
}

/// A room in which a checkpoint has moved a part and not the rest, and records of many kinds.
fn scene() -> (World, Rig) {
    let (mut world, mut last) = World::new("12");
    let mut rig = Rig::of(&world);
    for number in 0..60 {
        let text = Rng::seeded(number).text(2_000, b"abcdefghijklmnopqrstuvwxyz0123456789");
        let said = world.make(ALICE, &[&last], "m.room.message", None, json!({ "body": text }));
        last = world.id_of(&said);
        assert!(matches!(rig.arrive(&said), Outcome::Accepted(_)));
        world.arrive(said);
        if number == 40 {
            rig = rig.reopened();
        }
    }
    rig.write(|tx| {
        tx.set_server_name("example.org")?;
        for (number, name) in [(1, "alice"), (2, "bob")] {
            tx.create_account(UserNumber(number), name, None, false)?;
            let device = tx.open_device(UserNumber(number), "PHONE", None)?;
            tx.set_device_keys(UserNumber(number), device, "PHONE", "{}")?;
            tx.change_device(UserNumber(number), "PHONE")?;
            for key in ["A", "B"] {
                tx.add_one_time_key(device, &key_of(key))?;
            }
            tx.set_fallback_key(device, &key_of("F"))?;
            tx.add_to_device(device, "@bob:x", "m.t", "{}")?;
            tx.keep_connection(device, "", b"told")?;
        }
        Ok(())
    });
    (world, rig)
}

fn key_of(id: &str) -> OneTimeKey {
    OneTimeKey { algorithm: "a".into(), id: id.into(), key: format!("\"{id}\"") }
}

/// Puts a file into the content repository, and a row that leads there.
fn upload(rig: &Rig, files: &Path, id: &'static str, bytes: &[u8]) -> PathBuf {
    let hash = ContentHash(*blake3::hash(bytes).as_bytes());
    let path = files.join(hash.to_string());
    fs::write(&path, bytes).unwrap();
    let size = bytes.len() as u64;
    rig.write(move |tx| {
        let content = StoredContent { hash, size, content_type: None, file_name: None, unguarded: false };
        tx.add_media(NewMedia { origin: "x", id, uploader: Some(UserNumber(1)) }, &content)
    });
    path
}

/// Every file below a folder.
fn files_in(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_in(&path)) } else { _ = found.insert(path) }
    }
    found
}

/// Only root can give something away; for others this shows that what is theirs stays theirs.
#[test]
fn a_folder_that_is_there_stays_its_owners() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", b"a picture");
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    // A disk of its own, to which the usual place leads.
    let (place, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let data = place.path().join("data");
    fs::create_dir(disk.path().join("lost+found")).unwrap();
    symlink(disk.path(), &data).unwrap();
    let owner = match fs::metadata(&data).unwrap().uid() {
        0 => 12_345,
        own => own,
    };
    chown(&data, Some(owner), None).unwrap();
    restore(dir.path(), &data).unwrap();
    for path in files_in(&data).iter().chain([&data, &data.join("media")]) {
        assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{}", path.display());
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is written beside it");
}

#[test]
fn no_server_takes_what_is_not_restored_yet() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let options =
        || Options { dir: data.clone(), clock: Clock::manual(Timestamp(9_000)), rng: Rng::seeded(2) };
    let (mut refused, contents) = (None, Path::new("media"));
    let restoration = Restoration::of(dir.path(), None).unwrap();
    let meanwhile = &mut |_, _| refused = Store::open(options()).err();
    restoration.run(&data, (contents, &[]), Timestamp(9_000), meanwhile).unwrap();
    assert!(matches!(refused, Some(OpenError::Locked(_))), "{refused:?}");
    open(&data).close();

    fs::remove_dir_all(&data).unwrap();
    fs::create_dir_all(data.join(".restoring/events")).unwrap();
    let refused = Store::open(options()).err().unwrap().to_string();
    assert!(refused.contains("`tayberry restore` was cut short; restore it from a backup"), "{refused}");
    restore(dir.path(), &data).unwrap();
    open(&data).close();
}

#[test]
fn what_was_backed_up_comes_back_and_goes_on_in_a_new_epoch() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", b"a picture");
    upload(&rig, files.path(), "same", b"a picture");
    let film = vec![7; 3 * limits::BACKUP_PIECE_BYTES + 5];
    let film = upload(&rig, files.path(), "two", &film);
    let kept = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let (head, before) = content(&rig.store);
    assert_eq!((kept.position, kept.files, kept.damaged), (head.position, 2, 0));
    let restoration = Restoration::of(dir.path(), None).unwrap();
    assert_eq!(restoration.manifest().head, head);
    assert_eq!(restoration.file("tayberry.toml").unwrap().unwrap(), b"the configuration");
    assert_eq!(restoration.file("other").unwrap(), None);

    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let restored = restore(dir.path(), &data).unwrap();
    assert_eq!((restored.files, restored.lost), (2, 0));
    assert_eq!(fs::read(data.join("signing.key")).unwrap(), b"the key");
    assert!(!data.join("tayberry.toml").exists() && !data.join(".restoring").exists());
    let film = data.join("media/content").join(film.file_name().unwrap());
    assert_eq!(fs::read(film).unwrap().len(), 3 * limits::BACKUP_PIECE_BYTES + 5);

    let store = open(&data);
    let (new_head, after) = content(&store);
    assert!(new_head.position >= head.position + limits::EPOCH && new_head.epoch > head.position);
    assert!(store.knows(Position(new_head.position)) && !store.knows(Position(head.position)));
    assert!(!store.knows(Position(new_head.epoch - 2)) && !store.knows(Position(new_head.position + 1)));
    assert_eq!(new_head.database, head.database);
    let differ: Vec<_> = before.keys().filter(|table| before[*table] != after[*table]).collect();
    let told_anew = ["device_changes", "key_changes"];
    let given_up =
        ["connections", "fallback_keys", "given_keys", "identity", "one_time_keys", "sqlite_sequence"];
    let expected: BTreeSet<_> =
        told_anew.iter().chain(&given_up).map(|table| format!("records/{table}")).collect();
    let surprises: Vec<_> = differ.iter().filter(|table| !expected.contains(**table)).collect();
    assert!(surprises.is_empty(), "{surprises:?}");
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for table in told_anew {
        assert_eq!(before[&format!("records/{table}")].len(), after[&format!("records/{table}")].len());
    }
    for (table, rows) in [("connections", 0), ("one_time_keys", 0), ("given_keys", 4), ("fallback_keys", 2)] {
        assert_eq!(after[&format!("records/{table}")].len(), rows, "{table}");
    }
    store.close();
    drop(store);

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = open(&data);
    let goes_on = store.write(move |tx: &mut Transaction<'_>| {
        tx.check_records(&mut |finding| panic!("{finding:?}"))?;
        let device = tx.device(UserNumber(1), "PHONE")?.unwrap().number;
        // Nobody gets a key that may be given out already; the fallback key is for whoever needs one now.
        assert_eq!(tx.unused_fallback_keys(device)?, [""; 0]);
        assert!(tx.has_given(device, &key_of("A"))?);
        assert_eq!(tx.claim_one_time_key(device, "a")?.unwrap(), key_of("F"));
        assert_eq!(tx.to_device_since(device, Position(0))?.0.len(), 1, "it waits for its device");
        let epoch = tx.shared.epoch;
        let changes = tx.device_changes_after(epoch, 10)?;
        assert_eq!(changes.len(), 2);
        assert!(
            changes
                .iter()
                .all(|change| change.previous == Some(Position(0)) && change.position <= tx.position())
        );
        assert_eq!(tx.key_changes_since(epoch)?.len(), 2);
        // A device that comes new has a number that none had.
        assert_eq!(tx.open_device(UserNumber(1), "DESK", None)?, DeviceNumber(3));
        Ok::<_, StoreError>(())
    });
    runtime.block_on(goes_on).unwrap();
    assert!(store.search_file().open().is_ok() && data.join(search::FILE).exists());
    store.close();
}

#[test]
fn the_second_backup_writes_what_is_new() {
    let ((_, mut rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    // As many entries as make several segments, in an order that has nothing to do with their age.
    let put = |rig: &Rig, seed: u64| {
        let rng = Rng::seeded(seed);
        rig.write(move |tx| {
            (0..200).for_each(|_| {
                let value = seal(1, |writer| writer.bytes(&rng.bytes::<1_000>()));
                tx.put(Table::Relations, &rng.bytes::<16>(), &value);
            });
            Ok(())
        });
    };
    (0..20).for_each(|seed| put(&rig, seed));
    let picture = upload(&rig, files.path(), "one", &[5; 100_000]);
    rig = rig.reopened();
    let first = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    assert!(first.segments > 8 && first.written > 1_000_000, "{first:?}");
    let before = files_in(dir.path());

    // As if that one had been cut short before it waited for the names.
    let backup = Backup::begin(dir.path(), files.path(), Clock::system(), manner(false)).unwrap();
    let mut backup = dumped(&rig.store, backup).unwrap();
    backup.take(Item::Table("the end of the last one")).unwrap();
    for segment in files_in(&dir.path().join("segments")) {
        let folders = segment.ancestors().skip(1).take(2);
        assert!(folders.into_iter().all(|folder| backup.files.folders.contains(folder)));
    }
    drop(backup);

    let again = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    assert_eq!((again.written, again.segments, again.bytes), (0, first.segments, first.bytes));
    assert_eq!(files_in(dir.path()), before);

    rig.write(|tx| {
        tx.put(Table::Relations, &[100; 16], &seal(1, |_| ()));
        Ok(())
    });
    rig.write(|tx| tx.delete_media(&Default::default(), 10));
    fs::remove_file(picture).unwrap();
    let next = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    assert!(next.written < first.written / 3, "{next:?} after {first:?}");
    assert_eq!(next.files, 0);
    let after = files_in(dir.path());
    assert!(
        after.len() < before.len() + 10
            && !after.iter().any(|path| path.starts_with(dir.path().join("media")))
    );
    assert!(before.intersection(&after).count() + 20 > before.len());
}

#[test]
fn what_is_damaged_is_found_and_mended() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = upload(&rig, files.path(), "one", &[5; 100_000]);
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    for path in files_in(dir.path()).into_iter().filter(|path| !path.ends_with("lock")) {
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        if path.starts_with(dir.path().join("media")) {
            damage::restores_without(dir.path(), &path, None);
            fs::remove_file(&path).unwrap();
            damage::restores_without(dir.path(), &path, None);
        } else {
            let refused = restore(dir.path(), &data).unwrap_err();
            assert!(
                matches!(&refused, BackupError::Damaged { path: named, .. } if *named == path),
                "{refused}"
            );
            fs::remove_file(&path).unwrap();
            assert!(matches!(
                restore(dir.path(), &data),
                Err(BackupError::Damaged { .. } | BackupError::None(_))
            ));
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is put in place");
        fs::write(&path, &bytes).unwrap();
        if path.ends_with("manifest") {
            let refused = back_up(&rig.store, files.path(), dir.path(), false).unwrap_err().to_string();
            assert!(refused.contains("back up with --verify"), "{refused}");
            back_up(&rig.store, files.path(), dir.path(), true).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
            continue;
        }
        // A backup that trusts what is there doesn't see it; one that checks it does.
        assert_eq!(back_up(&rig.store, files.path(), dir.path(), false).unwrap().written, 0);
        assert!(back_up(&rig.store, files.path(), dir.path(), true).unwrap().written > 0);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    // What the server itself has damaged or lost is left out, and its row with it.
    fs::remove_dir_all(dir.path().join("media")).unwrap();
    fs::write(&picture, "other").unwrap();
    let kept = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    assert_eq!((kept.files, kept.damaged), (0, 1));
    fs::remove_file(&picture).unwrap();
    let kept = back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    assert_eq!((kept.damaged, kept.missing), (0, 1));
    assert_eq!(restore(dir.path(), &data).unwrap().lost, 1);
    let store = open(&data);
    assert_eq!(content(&store).1["contents"], []);
    store.close();
    assert!(matches!(restore(dir.path(), &data), Err(BackupError::NotEmpty(_))));
}

#[test]
fn a_folder_takes_the_backups_of_one_database() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let other = TempDir::new().unwrap();
    let store = open(other.path());
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let before = files_in(dir.path());
    let refused = back_up(&store, files.path(), dir.path(), false).unwrap_err().to_string();
    assert!(refused.contains("holds a backup of example.org"), "{refused}");
    let occupied = back_up(&store, files.path(), other.path(), false).unwrap_err();
    assert!(matches!(occupied, BackupError::Occupied(_)));
    store.close();
    let held = Backup::begin(dir.path(), files.path(), Clock::system(), manner(false)).unwrap();
    assert!(matches!(back_up(&rig.store, files.path(), dir.path(), false), Err(BackupError::Locked(_))));
    drop(held);
    // One that is cut short anywhere leaves the one before it.
    let (position, items) =
        (rig.store.position(), content(&rig.store).1.values().map(Vec::len).sum::<usize>());
    rig.write(|tx| Ok(tx.next_position()));
    for end in [0, 1, items / 2, items] {
        let mut backup = Backup::begin(dir.path(), files.path(), Clock::system(), manner(false)).unwrap();
        let mut count = 0;
        let cut = rig.store.dump(&mut |item| {
            count += 1;
            if count > end { Err(BackupError::NotWanted) } else { backup.take(item) }
        });
        assert!(matches!(cut, Err(BackupError::NotWanted)));
        drop(backup);
        assert_eq!(Restoration::of(dir.path(), None).unwrap().manifest().head.position, position.0);
        assert!(before.is_subset(&files_in(dir.path())));
    }
    let place = TempDir::new().unwrap();
    restore(dir.path(), &place.path().join("data")).unwrap();
    assert!(matches!(Restoration::of(place.path(), None), Err(BackupError::None(_))));
}

#[test]
fn an_older_state_replaces_a_newer_one_on_demand_alone() {
    let ((world, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let old = TempDir::new().unwrap();
    let data = rig.closed();
    copy(data.path(), old.path());
    let rig = Rig::on(data, &world);
    rig.write(|tx| Ok(tx.next_position()));
    let newer = back_up(&rig.store, files.path(), dir.path(), false).unwrap().position;
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let before = files_in(dir.path());
    let old = Rig::on(old, &world);
    let refused = back_up(&old.store, files.path(), dir.path(), true).unwrap_err().to_string();
    assert!(refused.contains("holds a newer state") && refused.contains("--replace"), "{refused}");
    assert_eq!(files_in(dir.path()), before);
    let replaces = Manner { replaces_newer: true, ..manner(false) };
    let backup = Backup::begin(dir.path(), files.path(), Clock::system(), replaces).unwrap();
    let kept = dumped(&old.store, backup).unwrap().finish(&mut |_| ()).unwrap();
    assert!(kept.position < newer);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

#[test]
fn a_dump_is_of_one_state_whatever_is_written_meanwhile() {
    let (_, rig) = scene();
    let (head, before) = content(&rig.store);
    let (mut entries, mut is_first) = (0, true);
    rig.store
        .dump(&mut |item| {
            match item {
                Item::Head(now) => assert_eq!(now.position, head.position),
                Item::Entry { .. } => entries += 1,
                Item::Table(_) if is_first => {
                    is_first = false;
                    rig.write(|tx| {
                        tx.create_account(UserNumber(3), "carol", None, false)?;
                        tx.put(Table::Names, b"late", &seal(1, |_| ()));
                        tx.delete(Table::Rooms, &1_u32.to_be_bytes());
                        Ok(())
                    });
                }
                Item::Table(_) => {}
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(entries, before.values().map(Vec::len).sum::<usize>());
    assert_ne!(content(&rig.store).1, before);
}

#[test]
fn who_stops_taking_ends_a_dump() {
    let (_, rig) = scene();
    let mut pieces = Vec::new();
    assert!(rig.store.dump_stream(&mut |piece| {
        pieces.push(piece);
        true
    }));
    assert!(pieces.len() > 1);
    let mut count = 0;
    stream::read(&mut &pieces.concat()[..], &mut |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    let (_, content) = content(&rig.store);
    assert_eq!(count, 1 + content.len() + content.values().map(Vec::len).sum::<usize>());
    let mut sent = 0;
    assert!(!rig.store.dump_stream(&mut |_| {
        sent += 1;
        false
    }));
    assert_eq!(sent, 1);
}

#[test]
fn a_backup_rests_as_long_as_it_works() {
    let clock = Clock::system();
    let mut pace = pace::Pace::new(clock.clone());
    std::thread::sleep(Duration::from_millis(20));
    let before = clock.monotonic();
    pace.rest();
    let rested = clock.monotonic() - before;
    assert!(rested >= Duration::from_millis(20), "{rested:?}");
    pace.rest();
    assert!(
        clock.monotonic() - before < rested + Duration::from_millis(15),
        "there was nothing to rest from"
    );
}
