//! The configuration as a whole: what is read, what is refused and where, and that the example is the manual.

use std::{path::Path, time::Duration};

use ruma::server_name;

use super::{
    Bind, Config, LogFormat, RegistrationMode, example,
    reader::{Environment, Source},
};

#[test]
fn what_must_be_set_is_enough() {
    let config = read(LEAST, &[]).unwrap();
    assert_eq!(config.server_name, "example.org");
    assert_eq!(config.data_dir, Path::new("/etc/tayberry/data"));
    assert_eq!(config.listener[0].bind, Bind::Tcp(([127, 0, 0, 1], 8008).into()));
    assert_eq!(config.registration.mode, RegistrationMode::Token);
    assert!(config.registration.shared_secret.is_none() && config.well_known.client_url.is_none());
    assert!(config.rate_limit.enabled && config.federation.enabled);
    assert!(!config.federation.allow_private_addresses);
}

#[test]
fn every_key_of_the_contract_is_read() {
    let text = r#"
        server_name = "example.org:8448"
        data_dir = "/var/lib/tayberry"
        [[listener]]
        bind = "unix:/run/tayberry/client.sock"
        proxies = ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "unix"]
        [[listener]]
        bind = "[::]:8448"
        tls = { certificate = "cert.pem", key = "/key.pem" }
        [[listener]]
        bind = "systemd"
        [registration]
        mode = "open"
        shared_secret = "s3cret"
        [sso]
        trusted_clients = ["https://app.example.org/", "org.example.app:/"]
        allow_private_providers = true
        [[upstream]]
        id = "example"
        name = "Example"
        issuer = "https://id.example.org/"
        client_id = "tayberry"
        client_secret = "up5tream"
        scopes = ["openid"]
        localpart_claim = "nickname"
        display_name_claim = "nickname"
        registration = false
        match_existing = true
        icon = "mxc://example.org/abc"
        brand = "google"
        [media]
        max_upload_mb = 20
        user_quota_mb = 1_000
        unauthenticated_downloads = true
        [retention]
        redacted = "36h"
        [rate_limit]
        enabled = false
        [federation]
        enabled = false
        allow_private_addresses = true
        trusted_ca_files = ["/ca.pem"]
        [well_known]
        client_url = "https://matrix.example.org/"
        support_page = "https://example.org/help"
        contacts = [{ matrix_id = "@anna:example.org" }, { email_address = "s@example.org", role = "m.role.security" }]
        [turn]
        uris = ["turn:turn.example.org"]
        shared_secret = "t0rn"
        ttl_s = 60
        username = "everybody"
        password = "p4ss"
        [rtc]
        livekit_service_url = "https://rtc.example.org/jwt/"
        [backup]
        recipient = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
        [log]
        level = "warn"
        format = "json"
    "#;
    let config = read(text, &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/tayberry"));
    let binds: Vec<_> = config.listener.iter().map(|listener| listener.bind.clone()).collect();
    let tcp = Bind::Tcp("[::]:8448".parse().unwrap());
    assert_eq!(binds, [Bind::Unix("/run/tayberry/client.sock".into()), tcp, Bind::Systemd]);
    let proxies: Vec<_> = config.listener[0].proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "unix"]);
    assert!(config.listener[1].proxies.is_empty());
    let tls = config.listener[1].tls.as_ref().unwrap();
    assert_eq!((&*tls.certificate, &*tls.key), (Path::new("/etc/tayberry/cert.pem"), Path::new("/key.pem")));
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert_eq!(config.registration.shared_secret.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(config.sso.trusted_clients.len(), 2);
    let [upstream] = &config.upstream[..] else { panic!("one provider") };
    assert_eq!((&*upstream.issuer.0, upstream.registration), ("https://id.example.org/", false));
    assert_eq!((config.media.upload_limit(), config.media.quota()), (20_000_000, 1_000_000_000));
    assert!(config.media.unauthenticated_downloads);
    assert_eq!(config.retention.redacted.0, Some(Duration::from_secs(36 * 60 * 60)));
    assert!(!config.rate_limit.enabled && !config.federation.enabled);
    assert!(config.federation.allow_private_addresses);
    assert_eq!(config.federation.trusted_ca_files, [Path::new("/ca.pem")]);
    assert_eq!(config.well_known.client_url.as_ref().unwrap().as_str(), "https://matrix.example.org");
    let [anna, security] = &config.well_known.contacts[..] else { panic!("two contacts") };
    assert_eq!(
        (anna.matrix_id.as_ref().unwrap().as_str(), &*anna.role),
        ("@anna:example.org", "m.role.admin")
    );
    assert_eq!(
        (security.email_address.as_deref(), &*security.role),
        (Some("s@example.org"), "m.role.security")
    );
    assert_eq!((&config.turn.uris[..], config.turn.ttl_s), (&["turn:turn.example.org".to_owned()][..], 60));
    assert_eq!(config.turn.shared_secret.as_ref().unwrap().expose(), "t0rn");
    assert_eq!(config.turn.username.as_deref(), Some("everybody"));
    assert_eq!(config.rtc.livekit_service_url.as_ref().unwrap().as_str(), "https://rtc.example.org/jwt");
    assert_eq!(config.log.format, LogFormat::Json);

    let printed = config.to_toml();
    assert!(
        ["s3cret", "t0rn", "p4ss", "up5tream"].iter().all(|secret| !printed.contains(secret)),
        "{printed}"
    );
    assert_eq!(read(&printed, &[]).unwrap().to_toml(), printed);
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = r#"server_name = "not a name"
[[listener]]
bind = "localhost:8008"
proxies = ["localhost"]
[[listener]]
tls = { certificate = "cert.pem" }
[registration]
mode = "maybe"
shared_secret = 5
[rate_limit]
enabled = "yes"
burst = 3
[federation]
trusted_ca_files = ["", 7]
[well_known]
client_url = "matrix.example.org"
contacts = [{ matrix_id = "anna", email = "anna@example.org" }]
[log]
level = "loud"
[media]
max_upload_mb = -1
[retention]
redacted = "7"
[sso]
trusted_clients = ["app.example.org"]
[[upstream]]
id = "a/b"
name = "Example"
issuer = "https://id.example.org?x"
client_id = "tayberry"
icon = "https://example.org/x.png"
[colour]
"#;
    let lines = refused(text, &[]);
    let places: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let numbers = [1, 1, 3, 4, 5, 6, 8, 9, 11, 12, 14, 14, 16, 17, 17, 19, 21, 23, 25, 27, 29, 31, 32];
    assert_eq!(places, numbers.map(|line| format!("/etc/tayberry/tayberry.toml:{line}:")), "{lines:#?}");
    for text in [
        "`data_dir` is missing",
        "`server_name` must be a host name",
        "`bind` must be an IP address",
        "`proxies` must be an IP address, a network",
        "`bind` is missing",
        "`key` is missing",
        "`mode` must be one of closed, token, open",
        "`shared_secret` must be a string",
        "`enabled` must be true or false",
        "unknown key `burst`; known here: enabled",
        "`client_url` must be a URL",
        "`matrix_id` must be a user id",
        "unknown key `email`; known here: matrix_id, email_address, role",
        "`max_upload_mb` must be a number that is not negative",
        "`redacted` must be a time such as 30m, 12h or 7d, or forever",
        "`trusted_clients` must be a URL without query",
        "`id` must have letters",
        "`issuer` must be a URL",
        "`icon` must be an address",
        "unknown key `colour`",
    ] {
        assert!(lines.iter().any(|line| line.contains(text)), "{text}: {lines:#?}");
    }
}

