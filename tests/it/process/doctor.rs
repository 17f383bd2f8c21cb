//! `doctor`: whether others find and reach a running server.

use std::{fs, process::Output};

use super::{Place, end, free_port, run};
use crate::net::Authority;

#[test]
fn a_server_is_looked_at_as_others_reach_it() {
    let port = free_port();
    let (place, name) = (Place::init_as(&format!("127.0.0.1:{port}")), format!("127.0.0.1:{port}"));
    let authority = Authority::new();
    let certify = |name: &str| {
        let (certificate, key) = authority.certificate(name);
        fs::write(place.folder.path().join("cert.pem"), certificate).unwrap();
        fs::write(place.folder.path().join("key.pem"), key).unwrap();
    };
    let text = fs::read_to_string(place.file()).unwrap();
    let listener = format!(
        "[[listener]]\nbind = \"{name}\"\ntls = {{ certificate = \"cert.pem\", key = \"key.pem\" }}\n"
    );
    let text = text
        .replace("#allow_private_addresses = false", "allow_private_addresses = true")
        .replace("#trusted_ca_files = []", &format!("trusted_ca_files = [{:?}]", authority.file()));
    fs::write(place.file(), format!("{text}\n{listener}")).unwrap();
    let look = || {
        let Output { status, stdout, stderr } = run(&["doctor", &name, "--config", &place.file()]);
        let [told, failed] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code(), told, failed)
    };

    certify("127.0.0.1");
    let mut server = place.serve(|command| command);
    let (code, told, failed) = look();
    assert_eq!((code, failed.as_str()), (Some(0), ""), "{told}");
    assert!(told.contains("yes, it is Tayberry") && told.contains("is signed and good"), "{told}");
    assert!(told.ends_with(&format!("Other servers find and reach {name}.\n")), "{told}");
    assert!(end(&mut server).success());

    certify("127.0.0.2");
    let mut server = place.serve(|command| command);
    let (code, told, failed) = look();
    assert!(code == Some(1) && failed.contains(&format!("others can't reach {name}")), "{told}{failed}");
    assert!(told.contains("=> the certificate there must be valid, for 127.0.0.1,"), "{told}");
    assert!(end(&mut server).success());

    let (code, told, failed) = look();
    assert!(code == Some(1) && failed.contains(&format!("others can't reach {name}")), "{told}{failed}");
    assert!(told.contains(&format!("=> let the server listen at port {port} of 127.0.0.1,")), "{told}");
}
