use proptest::{prelude::*, sample::Index};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    serde::{Base64, base64::Standard},
    signatures::sign_json,
};
use serde_json::json;

use super::*;
use crate::{
    base::json::canonical_object,
    room::fixture::{ALICE, BOB, CAROL, Outcome, World, key_pair, tampered, twists, versions},
};

fn body(text: &str) -> serde_json::Value {
    json!({ "msgtype": "m.text", "body": text })
}

#[test]
fn an_event_of_another_format_is_dropped() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let event = world.make(BOB, &[&last], "m.room.message", None, body("x"));
        let broken = tampered(event, "depth", json!("deep"));
        assert!(matches!(
            world.arrive(broken),
            Outcome::Dropped(Dropped::Format(FormatError::Field("depth")))
        ));
    }
}

#[test]
fn a_wrong_or_missing_signature_drops_the_event() {
    let (mut world, last) = World::new("12");
    let event = world.make(BOB, &[&last], "m.room.message", None, body("x"));
    let mut unsigned = event.clone();
    unsigned.remove("signatures");
    assert!(matches!(world.arrive(unsigned), Outcome::Dropped(Dropped::Signature(_))));
    // What redaction keeps is signed; its change is not survived.
    assert!(matches!(world.arrive(tampered(event.clone(), "depth", json!(99))), Outcome::Dropped(_)));
    // Another server's signature is no substitute for the sender's.
    let forged = world.signed(event.clone(), <&UserId>::try_from(ALICE).unwrap());
    assert!(matches!(world.arrive(forged), Outcome::Dropped(_)));
    assert!(matches!(world.arrive(event), Outcome::Accepted));
}

#[test]
fn in_versions_1_and_2_the_server_that_names_an_event_signs_it_too() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let bob = <&UserId>::try_from(BOB).unwrap();
        let mut event = world.make(BOB, &[&last], "m.room.message", None, body("x"));
        event.insert("event_id".to_owned(), "$x:one.example".into());
        let event = world.signed(event, bob);
        let named = ["1", "2"].contains(&version);
        let servers = sign::signers(&event, world.version).unwrap();
        assert_eq!(servers.len(), if named { 2 } else { 1 });
        assert_eq!(verify(event.clone(), &world.keys, world.version).is_ok(), !named);
        let mut event = Object::from(event);
        world.sign(&mut event, <&UserId>::try_from(ALICE).unwrap());
        assert_eq!(
            verify(event.clone(), &world.keys, world.version).unwrap().event_id() == "$x:one.example",
            named
        );
        assert!(matches!(world.arrive(event), Outcome::Accepted));
    }
}

#[test]
fn every_known_key_of_the_server_must_verify_and_unknown_ones_are_skipped() {
    let (mut world, last) = World::new("11");
    let mut event = world.make(BOB, &[&last], "m.room.message", None, body("x"));
    let extra = |event: &mut CanonicalJsonObject, key: &str| {
        let signatures = event.get_mut("signatures").and_then(CanonicalJsonValue::as_object_mut).unwrap();
        let of_server =
            signatures.get_mut("two.example").and_then(CanonicalJsonValue::as_object_mut).unwrap();
        of_server.insert(key.to_owned(), "AAAA".into());
    };
    extra(&mut event, "ed25519:unknown");
    assert!(verify(event.clone(), &world.keys, world.version).is_ok());
    let mut others = world.keys.clone();
    let known = others.get_mut("two.example").unwrap();
    let key = known.remove("ed25519:1").unwrap();
    known.insert("ed25519:other".to_owned(), key);
    assert!(matches!(verify(event.clone(), &others, world.version), Err(Dropped::Signature(_))));
    let known = world.keys["one.example"]["ed25519:1"].clone();
    world.keys.get_mut("two.example").unwrap().insert("ed25519:2".to_owned(), known);
    extra(&mut event, "ed25519:2");
    assert!(matches!(verify(event, &world.keys, world.version), Err(Dropped::Signature(_))));
}