#[test]
fn what_contradicts_itself_is_told() {
    let provider = "[[upstream]]\nid = \"a\"\nname = \"A\"\nissuer = \"https://a.org\"\nclient_id = \"us\"\n";
    assert!(read(&format!("{LEAST}{provider}"), &[]).is_ok());
    let lines = refused(&format!("{LEAST}{provider}{provider}"), &[]);
    assert_eq!(lines, ["/etc/tayberry/tayberry.toml: two of `upstream` have the id a"]);
    let lines = refused(&format!("{LEAST}[well_known]\ncontacts = [{{ role = \"m.role.admin\" }}]\n"), &[]);
    let problem = "one of `contacts` has neither `matrix_id` nor `email_address`";
    assert_eq!(lines, [format!("/etc/tayberry/tayberry.toml: {problem}")]);
    let old = format!("{provider}old_redirect_uri = true\n");
    let other = old.replace("id = \"a\"", "id = \"b\"");
    assert!(read(&format!("{LEAST}{old}{}", provider.replace("\"a\"", "\"b\"")), &[]).is_ok());
    let lines = refused(&format!("{LEAST}{old}{other}"), &[]);
    let problem = "two of `upstream` have `old_redirect_uri`: leave it to one of them";
    assert_eq!(lines, [format!("/etc/tayberry/tayberry.toml: {problem}")]);
}

