//! Encrypted backups.

use super::*;
use crate::base::age::Recipient;

#[test]
fn an_encrypted_backup_tells_nothing_and_opens_with_its_key_alone() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = b"a picture of a cup, that everybody has".repeat(30);
    upload(&rig, files.path(), "one", &picture);
    let film = vec![7; 3 * limits::BACKUP_PIECE_BYTES + 5];
    upload(&rig, files.path(), "two", &film);
    let kept = back_up_sealed(&rig.store, files.path(), dir.path(), false, sealing(RECIPIENT)).unwrap();
    assert_eq!((kept.files, kept.damaged), (2, 0));

    let plain = TempDir::new().unwrap();
    assert_eq!(back_up(&rig.store, files.path(), plain.path(), false).unwrap().bytes, kept.bytes);
    let names = |dir: &Path| -> BTreeSet<_> {
        files_in(dir).iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    let (names, plain_names) = (names(dir.path()), names(plain.path()));
    assert_eq!(names.intersection(&plain_names).count(), 2, "lock and manifest");
    let secrets = [&b"a picture"[..], b"the key", b"the configuration", b"PHONE", &[7; 40]];
    for path in files_in(dir.path()) {
        let bytes = fs::read(&path).unwrap();
        for secret in secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
        let is_part = path.parent().unwrap() != dir.path();
        assert!(!is_part || bytes.starts_with(b"age-encryption.org/v1\n"), "{}", path.display());
    }

    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let refused = restore(dir.path(), &data).unwrap_err().to_string();
    assert!(refused.ends_with("name the file of that key with --identity") && refused.contains(RECIPIENT));
    let refused = restore_opened(dir.path(), &data, identity(OTHER_IDENTITY)).unwrap_err();
    assert!(matches!(&refused, BackupError::NotOpened { .. }), "{refused}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is put in place");

    let restoration = Restoration::of(dir.path(), identity(IDENTITY)).unwrap();
    assert_eq!(restoration.file("tayberry.toml").unwrap().unwrap(), b"the configuration");
    let restored = restore_opened(dir.path(), &data, identity(IDENTITY)).unwrap();
    assert_eq!((restored.files, restored.lost), (2, 0));
    assert_eq!(fs::read(data.join("signing.key")).unwrap(), b"the key");
    let contents: BTreeSet<_> =
        files_in(&data.join("media/content")).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(contents.contains(&picture) && contents.contains(&film));
    let (events, before) = (|content: &Content| content["events"].clone(), content(&rig.store).1);
    let store = open(&data);
    assert_eq!(events(&content(&store).1), events(&before));
    store.close();
}

