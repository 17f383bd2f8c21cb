//! `tayberry localserve`: a server for trying out and for tests, without any configuration. It listens on this machine
//! only, and anybody on it may register.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, anyhow};
use lexopt::prelude::*;
use ruma::ServerName;

use super::{Command, Failure, life, log};
use crate::{
    config::{Bind, Config, HttpUrl, Listener, RegistrationMode},
    http::BindError,
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
            Long("port") => port = arguments.value()?.parse_with(number)?,
            Long("data-dir") => dir = arguments.value()?.into(),
            other => return Err(other.unexpected().into()),
        }
    }
    if port == 0 {
        return Err(Failure::Usage("the port is part of the server's name, so it can't be 0".into()));
    }
    let shown = dir.display().to_string();
    let config = config(port, dir)?;
    log::start(&config.log);
    let ready = || {
        say!("Tayberry answers at http://localhost:{port} and keeps its data in {shown}.");
        say!("Enter that address as the homeserver in a Matrix client on this machine and make an account.");
        say!("Ctrl-C stops it; nothing that was acknowledged is lost.");
    };
    match life::live(config, None, ready) {
        Err(error) if error.is::<BindError>() => {
            Err(anyhow!("{error}; choose another port with --port").into())
        }
        result => Ok(result?),
    }
}

fn number(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "a port is a number up to 65535")
}

/// The configuration of a server that nobody configured.
pub(super) fn config(port: u16, data_dir: PathBuf) -> anyhow::Result<Config> {
    let server_name =
        ServerName::parse(format!("localhost:{port}")).context("the port makes no server name")?;
    let mut config = Config::of_defaults(&server_name, &data_dir);
    config.listener = vec![Listener::plain(Bind::Tcp((Ipv4Addr::LOCALHOST, port).into()))];
    config.registration.mode = RegistrationMode::Open;
    config.rate_limit.enabled = false;
    config.federation.enabled = false;
    config.well_known.client_url = HttpUrl::parse(&format!("http://localhost:{port}"));
    Ok(config)
}
