//! Backups on disks that die, and of such.

use std::{borrow::Cow, ops::Bound::Unbounded};

use super::*;
use crate::store::View;

/// Where a file is that can't be read.
fn spoil(path: &Path) {
    fs::remove_file(path).unwrap();
    symlink("/", path).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Restores a backup of which the only file of the content repository is damaged: everything else is there.
pub(super) fn restores_without(dir: &Path, copy: &Path, identity: Option<Identity>) {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let restored = restore_opened(dir, &data, identity).unwrap();
    assert_eq!((restored.files, restored.lost, &restored.damaged[..]), (0, 0, &[copy.to_owned()][..]));
    assert_eq!(fs::read_dir(data.join("media/content")).unwrap().count(), 0);
    let store = open(&data);
    let content = content(&store).1;
    assert_eq!((&content["contents"][..], &content["records/media"][..]), (&[][..], &[][..]));
    assert_ne!(content["events"], []);
    store.close();
}

/// The only file of the content repository in a backup.
fn copy_in(dir: &Path) -> PathBuf {
    files_in(&dir.join("media")).pop_first().unwrap()
}

#[test]
fn what_the_server_can_not_read_is_left_out() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", b"a picture");
    spoil(&upload(&rig, files.path(), "two", b"another"));
    for checks_all in [false, true] {
        let kept = back_up(&rig.store, files.path(), dir.path(), checks_all).unwrap();
        assert_eq!((kept.files, kept.damaged), (1, 1));
    }
    let place = TempDir::new().unwrap();
    let restored = restore(dir.path(), &place.path().join("data")).unwrap();
    assert_eq!((restored.files, restored.lost), (1, 1));
}

#[test]
fn a_disk_without_room_gets_the_stores_and_no_more() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", &[5; 100_000]);
    let begin = |seal| {
        let manner = Manner { seal, ..manner(false) };
        Backup::begin(dir.path(), files.path(), Clock::system(), manner).unwrap()
    };
    let parts =
        || ["segments", "media"].iter().map(|kind| dir.path().join(kind)).filter(|kind| kind.exists());
    let count = || parts().map(|kind| files_in(&kind).len()).sum::<usize>();
    let mut backup = begin(None);
    let own = [limits::BACKUP_RESERVE_BYTES, limits::BACKUP_MEDIA_RESERVE_BYTES];
    assert_eq!([backup.files.reserve, backup.media_reserve], own, "it is the disk of the data");
    backup.files.reserve = u64::MAX;
    let full = dumped(&rig.store, backup).err().unwrap();
    assert!(matches!(&full, BackupError::Full(named) if named == dir.path()), "{full}");
    assert_eq!(count(), 0);

    let mut backup = begin(None);
    backup.media_reserve = u64::MAX;
    let kept = dumped(&rig.store, backup).unwrap().finish(&mut |_| ()).unwrap();
    assert_eq!((kept.files, kept.without_room), (0, 1));
    let place = TempDir::new().unwrap();
    assert_eq!(restore(dir.path(), &place.path().join("data")).unwrap().lost, 1);
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let before = files_in(dir.path());

    // The media of a backup that isn't encrypted are not given up for a part of them that is.
    let mut backup = begin(sealed::sealing(sealed::RECIPIENT));
    backup.media_reserve = u64::MAX;
    let full = dumped(&rig.store, backup).unwrap().finish(&mut |_| ()).unwrap_err();
    assert!(matches!(full, BackupError::Full(_)), "{full}");
    assert_eq!(files_in(dir.path()), before);
    restore(dir.path(), &place.path().join("again")).unwrap();
}

#[test]
fn what_neither_has_whole_is_left_out_as_well() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = upload(&rig, files.path(), "one", &[5; 100_000]);
    let again = |checks_all| back_up(&rig.store, files.path(), dir.path(), checks_all).unwrap();
    again(false);
    let copy = copy_in(dir.path());
    spoil(&copy);
    let kept = again(true);
    assert_eq!((kept.files, kept.damaged, fs::read(&copy).unwrap()), (1, 0, vec![5; 100_000]));

    flip(&copy);
    flip(&picture);
    let kept = again(true);
    assert_eq!((kept.files, kept.damaged, copy.exists()), (0, 1, false));
    flip(&picture);
    assert_eq!(again(false).files, 1);
    fs::remove_file(&picture).unwrap();
    assert_eq!(again(true).files, 1, "the server doesn't have it any more");
    flip(&copy);
    let kept = again(true);
    assert_eq!((kept.files, kept.damaged, kept.missing, copy.exists()), (0, 0, 1, false));
    let place = TempDir::new().unwrap();
    assert_eq!(restore(dir.path(), &place.path().join("data")).unwrap().lost, 1);
}

