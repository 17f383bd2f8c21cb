//! `tayberry user`: the accounts of a server, whether it runs or not.

use std::io::{self, BufRead, Read};

use anyhow::{Context, bail};
use lexopt::prelude::*;

use super::{
    Command, Failure,
    operator::{Operator, Place},
};
use crate::{
    base::{limits, rng::Rng},
    service::operator::{self, Outcome, User},
};

pub(super) const COMMAND: Command = Command {
    name: "user",
    help: "ACTION --config FILE | --data-dir DIR
    Makes accounts, lists them, sets their passwords and ends them, whether the server runs or not.

    create NAME [--admin] [--password-stdin]
    list [--json]
    password NAME [--password-stdin]
    deactivate NAME [--erase]

    --config FILE       the configuration of the server
    --data-dir DIR      instead: the data folder of a `tayberry localserve`
    --admin             the account may administer the server
    --password-stdin    reads the password, one line; without it a random one is printed
    --json              a JSON array instead of lines
    --erase             forgets as much of the person as the protocol allows",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("create, list, password or deactivate must come first".into())),
    };
    let (mut place, mut name) = (Place::default(), None);
    let (mut admin, mut from_stdin, mut json, mut erase) = (false, false, false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("admin") if verb == "create" => admin = true,
            Long("password-stdin") if verb == "create" || verb == "password" => from_stdin = true,
            Long("json") if verb == "list" => json = true,
            Long("erase") if verb == "deactivate" => erase = true,
            Value(value) if verb != "list" && name.is_none() => name = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let named = || name.ok_or_else(|| Failure::Usage("NAME is missing".into()));
    match verb.as_str() {
        "create" => create(named()?, admin, from_stdin, place),
        "list" => list(json, place),
        "password" => set_password(named()?, from_stdin, place),
        "deactivate" => {
            let command = operator::Command::DeactivateUser { name: named()?, erase };
            Operator::at(place)?.run(command)?;
            Ok(())
        }
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

fn create(name: String, admin: bool, from_stdin: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let (password, random) = password(from_stdin)?;
    let command = operator::Command::CreateUser { name, password: Some(password.clone()), admin };
    if let Outcome::User { user_id } = operator.run(command)? {
        println!("{user_id}");
    }
    if random {
        println!("{password}");
    }
    Ok(())
}

fn set_password(name: String, from_stdin: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let (password, random) = password(from_stdin)?;
    operator.run(operator::Command::SetPassword { name, password: password.clone() })?;
    if random {
        println!("{password}");
    }
    Ok(())
}

fn list(json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let mut users: Vec<User> = Vec::new();
    loop {
        let after = users.last().map(|user| user.localpart.clone()).unwrap_or_default();
        match operator.run(operator::Command::ListUsers { after })? {
            Outcome::Users { users: page } if !page.is_empty() => users.extend(page),
            _ => break,
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&users).context("a list of users is JSON")?);
        return Ok(());
    }
    for User { user_id, admin, locked, suspended, deactivated, .. } in &users {
        let marks = [
            (admin, " admin"),
            (locked, " locked"),
            (suspended, " suspended"),
            (deactivated, " deactivated"),
        ];
        let marks: String = marks.iter().filter(|(set, _)| **set).map(|(_, mark)| *mark).collect();
        println!("{user_id}{marks}");
    }
    Ok(())
}

/// The password to set, and whether it is one that nobody knows yet.
fn password(from_stdin: bool) -> anyhow::Result<(String, bool)> {
    if !from_stdin {
        return Ok((Rng::system().text(20, ALPHABET), true));
    }
    let mut line = String::new();
    // One byte more than fits, so that a longer one is refused and not cut, and the end of the line.
    io::stdin().lock().take(limits::PASSWORD_BYTES as u64 + 3).read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("there is no password on the standard input");
    }
    Ok((password.to_owned(), false))
}

/// Without what looks alike.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
