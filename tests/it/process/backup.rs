//! `backup` and `restore` as an administrator has them, with a configuration.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Output,
};

use tempfile::TempDir;

use super::{run, serve::Place};

/// A server that was set up and has never run, and its backup.
struct Rig {
    place: Place,
    backups: TempDir,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { place: Place::init(), backups: TempDir::new().unwrap() };
        assert_eq!(rig.back_up(), "");
        rig
    }

    fn data(&self) -> PathBuf {
        self.place.folder.path().join("tayberry-data")
    }

    /// Backs up, and gives what is told of what is wrong.
    fn back_up(&self) -> String {
        self.run("backup")
    }

    fn restore(&self) -> String {
        self.run("restore")
    }

    fn run(&self, command: &str) -> String {
        let dir = self.backups.path().to_str().unwrap();
        let Output { status, stderr, .. } = run(&[command, dir, "--config", &self.place.file()]);
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!(status.success(), told.is_empty(), "{told}");
        told
    }

    /// As after a new installation: the data folder is empty, and its owner's.
    fn lose_data(&self) {
        let owner = fs::metadata(self.data()).unwrap();
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        chown(self.data(), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
}

fn is_root(file: &Path) -> bool {
    fs::metadata(file).unwrap().uid() == 0
}

/// Only root can write for somebody else; for others this shows that what is theirs stays so.
#[test]
fn a_configuration_that_is_restored_can_be_read_by_the_server() {
    let rig = Rig::new();
    let file = rig.place.file();
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    rig.lose_data();
    let (group, mode) =
        if is_root(&rig.data()) { (12_345, 0o640) } else { (fs::metadata(rig.data()).unwrap().gid(), 0o600) };
    if is_root(&rig.data()) {
        chown(rig.data(), Some(12_345), Some(12_345)).unwrap();
    }
    assert_eq!(rig.restore(), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let kept = fs::metadata(&file).unwrap();
    assert_eq!((kept.gid(), kept.mode() & 0o777), (group, mode));
}

#[test]
fn a_configuration_without_a_name_makes_room_for_that_of_the_backup() {
    let rig = Rig::new();
    let file = rig.place.file();
    let text = fs::read_to_string(&file).unwrap();
    let nameless = text.replace("\nserver_name = \"a.example\"", "\n#server_name = \"example.org\"");
    fs::write(&file, &nameless).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    rig.lose_data();
    assert_eq!(rig.restore(), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(fs::read_to_string(format!("{file}.old")).unwrap(), nameless);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    assert!(rig.data().join("signing.key").exists());
}

/// As with systemd, which gives them to the server alone.
#[test]
fn a_backup_needs_no_secrets() {
    let rig = Rig::new();
    let file = rig.place.file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("#shared_secret_file", "shared_secret_file", 1)).unwrap();
    assert!(!run(&["config", "--check", "--config", &file]).status.success(), "it is nowhere");
    assert_eq!(rig.back_up(), "");
    assert!(run(&["user", "create", "anna", "--config", &file]).status.success());
}

/// Its owner could not go on with what root has written. Nobody else can write there.
#[test]
fn a_folder_of_another_user_is_refused() {
    let rig = Rig::new();
    if !is_root(rig.backups.path()) {
        return;
    }
    chown(rig.backups.path(), Some(12_345), None).unwrap();
    let refused = rig.back_up();
    assert!(refused.contains("belongs to another user") && refused.contains("`sudo -u`"), "{refused}");
}

#[test]
fn a_status_tells_when_the_last_backup_was() {
    let rig = Rig::new();
    fs::remove_file(rig.data().join("backed-up-at")).unwrap();
    let _server = rig.place.serve(|command| command);
    let told = || String::from_utf8(run(&["status", "--config", &rig.place.file()]).stdout).unwrap();
    assert!(told().contains("\nbackup    none so far"), "{}", told());
    assert_eq!(rig.back_up(), "");
    let told = told();
    let line = told.lines().find(|line| line.starts_with("backup ")).unwrap();
    assert!(line.ends_with(" s ago"), "{line}");
}