#[test]
fn every_mistake_of_form_is_told_with_its_line() {
    let lines = refused("server_name = \n\n[log\n[log]\nlevel = \"info\"\nlevel = \"warn\"\n", &[]);
    assert!(lines.len() >= 3, "{lines:#?}");
    for place in ["tayberry.toml:1: ", "tayberry.toml:3: ", "tayberry.toml:6: "] {
        assert!(lines.iter().any(|line| line.contains(place)), "{place}: {lines:#?}");
    }
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = format!("{LEAST}[registration]\nmode = \"closed\"\nshared_secret = \"a\"\n");
    let variables = [
        ("TAYBERRY_SERVER_NAME", "example.com"),
        ("TAYBERRY_LISTENER", r#"[{ bind = "[::1]:1" }]"#),
        ("TAYBERRY_REGISTRATION_MODE", "open"),
        ("TAYBERRY_REGISTRATION_SHARED_SECRET", ""),
        ("TAYBERRY_RATE_LIMIT_ENABLED", "false"),
        ("TAYBERRY_FEDERATION_TRUSTED_CA_FILES", r#"["/a", "/b"]"#),
        ("TAYBERRY_PORT", "tcp://10.0.0.1:80"),
    ];
    let config = read(&text, &variables).unwrap();
    assert_eq!(config.server_name, "example.com");
    assert_eq!(config.listener[0].bind, Bind::Tcp("[::1]:1".parse().unwrap()));
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert!(config.registration.shared_secret.is_none() && !config.rate_limit.enabled);
    assert_eq!(config.federation.trusted_ca_files, [Path::new("/a"), Path::new("/b")]);

    let wrong = [("TAYBERRY_LOG_LEVEL", "loud"), ("TAYBERRY_LOG_COLOUR", "1"), ("TAYBERRY_LISTENER", "1")];
    let lines = refused(LEAST, &wrong);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for text in ["TAYBERRY_LOG_LEVEL: `level` must", "TAYBERRY_LOG_COLOUR: unknown", "TAYBERRY_LISTENER: "] {
        assert!(lines.iter().any(|line| line.starts_with(text)), "{text}: {lines:#?}");
    }
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(folder.path().join("secret"), "from the folder\n").unwrap();
    let path = folder.path().join("tayberry.toml");
    let secret = |lines: &str, variables: &[(&str, &str)]| {
        let text = format!("{LEAST}[registration]\n{lines}");
        read_at(&path, &text, variables)
            .map(|config| config.registration.shared_secret.unwrap().expose().clone())
    };
    let by_file = "shared_secret_file = \"secret\"";
    let there = ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    assert_eq!(secret(by_file, &[there]).unwrap(), "from the folder");
    std::fs::write(credentials.join("secret"), "from systemd").unwrap();
    assert_eq!(secret(by_file, &[there]).unwrap(), "from systemd");
    assert_eq!(secret(by_file, &[]).unwrap(), "from the folder");
    let variable = "TAYBERRY_REGISTRATION_SHARED_SECRET";
    assert_eq!(secret(by_file, &[(variable, "direct")]).unwrap(), "direct");
    let variable = format!("{variable}_FILE");
    assert_eq!(secret("shared_secret = \"a\"", &[(&variable, "secret")]).unwrap(), "from the folder");

    let both = secret(&format!("shared_secret = \"a\"\n{by_file}"), &[]).unwrap_err();
    assert!(both.to_string().contains("only one of shared_secret and shared_secret_file"), "{both}");
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let empty = secret("shared_secret_file = \"empty\"", &[]).unwrap_err();
    assert!(
        empty.to_string().contains("`shared_secret_file` names")
            && empty.to_string().contains("which is empty")
    );
    let missing = secret("shared_secret_file = \"none\"", &[]).unwrap_err();
    assert!(missing.to_string().contains("toml:4: `shared_secret_file` can't be read"), "{missing}");
}

#[test]
fn the_example_says_what_holds_without_it() {
    let text = example(server_name!("example.org"));
    let set = read(&text, &[]).unwrap().to_toml();
    let absent = read("server_name = \"example.org\"\ndata_dir = \"tayberry-data\"", &[]).unwrap().to_toml();
    assert_eq!(set, absent);
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting)
            if setting.starts_with(|c: char| c.is_alphabetic() || c == '[') && !setting.contains("_file") =>
        {
            setting
        }
        _ => line,
    });
    let everything: String = lines.map(|line| format!("{line}\n")).collect();
    let config = read(&everything, &[]).unwrap_or_else(|errors| panic!("{:#?}", errors.lines()));
    assert!(config.listener[0].tls.is_some() && config.well_known.client_url.is_some());
    assert_eq!(config.upstream.len(), 1);
}

