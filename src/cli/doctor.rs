//! `tayberry doctor`: whether others find and reach a server.

use std::sync::Arc;

use anyhow::anyhow;
use lexopt::prelude::*;
use ruma::OwnedServerName;
use tokio::runtime::Builder;

use super::{Command, Failure, open};
use crate::{
    base::{clock::Clock, rng::Rng},
    net::{Addresses, Client, Federation, NameServers, Settings, client::Limits, doctor},
};

pub(super) const COMMAND: Command = Command {
    name: "doctor",
    help: "SERVER_NAME [--config FILE]
    Looks whether other servers can find and reach one, its own or another, and says what to mend.

    SERVER_NAME       what stands behind the colon in its user ids
    --config FILE     the configuration whose [federation] says what addresses and authorities are good

    It asks as another server would, from where it runs: what a router does to those outside it can't see.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let (mut server, mut config): (Option<OwnedServerName>, _) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => config = Some(arguments.value()?.into()),
            Value(name) if server.is_none() => server = Some(name.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let server = server.ok_or_else(|| Failure::Usage("SERVER_NAME is missing".into()))?;
    let federation = match config {
        Some(_) => Some(open::load(config)?.federation),
        None => None,
    };
    let settings = Settings {
        addresses: Addresses::new(federation.as_ref().is_some_and(|config| config.allow_private_addresses)),
        name_servers: NameServers::System,
        authorities: federation.map(|config| config.trusted_ca_files).unwrap_or_default(),
        limits: Limits::default(),
    };
    let (clock, rng) = (Clock::system(), Rng::system());
    let client = Client::new(settings, clock.clone(), rng.clone());
    let federation = Federation::new(Arc::new(client), true, clock.clone(), rng);
    let mut ills = 0;
    let tell = |doctor::Finding { subject, text, remedy }| {
        say!("{subject:<12}{text}");
        if let Some(remedy) = remedy {
            ills += 1;
            say!("{:<12}=> {remedy}", "");
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(doctor::examine(&federation, &server, &clock, tell));
    match ills {
        0 => {
            say!("Other servers find and reach {server}.");
            Ok(())
        }
        _ => Err(anyhow!("others can't reach {server} as it is").into()),
    }
}
