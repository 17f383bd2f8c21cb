//! `tayberry registration-token`: invitations to register on a server, whether it runs or not.

use std::time::Duration;

use lexopt::prelude::*;
use serde_json::json;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        duration,
    },
    service::operator::{self, Outcome, RegistrationToken},
};

pub(super) const COMMAND: Command = Command {
    name: "registration-token",
    help: "ACTION --config FILE | --data-dir DIR
    Makes invitations to register, lists them and takes them back, whether the server runs or not.

    create [TOKEN] [--uses N] [--expires 7d]
    list
    delete TOKEN

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --uses N          for how many accounts it is good; any number without it
    --expires TIME    for how long it is good, as 30m, 12h or 7d; for ever without it
    --json            prints JSON instead of lines",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("create, list or delete must come first".into())),
    };
    let (mut place, mut token, mut json) = (Place::default(), None, false);
    let (mut uses, mut lifetime) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("uses") if verb == "create" => uses = Some(arguments.value()?.parse_with(number)?),
            Long("expires") if verb == "create" => {
                lifetime = Some(arguments.value()?.parse_with(lasting)?);
            }
            Long("json") => json = true,
            Value(value) if verb != "list" && token.is_none() => token = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match verb.as_str() {
        "create" => {
            let lifetime_s = lifetime.map(|lifetime| lifetime.as_secs());
            let command = operator::Command::CreateRegistrationToken { token, uses, lifetime_s };
            match Operator::at(place)?.run(command)? {
                Outcome::RegistrationToken { token } if json => print_json(&json!({ "token": token }))?,
                Outcome::RegistrationToken { token } => say!("{token}"),
                _ => {}
            }
            Ok(())
        }
        "list" => list(json, place),
        "delete" => {
            let token = token.ok_or_else(|| Failure::Usage("TOKEN is missing".into()))?;
            Operator::at(place)?.run(operator::Command::DeleteRegistrationToken { token })?;
            if json {
                print_json(&json!({}))?;
            }
            Ok(())
        }
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

/// A number of accounts.
fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("how many accounts is a whole number from 1 on")
}

fn lasting(text: &str) -> Result<Duration, &'static str> {
    let time = duration::parse(text)?;
    if time.is_zero() { Err("it would never be good") } else { Ok(time) }
}

fn list(json: bool, place: Place) -> Result<(), Failure> {
    let outcome = Operator::at(place)?.run(operator::Command::ListRegistrationTokens {})?;
    let Outcome::RegistrationTokens { tokens } = outcome else { return Ok(()) };
    if json {
        return Ok(print_json(&tokens)?);
    }
    let now = Clock::system().now();
    for token in &tokens {
        say!("{}", line(token, now));
    }
    Ok(())
}

fn line(token: &RegistrationToken, now: Timestamp) -> String {
    let RegistrationToken { token, uses_allowed, uses, expires_at, valid } = token;
    let of = uses_allowed.map(|allowed| format!(" of {allowed}")).unwrap_or_default();
    let end = match expires_at {
        _ if !valid => ", no longer good".to_owned(),
        Some(at) => format!(", good for {} h", Timestamp(*at).since(now).as_secs() / 3_600),
        None => String::new(),
    };
    format!("{token} used {uses}{of}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_a_token_is_still_good_for() {
        let token = |uses_allowed, expires_at, valid| RegistrationToken {
            token: "tea".into(),
            uses_allowed,
            uses: 1,
            expires_at,
            valid,
        };
        let now = Timestamp(1_000_000);
        assert_eq!(line(&token(None, None, true), now), "tea used 1");
        assert_eq!(line(&token(Some(3), Some(8_200_000), true), now), "tea used 1 of 3, good for 2 h");
        assert_eq!(line(&token(Some(1), None, false), now), "tea used 1 of 1, no longer good");
    }
}
