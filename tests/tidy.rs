//! Executes the style of the crate: what each module may name, and what may not land at all.
//!
//! The rules read tokens and paths, so that no comment or literal sets them off and no grouped `use` hides from them.
//! Each rule carries samples that it must refuse, line by line, and samples that it must let pass.

#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// One rule: what it finds in one of all sources, as lines with the reason, and its samples.
///
/// In a sample, a line that ends in `// bad` must be found, and no other.
struct Rule {
    check: fn(&Source, &[Source]) -> Vec<Finding>,
    samples: &'static [(&'static str, &'static str)],
}

type Finding = (usize, String);

/// Lowest first. A module imports from groups before its own; the modules of one group don't know each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["room", "config"],
    &["store", "net"],
    &["service"],
    &["worker", "api"],
    &["http"],
    &["cli"],
    &["main"],
];

/// Folders whose files don't know each other: each is one endpoint, or one reader of the log.
const WALLED: &[&str] = &["api::client", "api::federation", "api::admin", "worker"];

/// Paths, where alone they may stand, and why.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (&["heed", "rusqlite"], &["src/store/"], "the engines are named only under src/store/"),
    (
        &[
            "SystemTime::now",
            "Instant::now",
            "UNIX_EPOCH",
            "MilliSecondsSinceUnixEpoch::now",
            "SecondsSinceUnixEpoch::now",
        ],
        &["src/base/clock.rs"],
        "time is an argument: take a base::clock::Clock",
    ),
    (
        &["getrandom", "rand", "fastrand", "OsRng", "TransactionId::new"],
        &["src/base/rng.rs"],
        "randomness is an argument: take a base::rng::Rng",
    ),
    (&["TcpListener", "UnixListener", "TcpSocket"], &["src/http/", "src/net/"], "only http listens"),
    (
        &["TcpStream", "UdpSocket"],
        &["src/http/", "src/net/"],
        "only net goes out, because it checks where to",
    ),
    (
        &["hyper::client", "hyper_util::client", "reqwest", "ToSocketAddrs", "lookup_host"],
        &["src/net/"],
        "only net goes out, because it checks where to",
    ),
    (&["UnixStream", "UnixDatagram"], &["src/http/", "src/cli/"], "local sockets belong to http and cli"),
    (
        &["spawn_blocking", "block_in_place"],
        &["src/base/blocking.rs"],
        "a simulation has one thread: take base::blocking::run",
    ),
    (&["anyhow"], &["src/cli/"], "errors are typed below cli"),
];

const MAX_LINES: usize = 600;

const RULES: &[Rule] = &[
    Rule {
        check: layers,
        samples: &[
            ("src/room/auth.rs", "//! Doc.\nuse crate::{base::ids,\n store::{View, Store}}; // bad\n"),
            ("src/store/mod.rs", "use super::service; // bad\nuse super::base;\nuse self::tail;\n"),
            ("src/config/a/b.rs", "fn f() { super::super::super::room::f() } // bad\n"),
            ("src/api/mod.rs", "mod inner { use super::super::worker; } // bad\nuse crate::service::App;\n"),
            ("src/room/x.rs", "#[cfg(test)]\nmod tests {\n    use crate::config::Config; // bad\n}\n"),
            ("src/unknown/mod.rs", "use crate::base::ids; // bad\n"),
            ("src/cli/serve.rs", "// use crate::main;\nlet a = \"crate::main\"; use crate::http::serve;\n"),
        ],
    },
    Rule {
        check: walls,
        samples: &[
            ("src/api/client/login.rs", "use super::account::hash; // bad\nuse crate::api::caller::User;\n"),
            ("src/api/client/login.rs", "use crate::api::client::{Shared, account}; // bad\n"),
            (
                "src/api/client/rooms/join.rs",
                "use super::leave;\nuse crate::api::client::account::f; // bad\n",
            ),
            ("src/api/client/mod.rs", "fn routes() { account::add(); self::login::add(); }\n"),
        ],
    },
    Rule {
        check: reserved,
        samples: &[
            (
                "src/service/a.rs",
                "use rusqlite::{Connection}; // bad\nfn f() { heed::open() } // bad\nlet x = b.heed();\n",
            ),
            ("src/room/a.rs", "let t = std::time::Instant::now(); // bad\nuse std::time::Instant;\n"),
            ("src/api/a.rs", "let r#x = 'a'; getrandom::fill(b'\"'); // bad\nlet y = \"getrandom\";\n"),
            (
                "src/worker/a.rs",
                "use tokio::{net::TcpStream, time}; // bad\nuse hyper_util::{rt, client::legacy}; // bad\n",
            ),
            ("src/http/a.rs", "use tokio::net::{TcpListener, TcpStream};\n"),
            ("src/net/a.rs", "fn f<'a>(x: &'a hyper_util::client::Y, r: r#\"rusqlite\"#) {}\n"),
            ("src/store/b.rs", "let reading = tokio::task::spawn_blocking(read); // bad\n"),
            ("tests/it/rig.rs", "use tokio::net::TcpStream;\n"),
        ],
    },
    Rule {
        check: words,
        samples: &[
            (
                "src/room/a.rs",
                concat!("let a = b.unwrap(); // bad\n// TO", "DO: later // bad\n//! FIX", "ME // bad\n"),
            ),
            (
                "src/room/a.rs",
                "#[cfg(test)]\nmod tests {\n fn f() { x.unwrap(); }\n}\nfn g() { y\n.unwrap(); } // bad\n",
            ),
            (
                "src/room/b.rs",
                "#[allow(dead_code)] // bad\n#[expect(dead_code, reason = \"why\")]\nfn f() {}\n",
            ),
            ("tests/it/a.rs", "#[ignore] // bad\nfn f() { x.unwrap(); }\n"),
        ],
    },
    Rule {
        check: opening,
        samples: &[
            ("src/room/a.rs", "use std::fmt; // bad\n"),
            ("src/room/b.rs", "//! Says what it owns.\n"),
        ],
    },
];

