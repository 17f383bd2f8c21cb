//! `tayberry user`: the accounts of a server, whether it runs or not.

use std::io::{self, BufRead, Read};

use anyhow::bail;
use lexopt::prelude::*;
use serde::Serialize;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
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
    list
    password NAME [--password-stdin]
    deactivate NAME [--erase]

    --config FILE       the configuration of the server
    --data-dir DIR      instead: the data folder of a `tayberry localserve`
    --admin             the account may administer the server
    --password-stdin    reads the password, one line; without it a random one is printed
    --json              prints JSON instead of lines
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
            Long("json") => json = true,
            Long("erase") if verb == "deactivate" => erase = true,
            Value(value) if verb != "list" && name.is_none() => name = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let named = || name.ok_or_else(|| Failure::Usage("NAME is missing".into()));
    match verb.as_str() {
        "create" => create(named()?, admin, from_stdin, json, place),
        "list" => list(json, place),
        "password" => set_password(named()?, from_stdin, json, place),
        "deactivate" => {
            let command = operator::Command::DeactivateUser { name: named()?, erase };
            Operator::at(place)?.run(command)?;
            tell(&Made::default(), json)
        }
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

fn create(name: String, admin: bool, from_stdin: bool, json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let (password, random) = password(from_stdin)?;
    let command = operator::Command::CreateUser { name, password: Some(password.clone()), admin };
    let Outcome::User { user_id } = operator.run(command)? else { return Ok(()) };
    tell(&Made { user_id: Some(user_id), password: random.then_some(password) }, json)
}

fn set_password(name: String, from_stdin: bool, json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let (password, random) = password(from_stdin)?;
    operator.run(operator::Command::SetPassword { name, password: password.clone() })?;
    tell(&Made { user_id: None, password: random.then_some(password) }, json)
}

/// What was made, and nobody knows yet.
#[derive(Default, Serialize)]
struct Made {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

fn tell(made: &Made, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(made)?);
    }
    for line in made.user_id.iter().chain(&made.password) {
        say!("{line}");
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
        return Ok(print_json(&users)?);
    }
    for User { user_id, admin, locked, suspended, deactivated, .. } in &users {
        let marks = [
            (admin, " admin"),
            (locked, " locked"),
            (suspended, " suspended"),
            (deactivated, " deactivated"),
        ];
        let marks: String = marks.iter().filter(|(set, _)| **set).map(|(_, mark)| *mark).collect();
        say!("{user_id}{marks}");
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
        bail!("there is no password on the standard input: write one line there");
    }
    Ok((password.to_owned(), false))
}

/// Without what looks alike.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
