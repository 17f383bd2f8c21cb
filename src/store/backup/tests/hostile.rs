//! Backups that somebody else has made, of whom the server's administrator knows nothing.

use super::*;

/// Makes a backup of an empty store whose items were changed, and restores it.
fn restored(change: impl Fn(Item<'_>, &mut dyn FnMut(Item<'_>))) -> Result<Restored, BackupError> {
    let (data, dir, place) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(data.path());
    let mut backup = Backup::begin(dir.path(), data.path(), Clock::system(), manner(false)).unwrap();
    let take = &mut |item: Item<'_>| backup.take(item).unwrap();
    let dumped = store.dump(&mut |item| {
        change(item, take);
        Ok(())
    });
    dumped.unwrap();
    backup.finish(&mut |_| ()).unwrap();
    store.close();
    restore(dir.path(), &place.path().join("data"))
}

#[test]
fn no_sql_of_a_backup_is_run() {
    restored(|item, take| take(item)).unwrap();
    let folder = TempDir::new().unwrap();
    let (there, path) = (folder.path().join("there"), folder.path().join("there").display().to_string());
    let attach = format!("COMMIT; ATTACH '{path}' AS x; CREATE TABLE x.a (b); BEGIN");
    for (kind, text) in [
        ("table", attach.as_str()),
        ("index", attach.as_str()),
        ("table", "CREATE TABLE more (it INTEGER) STRICT"),
        ("trigger", "CREATE TRIGGER t AFTER INSERT ON users BEGIN DELETE FROM users; END"),
    ] {
        let refused = restored(|item, take| {
            let is_schema = matches!(item, Item::Table("schema"));
            take(item);
            if is_schema {
                take(Item::Entry { key: kind.as_bytes(), value: text.as_bytes() });
            }
        });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("something that this release doesn't know") && !there.exists(), "{refused}");
    }
}

#[test]
fn a_store_that_lacks_a_part_is_refused() {
    let refused = restored(|item, take| match item {
        Item::Entry { key: b"trigger", value } if value.starts_with(b"CREATE TRIGGER") => {}
        item => take(item),
    });
    assert!(refused.unwrap_err().to_string().contains("lacks a part of the record store"));
}

/// Whoever has a key expects what only its owner's server can have written.
#[test]
fn a_backup_that_is_not_encrypted_is_not_taken_for_one_that_is() {
    let ((_, rig), files, dir) = (scene(), TempDir::new().unwrap(), TempDir::new().unwrap());
    back_up(&rig.store, files.path(), dir.path(), false).unwrap();
    let identity = sealed::IDENTITY.parse().unwrap();
    let refused = Restoration::of(dir.path(), Some(identity)).err().unwrap().to_string();
    assert!(refused.contains("is not encrypted") && refused.contains("leave out --identity"), "{refused}");
}