#[test]
fn only_history_may_name_more_events_than_one_may_today() {
    let many = |version: &str, sender: &str, field: &str, count: usize| {
        let (mut world, last) = World::new(version);
        let mut event = world.make(sender, &[&last], "m.room.message", None, body("x"));
        let list = event.get_mut(field).and_then(CanonicalJsonValue::as_array_mut).unwrap();
        let first = list[0].clone();
        list.resize(count, first);
        let event = world.signed(event, <&UserId>::try_from(sender).unwrap());
        let found = verify(event.clone(), &world.keys, world.version);
        assert!(verify_backfilled(event, &world.keys, world.version).is_ok(), "version {version}: {field}");
        found.is_ok()
    };
    for version in versions() {
        for (field, most) in [("prev_events", 20), ("auth_events", 10)] {
            assert!(many(version, BOB, field, most), "version {version}: {field}");
            assert!(!many(version, BOB, field, most + 1), "version {version}: {field}");
        }
    }
}

#[test]
fn content_that_does_not_match_its_hash_is_redacted() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let event = world.make(BOB, &[&last], "m.room.message", None, body("true"));
        let id = world.id_of(&event);
        assert!(matches!(world.arrive(tampered(event, "content", body("false"))), Outcome::Accepted));
        assert_eq!(world.pdu(&id).unwrap().content().get(), "{}");
    }
}

#[test]
fn what_the_origin_says_beside_the_event_is_left_out() {
    let (mut world, last) = World::new("12");
    let event = world.make(BOB, &[&last], "m.room.message", None, body("x"));
    let pdu = verify(tampered(event, "unsigned", json!({ "age": 1 })), &world.keys, world.version).unwrap();
    assert!(!pdu.json().contains("unsigned"));
}

#[test]
fn unknown_events_that_it_names_are_asked_for() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let first = world.make(BOB, &[&last], "m.room.message", None, body("1"));
        let first_id = world.id_of(&first);
        let second = {
            let (mut other, _) = World::new(version);
            other.arrive(first.clone());
            other.make(BOB, &[&first_id], "m.room.message", None, body("2"))
        };
        let Outcome::Needs(missing) = world.arrive(second.clone()) else { panic!("the parent is unknown") };
        assert_eq!(missing, Missing { auth_events: vec![], prev_events: vec![first_id.clone()] });
        assert!(matches!(world.arrive(first), Outcome::Accepted));
        assert!(matches!(world.arrive(second), Outcome::Accepted));
    }
}

#[test]
fn an_outlier_is_no_parent_whose_state_is_known() {
    let (mut world, last) = World::new("11");
    let first = world.make(BOB, &[&last], "m.room.message", None, body("1"));
    let first_id = world.id_of(&first);
    world.outlier(&first);
    let state = world.after(&[&last]);
    let second = world.make_at(BOB, &[&first_id], &state, "m.room.message", None, body("2"));
    assert!(matches!(world.arrive(second), Outcome::Needs(missing) if missing.prev_events == [first_id]));
}

#[test]
fn auth_events_that_do_not_belong_there_reject_it() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let topic = world.accept(ALICE, &[&last], "m.room.topic", Some(""), json!({ "topic": "x" }));
        let event = world.make(BOB, &[&topic], "m.room.message", None, body("x"));
        let bob = <&UserId>::try_from(BOB).unwrap();
        let with_auth = |world: &World, change: &dyn Fn(&mut Vec<CanonicalJsonValue>)| {
            let mut event = event.clone();
            let list = event.get_mut("auth_events").and_then(CanonicalJsonValue::as_array_mut).unwrap();
            change(list);
            world.signed(event, bob)
        };
        let rejected = |outcome: Outcome| match outcome {
            Outcome::Rejected(denied) => denied.rule,
            other => panic!("{other:?}"),
        };
        // Not in the selection for a message.
        let reference = world.pdu(&topic).unwrap().reference(world.version).unwrap();
        let event = with_auth(&world, &|list| list.push(reference.clone()));
        assert_eq!(rejected(world.arrive(event)), Rule::AuthEvents);
        // Twice the same.
        let event = with_auth(&world, &|list| list.push(list[0].clone()));
        assert_eq!(rejected(world.arrive(event)), Rule::AuthEvents);
        // No membership at all.
        let event = with_auth(&world, &|list| list.retain(|id| world.pdu_kind(id) != "m.room.member"));
        assert_eq!(rejected(world.arrive(event)), Rule::Send);
    }
}

