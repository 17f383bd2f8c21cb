//! Where somebody is who pages through what was found.

use std::{fmt, str::FromStr};

use crate::{
    base::{
        ids::{EventNumber, RoomNumber, UserNumber},
        limits,
    },
    service::read::access::ReadError,
};

/// What was told, and what is told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SearchToken {
    /// The tier that is told holds events below this one. What came later was not there when the search began.
    pub(super) below: EventNumber,
    /// How many were found in the tiers before.
    pub(super) counted: u64,
    /// None at the beginning of a tier.
    pub(super) at: Option<At>,
    /// The room and the sender of a group, whose events alone are told.
    pub(super) room: Option<RoomNumber>,
    pub(super) sender: Option<UserNumber>,
}

/// A place in a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// The last event of the tier.
    pub(super) end: EventNumber,
    /// All have been told that don't come behind this one, in the order that was asked for.
    pub(super) weight: u64,
    pub(super) number: EventNumber,
}

/// A group of results.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Room(RoomNumber),
    Sender(UserNumber),
}

impl SearchToken {
    /// The same within a group.
    pub(super) fn within(self, group: Tag) -> Self {
        match group {
            Tag::Room(room) => Self { room: Some(room), ..self },
            Tag::Sender(user) => Self { sender: Some(user), ..self },
        }
    }
}

impl fmt::Display for SearchToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}_{}", self.below.0, self.counted)?;
        if let Some(At { end, weight, number }) = self.at {
            write!(f, "_{}_{weight}_{}", end.0, number.0)?;
        }
        if self.room.is_none() && self.sender.is_none() {
            return Ok(());
        }
        let written = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let (room, sender) = (self.room.map(|room| room.0), self.sender.map(|user| user.0));
        write!(f, "~{}~{}", written(room), written(sender))
    }
}

impl FromStr for SearchToken {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let read = || {
            let mut parts = text.split('~');
            let place = parts.next()?;
            let (room, sender) = (short(parts.next())?, short(parts.next())?);
            if parts.next().is_some() {
                return None;
            }
            let numbers: Option<Vec<u64>> = place.strip_prefix('f')?.split('_').map(number).collect();
            let (below, counted, at) = match numbers?[..] {
                [below, counted] => (below, counted, None),
                [below, counted, end, weight, number] => {
                    (below, counted, Some(At { end: EventNumber(end), weight, number: EventNumber(number) }))
                }
                _ => return None,
            };
            let (room, sender) = (room.map(RoomNumber), sender.map(UserNumber));
            Some(Self { below: EventNumber(below), counted, at, room, sender })
        };
        read().ok_or(ReadError::Token)
    }
}

/// A short number that may be left out.
fn short(text: Option<&str>) -> Option<Option<u32>> {
    match text {
        None | Some("") => Some(None),
        Some(text) => Some(Some(number(text)?.try_into().ok()?)),
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| digits && number <= limits::MAX_INTEGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let at = At { end: EventNumber(3), weight: 8, number: EventNumber(5) };
        for at in [None, Some(at)] {
            for (room, sender) in [(None, None), (Some(7), None), (None, Some(8)), (Some(7), Some(8))] {
                let (room, sender) = (room.map(RoomNumber), sender.map(UserNumber));
                let token = SearchToken { below: EventNumber(9), counted: 2, at, room, sender };
                assert_eq!(token.to_string().parse::<SearchToken>().unwrap(), token);
            }
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "f",
            "f1",
            "f1_",
            "f_1",
            "f1_2_3",
            "f1_2_3_4",
            "f1_2_3_4_5_6",
            "1_2",
            "f+1_2",
            "f1_9007199254740993",
        ] {
            assert!(text.parse::<SearchToken>().is_err(), "{text}");
        }
        for group in ["~x", "~-1", "~4294967296", "~1~1~1", "~~~", "~ü"] {
            assert!(format!("f1_2{group}").parse::<SearchToken>().is_err(), "{group}");
        }
    }
}