#[test]
fn the_second_encrypted_backup_writes_what_is_new() {
    let ((_, mut rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", &[5; 100_000]);
    rig = rig.reopened();
    let again =
        |rig: &Rig| back_up_sealed(&rig.store, files.path(), dir.path(), false, sealing(RECIPIENT)).unwrap();
    let first = again(&rig);
    let before = files_in(dir.path());
    assert_eq!(again(&rig).written, 0);
    assert_eq!(files_in(dir.path()), before);
    upload(&rig, files.path(), "two", &[6; 1_000]);
    let next = again(&rig);
    assert!(next.written > 1_000 && next.written < first.written, "{next:?} after {first:?}");
    assert_eq!(next.files, 2);

    // Another key opens nothing of it: all is written anew, and the old is gone then.
    let kept = files_in(dir.path());
    back_up_sealed(&rig.store, files.path(), dir.path(), false, sealing(OTHER_RECIPIENT)).unwrap();
    assert_eq!(files_in(dir.path()).intersection(&kept).count(), 2, "lock and manifest");
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    assert!(restore_opened(dir.path(), &data, identity(IDENTITY)).is_err());
    restore_opened(dir.path(), &data, identity(OTHER_IDENTITY)).unwrap();
}

#[test]
fn a_folder_is_encrypted_as_a_whole_or_not_at_all() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    upload(&rig, files.path(), "one", &[5; 1_000]);
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let plain = files_in(dir.path());
    // Cut short, it leaves the one that is there whole.
    let sealed = Manner { seal: sealing(RECIPIENT), ..manner(false) };
    let cut = Backup::begin(dir.path(), files.path(), Clock::system(), sealed).unwrap();
    drop(dumped(&rig.store, cut).unwrap());
    let place = TempDir::new().unwrap();
    restore(dir.path(), &place.path().join("first")).unwrap();

    back_up_sealed(&rig.store, files.path(), dir.path(), false, sealing(RECIPIENT)).unwrap();
    assert_eq!(files_in(dir.path()).intersection(&plain).count(), 2, "lock and manifest");
    let sealed = files_in(dir.path());
    let refused = back_up(&rig.store, files.path(), dir.path(), false).unwrap_err().to_string();
    assert!(refused.contains("encrypted to") && refused.contains("--recipient"), "{refused}");
    assert_eq!(files_in(dir.path()), sealed);
    restore_opened(dir.path(), &place.path().join("second"), identity(IDENTITY)).unwrap();
}

#[test]
fn what_is_damaged_of_an_encrypted_backup_is_found_and_mended() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = upload(&rig, files.path(), "one", &[5; 100_000]);
    let again = |checks_all| {
        back_up_sealed(&rig.store, files.path(), dir.path(), checks_all, sealing(RECIPIENT)).unwrap()
    };
    again(false);
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let whole: BTreeMap<_, _> = files_in(dir.path())
        .into_iter()
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    for (path, bytes) in &whole {
        let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
        let mut changed = bytes.clone();
        changed[middle] ^= 1;
        let mut without_sum = bytes.clone();
        without_sum[last] ^= 1;
        for wrong in [&changed[..], &bytes[..middle], &bytes[..last - 40], &bytes[..10], &[]] {
            fs::write(path, wrong).unwrap();
            if path.starts_with(dir.path().join("media")) {
                damage::restores_without(dir.path(), path, identity(IDENTITY));
            } else {
                let refused = restore_opened(dir.path(), &data, identity(IDENTITY)).unwrap_err();
                assert!(
                    matches!(&refused, BackupError::Damaged { path: named, .. } if named == path),
                    "{refused}"
                );
            }
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is put in place");
            if !path.ends_with("manifest") {
                assert_eq!(again(false).written, 0, "it trusts what is there");
                assert!(again(true).written > 0, "the server sees it without the key");
                assert_eq!(again(true).written, 0);
            }
            fs::write(path, bytes).unwrap();
        }
        if !path.ends_with("manifest") {
            fs::write(path, &without_sum).unwrap();
            assert!(again(true).written > 0);
        }
        restore_opened(dir.path(), &data, identity(IDENTITY)).unwrap();
        fs::remove_dir_all(&data).unwrap();
    }
    // What the server itself has damaged is left out, and its row with it.
    fs::remove_dir_all(dir.path().join("media")).unwrap();
    fs::write(&picture, "other").unwrap();
    let kept = again(false);
    assert_eq!((kept.files, kept.damaged), (0, 1));
    assert_eq!(restore_opened(dir.path(), &data, identity(IDENTITY)).unwrap().lost, 1);
    let store = open(&data);
    assert_eq!(content(&store).1["contents"], []);
    store.close();
}

/// Whoever can write to the folder, and can't read it, knows all of the manifest but its proof.
#[test]
fn what_somebody_else_has_put_into_an_encrypted_backup_is_refused() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    back_up_sealed(&rig.store, files.path(), dir.path(), false, sealing(RECIPIENT)).unwrap();
    let whole = Manifest::read(dir.path()).unwrap().unwrap();
    let segment = place(dir.path(), "segments", &whole.segments[0].0);
    let original = fs::read(&segment).unwrap();
    let refused = || {
        let refused = restore_opened(dir.path(), &dir.path().join("data"), identity(IDENTITY)).unwrap_err();
        assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    };

    let mut fewer = whole.clone();
    fewer.segments.remove(1);
    fewer.write(dir.path()).unwrap();
    refused();
    whole.write(dir.path()).unwrap();

    // Another text, encrypted to the right key.
    let Seal { recipient, .. } = sealing(RECIPIENT).unwrap();
    let file = fs::File::create(&segment).unwrap();
    let other = Seal::new(recipient, b"a secret of their own");
    let mut writing = part::Writing::begin(&file, Some(&other)).unwrap();
    std::io::Write::write_all(&mut writing, &zstd::bulk::compress(b"anything", 3).unwrap()).unwrap();
    writing.finish().unwrap();
    refused();

    // A segment in the place of another.
    fs::copy(place(dir.path(), "segments", &whole.segments[1].0), &segment).unwrap();
    refused();
    fs::write(&segment, original).unwrap();
    Restoration::of(dir.path(), identity(IDENTITY)).unwrap();
}

pub(super) fn sealing(recipient: &str) -> Option<Seal> {
    let recipient: Recipient = recipient.parse().unwrap();
    Some(Seal::new(recipient, b"the server's own secret"))
}

fn identity(text: &str) -> Option<Identity> {
    Some(text.parse().unwrap())
}

fn place(dir: &Path, kind: &str, name: &[u8; 32]) -> PathBuf {
    segment::place(dir, kind, name)
}

pub(super) const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
pub(super) const IDENTITY: &str =
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const OTHER_RECIPIENT: &str = "age1sc0gkwy4qgtpj0gchj4dj3wd3zjfzv405dll6nwpkr68d80yqews6rafx8";
const OTHER_IDENTITY: &str = "AGE-SECRET-KEY-15FRJ050AQLFYHRCL9E0AFK26A7ES0N4TCLL62JQU3SUS0P4SNT6QZFMPM7";
