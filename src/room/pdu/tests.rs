use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::*;
use crate::base::json::canonical_object;

fn version(id: &str) -> Version {
    Version::of(&RoomVersionId::try_from(id).unwrap()).unwrap()
}

fn message() -> Value {
    json!({
        "type": "m.room.message", "sender": "@a:one.example", "room_id": "!r:one.example",
        "origin_server_ts": 1, "depth": 2, "prev_events": ["$p"], "auth_events": ["$q"],
        "content": { "body": "x" }, "hashes": { "sha256": "x" },
    })
}

/// The same in the format of a version.
fn message_of(version: Version) -> Value {
    let mut event = message();
    if version.references_are_pairs() {
        event["event_id"] = json!("$e:one.example");
        event["prev_events"] = json!([["$p:one.example", { "sha256": "x" }]]);
        event["auth_events"] = json!([["$q:one.example", { "sha256": "x" }]]);
    }
    event
}

fn parse(event: &Value, id: &str) -> Result<Pdu, FormatError> {
    Pdu::parse(&Object::parse(&event.to_string()).unwrap(), version(id))
}

fn with(field: &str, value: Value) -> Value {
    let mut event = message();
    event[field] = value;
    event
}

#[test]
fn the_id_is_what_the_version_says_and_survives_a_round_trip() {
    for version in Version::all() {
        let event = message_of(version);
        let pdu = parse(&event, version.id().as_str()).unwrap();
        let strict = canonical_object(&event.to_string()).unwrap();
        let hash = ruma::signatures::reference_hash(&strict, version.rules()).unwrap();
        assert_eq!(reference_hash(&pdu.object(), version).unwrap(), hash);
        let named = ["1", "2"].contains(&version.id().as_str());
        let expected = if named { "$e:one.example".to_owned() } else { format!("${hash}") };
        assert_eq!(pdu.event_id().as_str(), expected);
        let again = Pdu::stored(pdu.event_id().to_owned(), pdu.json(), false).unwrap();
        assert_eq!(again.json(), pdu.json());
        assert_eq!(again.content().get(), r#"{"body":"x"}"#);
        assert_eq!((again.depth(), again.prev_events().len()), (2, 1));
    }
}

#[test]
fn each_version_has_its_format_and_no_other() {
    let of = |id: &str| message_of(version(id));
    for version in Version::all() {
        let id = version.id().as_str();
        let (own, foreign) = if version.references_are_pairs() { ("2", "3") } else { ("3", "2") };
        assert!(parse(&of(own), id).is_ok(), "{id}");
        for field in ["prev_events", "auth_events"] {
            let mut event = of(own);
            event[field] = of(foreign)[field].clone();
            assert_eq!(parse(&event, id).unwrap_err(), FormatError::Field(field), "{id}");
        }
    }
    for bad in [json!(null), json!("$e"), json!("e:one.example"), json!(1)] {
        let mut event = of("1");
        event["event_id"] = bad;
        assert_eq!(parse(&event, "1").unwrap_err(), FormatError::Field("event_id"));
    }
    for bad in [json!(["$p:one.example"]), json!(["$p:x", {}, {}]), json!([{}, "$p:x"]), json!([])] {
        let mut event = of("1");
        event["prev_events"] = json!([bad]);
        assert_eq!(parse(&event, "1").unwrap_err(), FormatError::Field("prev_events"));
    }
}

#[test]
fn numbers_are_free_up_to_version_5_and_counted_where_the_rules_read_them() {
    let fraction = json!({ "body": "x", "n": 1.5, "large": u64::MAX });
    for version in Version::all() {
        let id = version.id().as_str();
        let strict = !["1", "2", "3", "4", "5"].contains(&id);
        let with = |field: &str, value: Value| {
            let mut event = message_of(version);
            event[field] = value;
            parse(&event, id)
        };
        let found = with("content", fraction.clone());
        if strict {
            assert_eq!(found.unwrap_err(), FormatError::Number);
            assert_eq!(with("depth", json!(limits::MAX_INTEGER + 1)).unwrap_err(), FormatError::Number);
            assert!(with("depth", json!(limits::MAX_INTEGER)).is_ok());
            continue;
        }
        let pdu = found.unwrap();
        assert_eq!(pdu.content().get(), r#"{"body":"x","large":18446744073709551615,"n":1.5}"#);
        assert_eq!(pdu.object().text(), pdu.json());
        assert_eq!(with("depth", json!(i64::MAX)).unwrap().depth(), i64::MAX.unsigned_abs());
        assert_eq!(
            with("depth", json!(i64::MAX.unsigned_abs() + 1)).unwrap_err(),
            FormatError::Field("depth")
        );
        assert_eq!(with("depth", json!(1.5)).unwrap_err(), FormatError::Field("depth"));
        let late = with("origin_server_ts", json!(i64::MAX)).unwrap();
        assert_eq!(u64::from(late.origin_server_ts().get()), limits::MAX_INTEGER);
    }
}

#[test]
fn unsigned_and_signatures_do_not_touch_the_id() {
    let plain = parse(&message(), "12").unwrap();
    let mut event = with("signatures", json!({ "one.example": { "ed25519:1": "x" } }));
    event["unsigned"] = json!({ "age": 3 });
    assert_eq!(parse(&event, "12").unwrap().event_id(), plain.event_id());
    assert_ne!(parse(&with("depth", json!(3)), "12").unwrap().event_id(), plain.event_id());
}

#[test]
fn a_create_event_of_version_12_names_no_room() {
    let mut create = message();
    create.as_object_mut().unwrap().remove("room_id");
    assert_eq!(parse(&create, "12").unwrap_err(), FormatError::Field("room_id"));
    create["type"] = json!("m.room.create");
    assert_eq!(parse(&create, "11").unwrap_err(), FormatError::Field("room_id"));
    let pdu = parse(&create, "12").unwrap();
    assert_eq!(pdu.room_id().strip_sigil(), pdu.event_id().as_str().trim_start_matches('$'));
    assert_eq!(Event::room_id(&pdu), None);

    let mut child = message();
    child["room_id"] = json!(pdu.room_id());
    child["auth_events"] = json!([pdu.event_id()]);
    assert_eq!(parse(&child, "12").unwrap_err(), FormatError::CreateInAuthEvents);
    assert!(parse(&child, "11").is_ok());
}

#[test]
fn sizes_are_bounded_to_the_byte() {
    for field in ["type", "state_key"] {
        let wide = "é".repeat(127);
        assert!(parse(&with(field, json!(format!("{wide}a"))), "11").is_ok());
        let error = parse(&with(field, json!(format!("{wide}aa"))), "11").unwrap_err();
        assert_eq!(error, FormatError::Long(field));
    }
    let user = |length: usize| json!(format!("@{}:one.example", "a".repeat(length - 13)));
    assert!(parse(&with("sender", user(255)), "11").is_ok());
    assert_eq!(parse(&with("sender", user(256)), "11").unwrap_err(), FormatError::Long("sender"));

    let room = |length: usize| json!(format!("!{}:one.example", "r".repeat(length - 13)));
    assert!(parse(&with("room_id", room(255)), "11").is_ok());
    assert_eq!(parse(&with("room_id", room(256)), "11").unwrap_err(), FormatError::Long("room_id"));
    let mut named = message_of(version("1"));
    named["event_id"] = json!(format!("${}:one.example", "e".repeat(242)));
    assert!(parse(&named, "1").is_ok());
    named["event_id"] = json!(format!("${}:one.example", "e".repeat(243)));
    assert_eq!(parse(&named, "1").unwrap_err(), FormatError::Long("event_id"));

    let spare = limits::EVENT_BYTES - parse(&message(), "11").unwrap().json().len() + 1;
    let body = |length: usize| with("content", json!({ "body": "x".repeat(length) }));
    assert_eq!(parse(&body(spare), "11").unwrap().json().len(), limits::EVENT_BYTES);
    assert_eq!(parse(&body(spare + 1), "11").unwrap_err(), FormatError::Large);
}

#[test]
fn references_are_bounded() {
    let ids = |count: usize| json!(vec!["$x"; count]);
    for (field, most) in [("prev_events", 20), ("auth_events", 10)] {
        let counts = |count| parse(&with(field, ids(count)), "10").unwrap().check_counts();
        assert_eq!(counts(most), Ok(()));
        assert_eq!(counts(most + 1), Err(FormatError::Many(field)));
    }
}

#[test]
fn malformed_fields_are_named() {
    for (field, bad) in [
        ("type", json!(1)),
        ("sender", json!("alice")),
        ("state_key", json!(null)),
        ("room_id", json!("r")),
        ("depth", json!(-1)),
        ("depth", json!("1")),
        ("origin_server_ts", json!(null)),
        ("content", json!([])),
        ("prev_events", json!({})),
        ("prev_events", json!([["$a", {}]])),
        ("auth_events", json!(["a"])),
    ] {
        assert_eq!(parse(&with(field, bad), "12").unwrap_err(), FormatError::Field(field), "{field}");
    }
}