#[test]
fn a_copy_that_cant_be_read_for_once_stays() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = upload(&rig, files.path(), "one", &[5; 100_000]);
    let again = || back_up(&rig.store, files.path(), dir.path(), true).unwrap();
    again();
    fs::remove_file(&picture).unwrap();
    let (copy, aside) = (copy_in(dir.path()), dir.path().join("incoming-aside"));
    fs::rename(&copy, &aside).unwrap();
    // Whoever reads a folder is told of an error.
    fs::create_dir(&copy).unwrap();
    let kept = again();
    assert_eq!((kept.files, kept.missing), (1, 1));
    fs::remove_dir(&copy).unwrap();
    fs::rename(aside, &copy).unwrap();
    assert_eq!(again().files, 1);
    let place = TempDir::new().unwrap();
    assert_eq!(restore(dir.path(), &place.path().join("data")).unwrap().lost, 0);
}

#[test]
fn nightly_backups_see_everything_in_turn() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    for number in 0..40 {
        upload(&rig, files.path(), &*format!("{number}").leak(), &[number; 1_000]);
    }
    let night = |number: u64| {
        let clock = Clock::manual(Timestamp(number * 86_400_000));
        let backup = Backup::begin(dir.path(), files.path(), clock, Manner::default()).unwrap();
        dumped(&rig.store, backup).unwrap().finish(&mut |_| ()).unwrap().written
    };
    assert!(night(0) > 0);
    let parts = ["segments", "media"].map(|kind| files_in(&dir.path().join(kind)));
    parts.iter().flatten().for_each(|path| flip(path));
    let mend = |days: &mut dyn Iterator<Item = u64>| {
        let written: Vec<_> = days.map(night).collect();
        assert!(written.iter().filter(|written| **written > 0).count() > 10, "a share each: {written:?}");
        assert_eq!(back_up(&rig.store, files.path(), dir.path(), true).unwrap().written, 0);
    };
    mend(&mut (1..=29));
    parts.iter().flatten().for_each(|path| flip(path));
    mend(&mut (6..=34).map(|week| week * 7));
}

#[test]
fn what_the_disk_has_damaged_replaces_no_good_copy() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let before = files_in(dir.path());
    let tables: Vec<_> =
        Table::ALL.into_iter().filter(|table| !matches!(table, Table::Meta | Table::Ids)).collect();
    let mut damaged = 0;
    for table in tables {
        let first =
            move |view: &View<'_>| view.range(table, (Unbounded, Unbounded)).next().transpose().map(owned);
        let Some((key, value)) = rig.read(first) else { continue };
        let put = |value: Vec<u8>| {
            let key = key.clone();
            rig.write(move |tx| {
                tx.put(table, &key, &value);
                Ok(())
            });
        };
        let mut flipped = value.clone();
        flipped[value.len() / 2] ^= 4;
        put(flipped);
        let refused = back_up(&rig.store, files.path(), dir.path(), true).unwrap_err().to_string();
        let named = format!("the store is damaged: table {}, key ", table.name());
        assert!(refused.starts_with(&named) && refused.contains("`tayberry verify`"), "{refused}");
        put(value);
        damaged += 1;
    }
    assert!(damaged > 6, "{damaged} tables");
    assert!(before.is_subset(&files_in(dir.path())));
    let place = TempDir::new().unwrap();
    restore(dir.path(), &place.path().join("data")).unwrap();
}

type Entry<T> = Option<(T, T)>;

fn owned(entry: Entry<Cow<'_, [u8]>>) -> Entry<Vec<u8>> {
    entry.map(|(key, value)| (key.into_owned(), value.into_owned()))
}