fn layers(source: &Source, _: &[Source]) -> Vec<Finding> {
    let rank = |module: &str| LAYERS.iter().position(|group| group.contains(&module));
    let Some(own) = source.module.first() else { return Vec::new() };
    let Some(own_rank) = rank(own) else {
        return vec![(1, format!("`{own}` has no place among the layers"))];
    };
    source
        .paths
        .iter()
        .filter(|path| path.segments[0] == "crate")
        .filter_map(|path| {
            let to = path.segments.get(1)?;
            (to != own && rank(to)? >= own_rank)
                .then(|| (path.line, format!("`{own}` stands below `{to}`, or beside it")))
        })
        .collect()
}

fn walls(source: &Source, all: &[Source]) -> Vec<Finding> {
    let module = source.module.join("::");
    let Some(folder) = WALLED.iter().find(|folder| module.starts_with(&format!("{folder}::"))) else {
        return Vec::new();
    };
    let depth = folder.split("::").count();
    source
        .paths
        .iter()
        .filter(|path| {
            path.segments[0] == "crate" && path.segments[1..].join("::").starts_with(&format!("{folder}::"))
        })
        .filter_map(|path| {
            let to = &path.segments[depth + 1];
            let is_module = all.iter().any(|other| other.module.len() > depth && other.module[depth] == *to);
            (*to != source.module[depth] && is_module)
                .then(|| (path.line, format!("files of `{folder}` don't know each other")))
        })
        .collect()
}

fn reserved(source: &Source, _: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (names, places, reason) in RESERVED {
        if !source.path.starts_with("src/") || places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for path in &source.paths {
            let named = |name: &&str| {
                let name: Vec<&str> = name.split("::").collect();
                path.segments.windows(name.len()).any(|window| window == name)
            };
            if names.iter().any(named) {
                found.push((path.line, reason.to_string()));
            }
        }
    }
    found
}

fn words(source: &Source, _: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if line.contains(word) {
                found.push((number + 1, format!("{word}: what isn't finished doesn't land")));
            }
        }
    }
    for (code, reason) in [
        (&[".", "unwrap", "(", ")"][..], "`expect` states why it can't fail"),
        (&["#", "[", "allow", "("], "`expect` with a reason takes the place of `allow`"),
        (&["#", "[", "ignore"], "a test runs, or it isn't there"),
    ] {
        found.extend(
            source
                .tokens
                .windows(code.len())
                .filter(|window| window.iter().map(|token| token.text.as_str()).eq(code.iter().copied()))
                .filter(|window| code[1] != "unwrap" || !(window[0].in_test || source.is_test()))
                .map(|window| (window[0].line, reason.to_owned())),
        );
    }
    found
}

fn opening(source: &Source, _: &[Source]) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.starts_with("#!"));
    if source.is_test() || first.is_some_and(|line| line.starts_with("//!")) {
        return Vec::new();
    }
    vec![(1, "a file opens with `//!`: what it owns, what it never does".to_owned())]
}

fn length(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| (lines, format!("more than {MAX_LINES} lines: look for the second subject")))
}

#[test]
fn the_crate_is_tidy() {
    let sources = source::all(env!("CARGO_MANIFEST_DIR").as_ref());
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    let mut found = Vec::new();
    for source in &sources {
        let checks = RULES.iter().flat_map(|rule| (rule.check)(source, &sources));
        found
            .extend(checks.chain(length(source)).map(|(line, why)| format!("{}:{line}: {why}", source.path)));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_rule_refuses_its_bad_samples_and_nothing_else() {
    let neighbours = ["account", "login", "rooms"].map(|name| format!("src/api/client/{name}.rs"));
    let neighbours = neighbours.map(|path| Source::parse(&path, ""));
    for Rule { check, samples } in RULES {
        assert!(samples.iter().any(|(_, text)| text.contains("// bad")), "a rule without a bad sample");
        for (path, text) in *samples {
            let mut found: Vec<usize> =
                check(&Source::parse(path, text), &neighbours).into_iter().map(|(line, _)| line).collect();
            found.sort_unstable();
            found.dedup();
            let lines = text.lines().enumerate();
            let expected: Vec<usize> =
                lines.filter(|(_, line)| line.ends_with("// bad")).map(|(n, _)| n + 1).collect();
            assert_eq!(found, expected, "{path}:\n{text}");
        }
    }
}

#[test]
fn a_file_of_more_than_one_sitting_is_refused() {
    assert!(length(&Source::parse("src/a.rs", &"\n".repeat(MAX_LINES))).is_none());
    assert!(length(&Source::parse("src/a.rs", &"\n".repeat(MAX_LINES + 1))).is_some());
}
