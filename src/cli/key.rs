//! `tayberry key`: the keys by which other servers know a server, whether it runs or not.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use lexopt::prelude::*;
use ruma::serde::{Base64, base64::Standard};

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
};
use crate::{
    base::{clock::Clock, rng::Rng},
    config::{SigningKey, SigningKeyError},
    service::{
        operator::{self, Outcome, PublicKey},
        own_keys::public,
        signer::signing_key,
    },
};

pub(super) const COMMAND: Command = Command {
    name: "key",
    help: "ACTION --config FILE | --data-dir DIR
    Tells the keys that a server signs with, makes a new one, or takes one over, whether it runs or not.

    list
    rotate
    import FILE [--old 'ed25519:VERSION PUBLIC_KEY EXPIRED_TS']...

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --old KEY         a key that the server gave up before, and when; each of Synapse's `old_signing_keys`
    --json            prints JSON instead of lines

    `import` takes a signing key file of Synapse, or one of Tayberry. If it has several lines, the first is the key to sign
    with. The former key is given up, and listed for what it has signed.

    A line for each key: its id, the public key, and when it was given up. Keep a copy of the new `signing.key`.",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("list, rotate or import must come first".into())),
    };
    let (mut place, mut file, mut old, mut json) = (Place::default(), None::<PathBuf>, Vec::new(), false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("old") if verb == "import" => old.push(arguments.value()?.string()?),
            Long("json") => json = true,
            Value(value) if verb == "import" && file.is_none() => file = Some(value.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let key = match verb.as_str() {
        "list" => None,
        "rotate" => Some(SigningKey::random(&Rng::system())),
        "import" => {
            let file = file.ok_or_else(|| Failure::Usage("FILE is missing".into()))?;
            Some(read(&file, &mut old)?)
        }
        _ => return Err(Failure::Usage(format!("there is no '{verb}'").into())),
    };
    let operator = Operator::about_to_change(place, key.as_ref())?;
    let command = match key {
        None => operator::Command::ListSigningKeys {},
        Some(key) => operator::Command::ChangeSigningKey { line: key.line().expose().clone(), old },
    };
    let Outcome::SigningKeys { keys } = operator.run(command)? else { return Ok(()) };
    if json {
        return Ok(print_json(&keys)?);
    }
    for PublicKey { id, key, expired_ts } in keys {
        let expired = expired_ts.map(|at| format!(" {at}")).unwrap_or_default();
        say!("{id} {key}{expired}");
    }
    Ok(())
}

/// The first key of a file. The others sign no more from now on.
fn read(file: &Path, old: &mut Vec<String>) -> anyhow::Result<SigningKey> {
    let mut keys = SigningKey::read_all(file).map_err(|error| match error {
        SigningKeyError::Form { path } => {
            anyhow!(
                "{} holds no signing keys: each line must be `ed25519 VERSION SEED`; name another",
                path.display()
            )
        }
        error => error.into(),
    })?;
    let now = Clock::system().now();
    for further in keys.drain(1..) {
        let further = public(&signing_key(&further.version, &further.seed)?);
        old.push(format!("{} {} {}", further.id, Base64::<Standard, _>::new(further.key).encode(), now.0));
    }
    Ok(keys.remove(0))
}
