//! `tayberry room`: the rooms of a server, whether it runs or not.

use lexopt::prelude::*;

use super::{
    Command, Failure,
    operator::{Operator, Place, print_json},
};
use crate::service::operator::{self, ListedRoom, Outcome, Room};

pub(super) const COMMAND: Command = Command {
    name: "room",
    help: "ACTION --config FILE | --data-dir DIR
    Lists the rooms that a server knows, or tells about one, whether the server runs or not.

    list
    show ROOM         by its id, or by an alias of this server

    --config FILE     the configuration of the server
    --data-dir DIR    instead: the data folder of a `tayberry localserve`
    --json            prints JSON instead of lines",
    run,
};

fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    let verb = match arguments.next()? {
        Some(Value(verb)) => verb.string()?,
        _ => return Err(Failure::Usage("list or show must come first".into())),
    };
    let (mut place, mut room, mut json) = (Place::default(), None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => place.config = Some(arguments.value()?.into()),
            Long("data-dir") => place.data_dir = Some(arguments.value()?.into()),
            Long("json") => json = true,
            Value(value) if verb == "show" && room.is_none() => room = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match verb.as_str() {
        "list" => list(json, place),
        "show" => show(room.ok_or_else(|| Failure::Usage("ROOM is missing".into()))?, json, place),
        _ => Err(Failure::Usage(format!("there is no '{verb}'").into())),
    }
}

fn list(json: bool, place: Place) -> Result<(), Failure> {
    let operator = Operator::at(place)?;
    let mut rooms: Vec<ListedRoom> = Vec::new();
    loop {
        let after = rooms.last().map(|room| room.room_id.clone());
        match operator.run(operator::Command::ListRooms { after })? {
            Outcome::Rooms { rooms: page } if !page.is_empty() => rooms.extend(page),
            _ => break,
        }
    }
    if json {
        return Ok(print_json(&rooms)?);
    }
    for room in &rooms {
        say!("{}", printable(&line(room)));
    }
    Ok(())
}

fn show(room: String, json: bool, place: Place) -> Result<(), Failure> {
    let outcome = Operator::at(place)?.run(operator::Command::ShowRoom { room })?;
    let Outcome::Room { room } = outcome else { return Ok(()) };
    if json {
        return Ok(print_json(&room)?);
    }
    for (what, text) in description(&room) {
        say!("{what:<12}{}", printable(&text));
    }
    Ok(())
}

fn line(room: &ListedRoom) -> String {
    let ListedRoom { room_id, name, canonical_alias, joined, .. } = room;
    let alias = canonical_alias.as_ref().map(|alias| format!(" {alias}")).unwrap_or_default();
    let name = name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    format!("{room_id}{alias}{name} joined {joined}")
}

/// What is told of a room, line by line; what it doesn't have is left out.
fn description(room: &Room) -> Vec<(&'static str, String)> {
    let ListedRoom { room_id, version, name, canonical_alias, joined, invited, newest } = &room.listed;
    let aliases = room.aliases.iter().filter(|alias| Some(*alias) != canonical_alias.as_ref());
    let quoted = |text: &String| format!("\"{text}\"");
    let lines = [
        ("room", Some(room_id.to_string())),
        ("alias", canonical_alias.as_ref().map(ToString::to_string)),
        ("name", name.as_ref().map(quoted)),
        ("topic", room.topic.as_ref().map(quoted)),
        ("version", Some(version.clone())),
        ("join rule", room.join_rule.clone()),
        ("history", room.history_visibility.clone()),
        ("encryption", Some(room.encryption.clone().unwrap_or_else(|| "none".into()))),
        ("joined", Some(joined.to_string())),
        ("invited", Some(invited.to_string())),
        ("state", Some(format!("{} entries, {} extremities", room.state, room.extremities))),
        ("newest", Some(format!("position {newest}"))),
    ];
    let lines = lines.into_iter().filter_map(|(what, text)| Some((what, text?)));
    let aliases = aliases.map(|alias| ("alias", alias.to_string()));
    lines.chain(aliases).chain(room.members.iter().map(|member| ("member", member.clone()))).collect()
}

/// What people wrote, with nothing in it that a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_a_room_is() {
        let mut room = ListedRoom {
            room_id: ruma::room_id!("!a:x").to_owned(),
            version: "12".into(),
            name: Some("tea\u{1b}[2J".into()),
            canonical_alias: Some(ruma::room_alias_id!("#tea:x").to_owned()),
            joined: 2,
            invited: 0,
            newest: 9,
        };
        assert_eq!(printable(&line(&room)), "!a:x #tea:x \"tea\u{fffd}[2J\" joined 2");
        (room.name, room.canonical_alias) = (None, None);
        assert_eq!(line(&room), "!a:x joined 2");
    }
}