#[test]
fn an_example_without_a_name_is_given_one() {
    let text = example(server_name!("example.com"));
    assert!(super::named(&text, server_name!("example.net")).is_none());
    let unset = text.replacen("\nserver_name = \"example.com\"", "\n#server_name = \"example.org\"", 1);
    let named = super::named(&unset, server_name!("example.com")).unwrap();
    assert_eq!(named, text);
    assert_eq!(read(&named, &[]).unwrap().server_name, "example.com");
}

#[test]
fn what_another_one_sets_otherwise_is_named() {
    let provider = |secret: &str| {
        format!(
            "[[upstream]]\nid = \"a\"\nname = \"A\"\nissuer = \"https://a.org\"\nclient_id = \"us\"\n\
             client_secret = \"{secret}\"\n"
        )
    };
    let changed = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|text| read(&format!("{LEAST}{text}"), &[]).unwrap());
        one.changed(&other)
    };
    assert!(changed("", "[log]\nlevel = \"info\"\n").is_empty(), "it is the default");
    assert!(changed(&provider("a"), &provider("a")).is_empty());
    assert_eq!(changed(&provider("a"), &provider("b")), ["upstream"]);
    assert_eq!(changed("", &provider("a")), ["upstream"]);
    for (one, other, named) in [
        ("", "[log]\nlevel = \"warn\"\n", "log.level"),
        ("", "[turn]\nshared_secret = \"a\"\n", "turn.shared_secret"),
        ("[turn]\nshared_secret = \"a\"\n", "[turn]\nshared_secret = \"b\"\n", "turn.shared_secret"),
        ("", "[terms]\nurl = \"https://example.org\"\n", "terms.url"),
        ("", "[[listener]]\nbind = \"127.0.0.1:8009\"\n", "listener"),
        ("", "[federation]\ntrusted_ca_files = [\"/a\"]\n", "federation.trusted_ca_files"),
    ] {
        assert_eq!(changed(one, other), [named]);
        assert_eq!(changed(other, one), [named]);
    }
}

/// Writes the example anew if it is out of date, and fails.
#[test]
fn the_example_in_the_tree_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tayberry.toml");
    let current = example(server_name!("example.org"));
    if std::fs::read_to_string(path).unwrap_or_default() != current {
        std::fs::write(path, current).unwrap();
        panic!("{path} was out of date and is written anew: look at it and commit it");
    }
}

fn read_at(path: &Path, text: &str, variables: &[(&str, &str)]) -> Result<Config, super::ConfigErrors> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Source { path, text, environment: &variables.collect::<Environment>(), reads_secrets: true }.parse()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, super::ConfigErrors> {
    read_at(Path::new("/etc/tayberry/tayberry.toml"), text, variables)
}

fn refused(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    read(text, variables).err().unwrap().lines().to_vec()
}

const LEAST: &str = "server_name = \"example.org\"\ndata_dir = \"data\"\n";
