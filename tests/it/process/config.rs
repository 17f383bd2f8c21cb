//! `init` and `config`: what a new server gets, and what its operator is told of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::run;

#[test]
fn init_makes_what_a_server_needs_and_never_again() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("new");
    let init = || run(&["init", "--server-name", "example.com:8448", "--dir", dir.to_str().unwrap()]);
    let first = init();
    assert!(first.status.success(), "{first:?}");
    let (file, data) = (dir.join("tayberry.toml"), dir.join("tayberry-data"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&data), mode(&data.join("signing.key"))), (0o600, 0o700, 0o600));
    let config = fs::read_to_string(&file).unwrap();
    let key = fs::read_to_string(data.join("signing.key")).unwrap();
    assert!(config.contains("server_name = \"example.com:8448\"") && config.contains("#level = \"info\""));

    for lost in [None, Some(&file)] {
        if let Some(file) = lost {
            fs::remove_file(file).unwrap();
        }
        let again = init();
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"), "{again:?}");
        assert_eq!(fs::read_to_string(data.join("signing.key")).unwrap(), key);
    }
    assert!(!file.exists());
}

#[test]
fn init_names_the_server_of_a_configuration_that_has_no_name_yet() {
    let folder = TempDir::new().unwrap();
    let (file, data) = (folder.path().join("tayberry.toml"), folder.path().join("tayberry-data"));
    let init = |name: &str| run(&["init", "--server-name", name, "--dir", folder.path().to_str().unwrap()]);
    assert!(init("example.org").status.success());
    let example = fs::read_to_string(&file).unwrap();
    // As a package brings it: for a group to read, and with a folder for data that is empty.
    fs::write(&file, example.replace("\nserver_name", "\n#server_name")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(data.join("signing.key")).unwrap();
    assert_eq!(init("not a name").status.code(), Some(2));

    let named = init("example.com");
    assert!(named.status.success(), "{named:?}");
    assert!(String::from_utf8_lossy(&named.stdout).contains("Next: systemctl start tayberry"), "{named:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), example.replacen("example.org", "example.com", 1));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(data.join("signing.key").exists());
    assert_eq!(init("example.net").status.code(), Some(1), "it has a name now");
}

#[test]
fn config_prints_what_holds() {
    let (folder, file) = written("server_name = \"a.example\"\ndata_dir = \"data\"\n");
    fs::write(folder.path().join("secret"), "s3cret\n").unwrap();
    let output = super::command(&["config", "--config", &file])
        .env("TAYBERRY_LOG_LEVEL", "debug")
        .env("TAYBERRY_REGISTRATION_SHARED_SECRET_FILE", "secret")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !printed.contains("s3cret"), "{printed}");
    let data = folder.path().join("data");
    for line in [
        "server_name = \"a.example\"",
        &format!("data_dir = \"{}\"", data.display()),
        "level = \"debug\"",
        "shared_secret = \"(hidden)\"",
        "bind = \"127.0.0.1:8008\"",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
}

#[test]
fn check_names_every_mistake_with_its_line() {
    let (_folder, file) =
        written("server_name = \"a.example\"\ndata_dir = \"data\"\ncolour = 1\n[log]\nlevel = \"loud\"\n");
    let check = run(&["config", "--config", &file, "--check"]);
    assert_eq!(check.status.code(), Some(1));
    let told = String::from_utf8_lossy(&check.stdout);
    let places: Vec<_> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, [format!("{file}:3"), format!("{file}:5")], "{told}");

    let serve = run(&["serve", "--config", &file]);
    assert_eq!(serve.status.code(), Some(1));
    let told = String::from_utf8_lossy(&serve.stderr);
    assert!(told.contains(&format!("{file}:3: unknown key `colour`")) && told.lines().count() == 1, "{told}");

    let (_folder, file) = written("server_name = \"a.example\"\ndata_dir = \"data\"\n");
    assert!(run(&["config", "--check", "--config", &file]).status.success());
}

/// A configuration in a folder of its own.
fn written(text: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tayberry.toml");
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}
