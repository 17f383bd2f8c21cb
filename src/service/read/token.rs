//! Tokens that clients hand back: where they are in the log, and between which events of a room.
//!
//! Every token stands for a moment or for a gap between two places, so one kind serves where the other is expected: a
//! `/sync` token also pages through a room. <https://spec.matrix.org/v1.19/client-server-api/#syncing>

use std::{fmt, str::FromStr};

use super::access::ReadError;
use crate::{
    base::{ids::Position, limits},
    store::events::Place,
};

/// A moment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// All up to this position has been told, but for messages to devices.
    pub told: Position,
    /// Messages to the device have been told up to this position, which is not above the other.
    pub to_device: Position,
    /// What isn't in the log, as who is typing, has been told up to this count of it.
    pub heard: u64,
}

/// Where somebody is who pages through the threads of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadsToken {
    /// The order of the threads is that of this moment, whatever is said in them since.
    pub as_of: Position,
    /// All threads have been told whose last word by then doesn't stand before this place.
    pub before: Place,
}

/// A gap in a room's timeline, by the place that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageToken(pub Place);

impl SyncToken {
    /// The moment at which all up to a position has been told.
    pub fn at(position: Position) -> Self {
        Self { told: position, to_device: position, heard: 0 }
    }
}

impl PageToken {
    /// The moment at which all had been told that stands before the gap, and nothing live behind it.
    pub fn moment(self) -> Position {
        let Place { anchor: Position(anchor), sub } = self.0;
        Position(if sub > 0 { anchor } else { anchor.saturating_sub(1) })
    }

    /// The gap right after an event at a place.
    pub fn after(place: Place) -> Self {
        match place.sub.checked_add(1) {
            Some(sub) => Self(Place { sub, ..place }),
            None => SyncToken::at(place.anchor).into(),
        }
    }
}

impl ThreadsToken {
    /// The beginning, as of a position.
    pub fn as_of(position: Position) -> Self {
        Self { as_of: position, before: PageToken::after(Place::live(position)).0 }
    }
}

impl From<SyncToken> for PageToken {
    fn from(token: SyncToken) -> Self {
        Self(Place { anchor: Position(token.told.0 + 1), sub: i32::MIN })
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.told.0)?;
        if self.to_device != self.told {
            write!(f, "_{}", self.to_device.0)?;
        }
        if self.heard > 0 { write!(f, "~{}", self.heard) } else { Ok(()) }
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.sub {
            // The form that sync gives, where it says the same.
            i32::MIN if self.0.anchor.0 > 0 => SyncToken::at(Position(self.0.anchor.0 - 1)).fmt(f),
            sub => write!(f, "t{}_{sub}", self.0.anchor.0),
        }
    }
}

impl fmt::Display for ThreadsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { as_of, before } = self;
        write!(f, "r{}_{}_{}", as_of.0, before.anchor.0, before.sub)
    }
}

impl FromStr for SyncToken {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let text = text.strip_prefix('s').ok_or(ReadError::Token)?;
        let (text, heard) = text.split_once('~').unwrap_or((text, "0"));
        let heard = position(heard).ok_or(ReadError::Token)?.0;
        let (told, to_device) = text.split_once('_').unwrap_or((text, text));
        let told = position(told).ok_or(ReadError::Token)?;
        let to_device = position(to_device).filter(|to_device| *to_device <= told);
        Ok(Self { told, to_device: to_device.ok_or(ReadError::Token)?, heard })
    }
}

impl FromStr for PageToken {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        // A position of sliding sync has the answer's number behind it.
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let moment =
            text.split_once('.').filter(|(_, serial)| number(serial)).map_or(text, |(moment, _)| moment);
        if let Ok(token) = SyncToken::from_str(moment) {
            return Ok(token.into());
        }
        let (anchor, sub) =
            text.strip_prefix('t').and_then(|rest| rest.split_once('_')).ok_or(ReadError::Token)?;
        let anchor = position(anchor).ok_or(ReadError::Token)?;
        Ok(Self(Place { anchor, sub: sub.parse().map_err(|_| ReadError::Token)? }))
    }
}

impl FromStr for ThreadsToken {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let text = text.strip_prefix('r').ok_or(ReadError::Token)?;
        let (as_of, before) = text.split_once('_').ok_or(ReadError::Token)?;
        let as_of = position(as_of).ok_or(ReadError::Token)?;
        let PageToken(before) = format!("t{before}").parse()?;
        Ok(Self { as_of, before })
    }
}

fn position(text: &str) -> Option<Position> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = text.parse().ok().filter(|_| digits)?;
    (number <= limits::MAX_INTEGER).then_some(Position(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for place in [
            Place { anchor: Position(7), sub: 0 },
            Place { anchor: Position(7), sub: -3 },
            Place { anchor: Position(8), sub: i32::MIN },
        ] {
            let token = PageToken(place);
            assert_eq!(token.to_string().parse::<PageToken>().unwrap(), token);
        }
        let token = ThreadsToken { as_of: Position(9), before: Place { anchor: Position(7), sub: -3 } };
        assert_eq!(token.to_string().parse::<ThreadsToken>().unwrap(), token);
        let token = SyncToken::at(Position(7));
        for token in [token, SyncToken { told: Position(7), to_device: Position(5), heard: 9 }] {
            assert_eq!(token.to_string().parse::<SyncToken>().unwrap(), token);
            assert_eq!(token.to_string().parse::<PageToken>().unwrap(), token.into());
        }
        assert_eq!(token.to_string(), "s7");
        assert_eq!("s7.12".parse::<PageToken>().unwrap(), token.into());
        assert_eq!("s7".parse::<PageToken>().unwrap(), token.into());
        assert_eq!(PageToken::from(token).moment(), token.told);
        assert_eq!(PageToken::after(Place::live(token.told)).moment(), token.told);
        assert!(PageToken::from(token).0 > Place { anchor: Position(7), sub: 0 });
        assert!(PageToken::from(token).0 < Place { anchor: Position(8), sub: -9 });
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "s",
            "7",
            "s-1",
            "s+1",
            "s9007199254740993",
            "t7",
            "t7_",
            "t7_x",
            "t_1",
            "s1_2",
            "s1_",
            "s_1",
            "s2_1_1",
            "s2~",
            "s2~1~1",
            "s2~1_1",
            "s2.",
            "s2.x",
            "s2.1.1",
            "ü",
        ] {
            assert!(text.parse::<PageToken>().is_err(), "{text}");
            assert!(format!("r{text}").parse::<ThreadsToken>().is_err(), "{text}");
        }
        assert!("t7_0".parse::<SyncToken>().is_err());
    }
}
