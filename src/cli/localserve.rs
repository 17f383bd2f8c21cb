//! `tayberry localserve`: a server for trying out and for tests, without any configuration. It listens on this machine
//! only, and anybody on it may register.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use lexopt::prelude::*;
use ruma::ServerName;

use super::{Command, Failure, life, log};
use crate::{
    api,
    base::{clock::Clock, rng::Rng},
    config::{Registration, RegistrationMode, SigningKey},
    http::{Bind, BindError, Limits, Listener, Settings},
    service::{app::Parts, signer::signing_key},
    store::{Options, Store},
};

pub(super) const COMMAND: Command = Command {
    name: "localserve",
    help: "[--port 8008] [--data-dir ./tayberry-data]
    Starts a server for trying out: plain HTTP for this machine only, open registration.

    --port PORT       where it listens; its server name is localhost:PORT
    --data-dir DIR    where it keeps everything; made if it isn't there",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let mut port: u16 = 8008;
    let mut dir = PathBuf::from("./tayberry-data");
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("port") => port = arguments.value()?.parse()?,
            Long("data-dir") => dir = arguments.value()?.into(),
            other => return Err(other.unexpected().into()),
        }
    }
    if port == 0 {
        return Err(Failure::Usage("the port is part of the server's name, so it can't be 0".into()));
    }
    log::start(tracing::level_filters::LevelFilter::INFO);
    match serve(port, dir) {
        Err(error) if error.is::<BindError>() => {
            Err(anyhow!("{error}; choose another port with --port").into())
        }
        result => Ok(result?),
    }
}

fn serve(port: u16, dir: PathBuf) -> anyhow::Result<()> {
    let (clock, rng) = (Clock::system(), Rng::system());
    let url = format!("http://localhost:{port}");
    let shown = dir.display().to_string();
    let key_file = dir.join("signing.key");
    let store = Store::open(Options { dir, clock: clock.clone(), rng: rng.clone() })?;
    let key = SigningKey::read_or_make(&key_file, &rng)?;
    let server_name =
        ServerName::parse(format!("localhost:{port}")).context("the port makes no server name")?;
    let parts = Parts {
        server_name,
        client_url: Some(url.clone()),
        registration: Registration { mode: RegistrationMode::Open, shared_secret: None },
        store,
        signing_key: signing_key(&key.version, &key.seed)?,
        clock,
        rng,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let settings = Settings {
        listeners: vec![Listener { bind: Bind::Tcp(address), tls: None }],
        rate_limit: false,
        limits: Limits::default(),
    };
    life::live(settings, parts, api::routes(), || {
        println!("Tayberry answers at {url} and keeps its data in {shown}.");
        println!(
            "Enter {url} as the homeserver in a Matrix client on this machine and make an account there."
        );
        println!("Ctrl-C stops it; nothing that was acknowledged is lost.");
    })
}