#[test]
fn a_rejected_event_rejects_what_it_would_permit_but_not_what_follows_it() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let join = json!({ "membership": "join" });
        let ban = world.accept(ALICE, &[&last], "m.room.member", Some(CAROL), json!({ "membership": "ban" }));
        let rejoin = world.make(CAROL, &[&ban], "m.room.member", Some(CAROL), join);
        let rejoin_id = world.id_of(&rejoin);
        assert!(matches!(world.arrive(rejoin), Outcome::Rejected(denied) if denied.rule == Rule::Member));
        assert!(!world.extremities.contains(&rejoin_id));

        // By the state before her message, she is still banned: the rejected join changed nothing.
        assert_eq!(world.entry(&world.after(&[&rejoin_id]), "m.room.member", CAROL), Some(ban));
        let mut state = world.after(&[&rejoin_id]);
        state.set((StateEventType::RoomMember, CAROL.to_owned()), world.number(&rejoin_id).unwrap().unwrap());
        let message = world.make_at(CAROL, &[&rejoin_id], &state, "m.room.message", None, body("hi"));
        assert!(
            matches!(world.arrive(message), Outcome::Rejected(denied) if denied.rule == Rule::AuthEvents)
        );

        world.accept(BOB, &[&rejoin_id], "m.room.message", None, body("after a rejected event"));
    }
}

#[test]
fn an_event_is_rejected_by_the_state_before_it_though_its_auth_events_permit_it() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let earlier = world.after(&[&last]);
        let kick =
            world.accept(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "leave" }));
        let message = world.make_at(BOB, &[&kick], &earlier, "m.room.message", None, body("still here"));
        assert!(matches!(world.arrive(message), Outcome::Rejected(denied) if denied.rule == Rule::Send));
    }
}

#[test]
fn an_event_beside_a_ban_is_soft_failed_and_no_extremity() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let ban = world.accept(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "ban" }));
        let topic = world.make(BOB, &[&last], "m.room.topic", Some(""), json!({ "topic": "evaded" }));
        let topic_id = world.id_of(&topic);
        assert!(matches!(world.arrive(topic), Outcome::SoftFailed(_)));
        assert_eq!(world.extremities.iter().collect::<Vec<_>>(), [&ban]);
        assert_eq!(world.entry(&world.current, "m.room.topic", ""), None);
        // Whoever did not see the ban first refers to both; that event stands.
        world.accept(ALICE, &[&ban, &topic_id], "m.room.message", None, body("both"));
    }
}

#[test]
fn a_restricted_join_needs_the_signature_of_the_server_that_let_it_in() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let rules = json!({ "join_rule": "restricted", "allow": [] });
        let last = world.accept(ALICE, &[&last], "m.room.join_rules", Some(""), rules);
        let last =
            world.accept(CAROL, &[&last], "m.room.member", Some(CAROL), json!({ "membership": "leave" }));
        let content = json!({ "membership": "join", "join_authorised_via_users_server": ALICE });
        let join = world.make(CAROL, &[&last], "m.room.member", Some(CAROL), content);
        if !world.version.auth().restricted_join_rule {
            assert!(matches!(world.arrive(join), Outcome::Rejected(denied) if denied.rule == Rule::Member));
            continue;
        }
        assert_eq!(sign::signers(&join, world.version).unwrap().len(), 2);
        assert!(matches!(world.arrive(join.clone()), Outcome::Dropped(Dropped::Signature(_))));
        let mut by_nobody = join.clone();
        let content = by_nobody.get_mut("content").and_then(CanonicalJsonValue::as_object_mut).unwrap();
        content.insert("join_authorised_via_users_server".to_owned(), "alice".into());
        let by_nobody = world.signed(by_nobody, <&UserId>::try_from(CAROL).unwrap());
        assert!(matches!(world.arrive(by_nobody), Outcome::Dropped(_)), "{version}");
        let mut join = Object::from(join);
        world.sign(&mut join, <&UserId>::try_from(ALICE).unwrap());
        assert!(matches!(world.arrive(join), Outcome::Accepted));
        // To a message the field means nothing.
        let message = json!({ "join_authorised_via_users_server": ALICE });
        let message = world.make(BOB, &[&last], "m.room.message", None, message);
        assert!(matches!(world.arrive(message), Outcome::Accepted));
    }
}

