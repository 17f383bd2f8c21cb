//! Events that are told to everybody in their room for a while, whatever else happens there.
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pdu::Pdu;
use crate::base::clock::Timestamp;

/// The field of an event that says so, beside its content. A redaction takes it away.
pub const FIELD: &str = "msc4354_sticky";

/// For how long an event is sticky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sticky {
    pub duration_ms: u32,
}

impl Sticky {
    /// None if that is too long.
    pub fn new(duration_ms: u64) -> Option<Self> {
        let duration_ms = u32::try_from(duration_ms).ok().filter(|duration_ms| *duration_ms <= MOST_MS)?;
        Some(Self { duration_ms })
    }

    /// What an event says of itself; none if it says nothing that counts.
    pub fn of(event: &Pdu) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields {
            msc4354_sticky: Sticky,
        }
        // Hardly any has it.
        let fields: Fields = match event.json().contains(FIELD) {
            true => serde_json::from_str(event.json()).ok()?,
            false => return None,
        };
        Self::new(fields.msc4354_sticky.duration_ms.into())
    }

    /// Until when an event is sticky that says to have been sent at a time, and was received at another.
    pub fn end(self, sent: Timestamp, received: Timestamp) -> Timestamp {
        sent.min(received).plus(Duration::from_millis(self.duration_ms.into()))
    }
}

/// An hour.
const MOST_MS: u32 = 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use ruma::event_id;
    use serde_json::{Value, json};

    use super::*;

    fn of(sticky: Value) -> Option<u32> {
        let event = json!({
            "type": "m.rtc.member", "sender": "@a:x", "room_id": "!r:x", "origin_server_ts": 1, "depth": 1,
            "prev_events": [], "auth_events": [], "content": {"msc4354_sticky": 1}, "msc4354_sticky": sticky,
        });
        let event = Pdu::stored(event_id!("$e").to_owned(), &event.to_string(), false).unwrap();
        Sticky::of(&event).map(|sticky| sticky.duration_ms)
    }

    #[test]
    fn a_duration_is_a_whole_number_of_milliseconds_up_to_an_hour() {
        assert_eq!(of(json!({"duration_ms": 0})), Some(0));
        assert_eq!(of(json!({"duration_ms": 3_600_000, "more": 1})), Some(3_600_000));
        for none in [
            json!({"duration_ms": 3_600_001}),
            json!({"duration_ms": -1}),
            json!({"duration_ms": 1.5}),
            json!({"duration_ms": "1"}),
            json!({"duration_ms": 10_000_000_000_u64}),
            json!({}),
            json!(5),
            json!(null),
        ] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn nothing_is_sticky_because_it_says_to_be_of_the_future() {
        let sticky = Sticky { duration_ms: 1_000 };
        assert_eq!(sticky.end(Timestamp(5_000), Timestamp(9_000)), Timestamp(6_000));
        assert_eq!(sticky.end(Timestamp(50_000), Timestamp(9_000)), Timestamp(10_000));
    }
}
