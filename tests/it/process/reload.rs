//! `SIGHUP`: what of its configuration a running server takes up, and what it says of the rest.

use std::{fs, os::unix::net::UnixDatagram, process::Command};

use serde_json::Value;

use super::{BINARY, Place, Process, end};

#[tokio::test]
async fn a_reload_takes_up_certificates_and_the_level_of_the_log_and_names_the_rest() {
    let place = Place::init();
    let path = |name: &str| place.folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    let example = fs::read_to_string(place.file()).unwrap();
    let configure = |level: &str, secret: &str, more: &str| {
        let text = example.replace("#level = \"info\"", &format!("level = \"{level}\"")).replacen(
            "#shared_secret = \"\"",
            &format!("shared_secret = \"{secret}\""),
            1,
        );
        fs::write(place.file(), format!("{text}{TLS}{more}")).unwrap();
    };
    configure("error", "0ne", "");
    let log = path("log");
    let logged = "log=$1; shift; exec \"$0\" \"$@\" 2>\"$log\"";
    let (mut server, heard) = place.serve_and_hear(Command::new("sh").args(["-c", logged, BINARY]).arg(&log));
    let told = || fs::read_to_string(&log).unwrap();
    assert_eq!(told(), "");

    configure("info", "tw0", TLS);
    hang_up(&server, &heard);
    let lines = told();
    assert!(lines.contains("but these options need a restart"), "{lines}");
    assert!(lines.contains("\"listener, registration.shared_secret\""), "{lines}");
    assert!(!lines.contains("0ne") && !lines.contains("tw0"), "{lines}");
    // Nobody has connected.
    assert!(lines.contains("the TLS certificate was read again"), "{lines}");

    configure("info", "0ne", "");
    hang_up(&server, &heard);
    assert!(told().contains("\"the configuration was read again\""), "{}", told());

    configure("loud", "0ne", "");
    fs::write(path("cert.pem"), "half a certificate").unwrap();
    hang_up(&server, &heard);
    let lines = told();
    assert!(lines.contains("mistakes") && lines.contains("`level` must be one of"), "{lines}");
    assert!(lines.contains("can't be read again, the last one stays"), "{lines}");
    place.ask("GET", "/_matrix/client/versions", Value::Null).await;
    assert!(end(&mut server).success());
}

/// A listener with a certificate.
const TLS: &str = r#"
[[listener]]
bind = "127.0.0.1:0"
tls = { certificate = "cert.pem", key = "key.pem" }
"#;

/// Has the server reload, and waits until it says that it has.
fn hang_up(server: &Process, heard: &UnixDatagram) {
    assert!(Command::new("kill").args(["-s", "HUP", &server.0.id().to_string()]).status().unwrap().success());
    for expected in ["RELOADING=1", "READY=1"] {
        let mut buffer = [0; 64];
        let length = heard.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
}