#[test]
fn a_third_party_invite_stands_by_the_key_of_the_inviter_in_the_state() {
    const DAVE: &str = "@dave:two.example";
    for version in versions() {
        for (inviter, mxid, token, signer, banned, stands) in [
            (ALICE, DAVE, "token", "id.example", false, true),
            (BOB, DAVE, "token", "id.example", false, false),
            (ALICE, CAROL, "token", "id.example", false, false),
            (ALICE, DAVE, "other", "id.example", false, false),
            (ALICE, DAVE, "token", "two.example", false, false),
            (ALICE, DAVE, "token", "x.example", false, true),
            (ALICE, DAVE, "token", "id.example", true, false),
        ] {
            let (mut world, mut last) = World::new(version);
            if banned {
                let ban = json!({ "membership": "ban" });
                last = world.accept(ALICE, &[&last], "m.room.member", Some(DAVE), ban);
            }
            let key = |of| Base64::<Standard>::new(key_pair(of).public_key().to_vec());
            let keys = json!([{ "public_key": key("more.example") }, { "public_key": key("id.example") }]);
            let offer = json!({
                "display_name": "D.", "key_validity_url": "https://id.example", "public_key": key("x.example"),
                "public_keys": if signer == "x.example" { json!([]) } else { keys },
            });
            last = world.accept(ALICE, &[&last], "m.room.third_party_invite", Some("token"), offer);
            let mut signed = canonical_object(&json!({ "mxid": mxid, "token": token }).to_string()).unwrap();
            sign_json("id.example", &key_pair(signer), &mut signed).unwrap();
            let invite = json!({ "display_name": "D.", "signed": signed });
            let content = json!({ "membership": "invite", "third_party_invite": invite });
            let mut invite = world.make(inviter, &[&last], "m.room.member", Some(DAVE), content);
            // Nobody has to sign in the name of the inviter, who made the offer; what names an event is its server.
            if world.version.event_id_is_hash() {
                invite.remove("signatures");
            }
            let outcome = world.arrive(invite);
            let case = format!("version {version}: {inviter} {mxid} {token} {signer} {banned}: {outcome:?}");
            assert_eq!(matches!(outcome, Outcome::Accepted), stands, "{case}");
            assert!(stands || matches!(outcome, Outcome::Rejected(_)), "{case}");
        }
    }
}

#[test]
fn nobody_invites_in_anothers_name_by_what_redaction_takes_away() {
    for version in versions() {
        let (mut world, last) = World::new(version);
        let content = json!({ "membership": "invite" });
        let invite = world.make(ALICE, &[&last], "m.room.member", Some("@dave:two.example"), content);
        let content = json!({ "membership": "invite", "third_party_invite": {} });
        let mut forged = tampered(invite, "content", content);
        forged.remove("signatures");
        let mut forged = Object::from(forged);
        if !world.version.event_id_is_hash() {
            // Whoever names it signs it.
            forged.edit(|fields| fields.insert("event_id".to_owned(), "$x:two.example".into()));
            world.sign(&mut forged, <&UserId>::try_from("@dave:two.example").unwrap());
        }
        let outcome = world.arrive(forged);
        assert!(matches!(outcome, Outcome::Dropped(_) | Outcome::Rejected(_)), "{version}: {outcome:?}");
    }
}

#[test]
fn nobody_comes_or_goes_unsigned_as_if_by_invitation() {
    for version in versions().into_iter().filter(|version| !["1", "2"].contains(version)) {
        for membership in ["join", "leave"] {
            let (mut world, last) = World::new(version);
            let content = json!({ "membership": membership, "third_party_invite": {} });
            let mut forged = world.make(BOB, &[&last], "m.room.member", Some(BOB), content);
            forged.remove("signatures");
            let outcome = world.arrive(forged);
            assert!(matches!(outcome, Outcome::Dropped(_)), "{version}, {membership}: {outcome:?}");
        }
    }
}

