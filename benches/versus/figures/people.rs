//! Search in the directory of users, among as many as a small server ever has.
//!
//! The accounts are made inside this process, without passwords, because hashing those would take the most of an hour.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use http::Method;
use ruma::ServerName;
use serde_json::{Value, json};
use tayberry::{
    base::{
        clock::Clock,
        rng::Rng,
        secret::{Secret, TokenHash},
    },
    config::Config,
    room::version::Version,
    service::{
        App,
        accounts::{self, Registration},
        app::Parts,
        profile, rooms,
        sessions::{self, DeviceRequest},
        signer::signing_key,
        write::{
            membership::Action,
            plan::{NewRoom, Preset},
        },
    },
    store::{Options, Store},
};

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct People;

impl Figure for People {
    const NAME: &'static str = "people";
    const ROWS: &'static [Row] = &[
        Row { what: "user directory search among 20,000 users, p50, ms", goal: Goal::None },
        Row { what: "the same, p99, ms", goal: Goal::AtMost(20.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind != Kind::Tayberry {
            return Ok(Measured { values: vec![None; Self::ROWS.len()], notes: Vec::new() });
        }
        let name = format!("localhost:{}", server.address.port());
        let name = ServerName::parse(name).context("the port makes no server name")?;
        let users = scale.of(USERS).max(40);
        let tokens = fill(&name, &server.folder.join("data"), users).await?;
        server.start().await?;
        let mut searcher = Person::with_token(server, tokens).await?;
        let mut times = Vec::new();
        for n in 0..scale.of(3_000) {
            // Never the first, who searches and is not told of herself.
            let user = 1 + n * 7_919 % (users - 1);
            let term = match n % 6 {
                0 => display_name(user),
                1 => display_name(user).chars().take(3).collect(),
                // What everybody is called, and what nobody is.
                2 => "m".to_owned(),
                3 => format!("member{user}"),
                4 => LAST[user % LAST.len()].to_lowercase(),
                _ => format!("nobody {n}"),
            };
            let stopwatch = Stopwatch::start();
            let answer =
                searcher.call(Method::POST, "user_directory/search", &json!({ "search_term": term })).await?;
            times.push(stopwatch.elapsed_ms());
            let answer: Value = serde_json::from_slice(&answer)?;
            let found = answer["results"].as_array().context("search without results")?;
            ensure!(found.is_empty() == (n % 6 == 5), "{term:?}: {} found", found.len());
        }
        Ok(Measured::from([percentile(&mut times, 0.5), percentile(&mut times, 0.99)]))
    }
}

/// Makes a server of so many users, all of whom are in one room; returns a token of the first.
async fn fill(name: &ServerName, dir: &Path, users: usize) -> Result<String> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let options = Options { dir: dir.to_owned(), clock: clock.clone(), rng: rng.clone() };
    let app = App::new(Parts {
        config: Config::of_defaults(name, dir),
        store: Store::open(options)?,
        signing_key: signing_key("1", &Secret::new([7; 32]))?,
        clock,
        rng,
    });
    app.claim_store().await?;
    let mut first = None;
    let mut room = None;
    for user in 0..users {
        let device = Some(DeviceRequest::default());
        let wanted = Registration { name: Some(format!("member{user}")), device, ..Default::default() };
        let token =
            accounts::register(&app, wanted).await?.log_in.context("no device was asked for")?.tokens.access;
        let session = sessions::authenticate(&app, TokenHash::of(token.expose()), None).await?;
        profile::set_field(&app, session.number, "displayname", display_name(user).into()).await?;
        match &room {
            None => {
                room =
                    Some(rooms::create(&app, &session, NewRoom::new(Version::DEFAULT, Preset::Public)).await?)
            }
            Some(room) => rooms::act(&app, &session, room, Action::Join, None).await?,
        }
        first.get_or_insert(token);
    }
    app.store.close();
    Ok(first.context("there are users")?.expose().clone())
}

fn display_name(user: usize) -> String {
    let (first, last) = (FIRST[user % FIRST.len()], LAST[user / FIRST.len() % LAST.len()]);
    format!("{first} {last} {}", user / FIRST.len() / LAST.len())
}

const USERS: usize = 20_000;
const FIRST: &[&str] = &[
    "Alice", "Bjørn", "Chloé", "Dmitri", "Édith", "Fatıma", "Gül", "Hélène", "Ines", "José", "Karel",
    "Łukasz", "María", "Noël", "Olga", "Přemysl", "Quentin", "René", "Søren", "Théo", "Ursula", "Věra",
    "Wout", "Xenia", "Yusuf", "Zoë",
];
const LAST: &[&str] = &[
    "Ångström",
    "Brontë",
    "Castañeda",
    "Dvořák",
    "Eriksson",
    "Fernández",
    "García",
    "Hämäläinen",
    "Ibsen",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Müller",
    "Novák",
    "Österberg",
    "Petrov",
    "Quispe",
    "Rössler",
    "Smith",
    "Tremblay",
];