#[test]
fn a_room_that_is_not_federated_takes_only_its_own_servers_events() {
    for version in ["11", "12"] {
        let mut world = World::empty(World::new(version).0.version);
        let content = json!({ "room_version": version, "m.federate": false });
        let create = world.accept(ALICE, &[], "m.room.create", Some(""), content);
        let join = json!({ "membership": "join" });
        let alice = world.accept(ALICE, &[&create], "m.room.member", Some(ALICE), join.clone());
        let public = json!({ "join_rule": "public" });
        let rules = world.accept(ALICE, &[&alice], "m.room.join_rules", Some(""), public);
        let bob = world.make(BOB, &[&rules], "m.room.member", Some(BOB), join);
        assert!(matches!(world.arrive(bob), Outcome::Rejected(_)));
    }
}

#[test]
fn a_second_create_event_does_not_become_the_rooms() {
    let (mut world, _) = World::new("11");
    let again = world.make(ALICE, &[], "m.room.create", Some(""), json!({ "room_version": "11", "x": 1 }));
    let current = world.current.clone();
    assert!(matches!(world.arrive(again), Outcome::SoftFailed(denied) if denied.rule == Rule::Create));
    assert_eq!(world.current, current);
}

#[test]
fn in_version_12_creators_stand_above_every_level_and_are_not_listed() {
    let (mut world, last) = World::new("12");
    let listed =
        world.make(ALICE, &[&last], "m.room.power_levels", Some(""), json!({ "users": { ALICE: 100 } }));
    assert!(matches!(world.arrive(listed), Outcome::Rejected(denied) if denied.rule == Rule::PowerLevels));
    let levels = json!({ "users": { BOB: 9_007_199_254_740_991_i64 }, "state_default": 1_000 });
    let last = world.accept(ALICE, &[&last], "m.room.power_levels", Some(""), levels);
    let kick = world.make(BOB, &[&last], "m.room.member", Some(ALICE), json!({ "membership": "leave" }));
    assert!(matches!(world.arrive(kick), Outcome::Rejected(_)));
    world.accept(ALICE, &[&last], "m.room.member", Some(BOB), json!({ "membership": "leave" }));
}

#[test]
fn levels_are_changed_only_from_above() {
    for version in ["10", "11"] {
        let (mut world, last) = World::new(version);
        let levels = |world: &mut World, users: serde_json::Value| {
            let content = json!({ "users": users, "kick": 50 });
            let event = world.make(BOB, &[&last], "m.room.power_levels", Some(""), content);
            matches!(world.arrive(event), Outcome::Accepted)
        };
        assert!(!levels(&mut world, json!({ ALICE: 100, BOB: 51 })), "raised himself");
        assert!(!levels(&mut world, json!({ ALICE: 0, BOB: 50 })), "lowered one above");
        assert!(!levels(&mut world, json!({ ALICE: "100", BOB: 50 })), "a level that is no integer");
        assert!(levels(&mut world, json!({ ALICE: 100, BOB: 50, CAROL: 50 })), "raised one to his own");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_signs_the_room_goes_on(
        twists in twists(),
        version in prop::sample::select(versions()),
        after in prop::collection::vec(any::<Index>(), 12),
    ) {
        let (mut world, last) = World::new(version);
        let mut ends = vec![last];
        for (twist, after) in twists.iter().zip(&after) {
            let last: &OwnedEventId = after.get(&ends);
            let event = world.twisted(last, twist);
            if let Outcome::Accepted = world.arrive(event) {
                ends.push(world.ids().pop().unwrap());
            }
        }
        // Whatever stood, Alice made the room and can still speak there, unless she took that from herself.
        let ends: Vec<_> = world.extremities.iter().cloned().collect();
        let ends: Vec<_> = ends.iter().map(AsRef::as_ref).collect();
        let said = world.make(ALICE, &ends, "m.room.message", None, json!({ "body": "still here" }));
        prop_assert!(!matches!(world.arrive(said), Outcome::Dropped(_) | Outcome::Needs(_)));
    }
}
