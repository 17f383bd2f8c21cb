use std::{cell::Cell, collections::BTreeSet, path::Path};

use ruma::{OwnedEventId, room_alias_id, serde::Raw, server_name};
use serde_json::{Value, json};

use super::{
    append::WriteError,
    create::batches,
    fixture::{ALICE, BOB, CAROL, Server, draft, new_room, object, owned, user, version},
    member::Profile,
    membership::{Action, forget},
    plan::{NewRoom, Preset, plan},
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        ids::DeviceNumber,
        limits,
        rng::Rng,
    },
    config::Config,
    room::{
        auth::Rule,
        build::Draft,
        fixture::{key_pair, versions},
    },
    service::{
        App,
        app::Parts,
        read::{
            access::Access,
            reader::{Onlooker, Reach, Reader},
        },
    },
    store::events::{Endpoint, Membership, RelationKind, TransactionIdentity},
};

fn invite(id: &str) -> Action {
    Action::Invite(owned(id))
}

fn denied(result: Result<impl std::fmt::Debug, WriteError>) -> Rule {
    match result {
        Err(WriteError::Denied(denied)) => denied.rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_room_begins_with_what_was_planned() {
    for id in versions() {
        let mut server = Server::new();
        let alias = "#pub:one.example".try_into().unwrap();
        let wanted = NewRoom {
            alias: Some(alias),
            name: Some("Pub".to_owned()),
            invite: vec![owned(BOB)],
            ..new_room(id, Preset::Private)
        };
        let room = server.create(wanted).unwrap();
        let record = server.record(room);
        assert_eq!((record.version, record.joined, record.invited), (version(id), 1, 1));
        assert_eq!(record.extremities.len(), 1);
        assert_eq!(server.membership(room, ALICE), Some(Membership::Join));
        assert_eq!(server.membership(room, BOB), Some(Membership::Invite));
        let create = server.state(room, "m.room.create", "").unwrap();
        let room_id = server.room_id(room);
        assert_eq!(create.room_id(), room_id);
        assert_eq!(room_id.server_name().is_none(), id == "12");
        assert_eq!(server.state(room, "m.room.name", "").unwrap().content().get(), r#"{"name":"Pub"}"#);
        let alias = server.read(|view| view.alias(room_alias_id!("#pub:one.example")));
        assert_eq!(alias.map(|(room, _)| room), Some(room));
    }
}

#[test]
fn two_equal_rooms_of_one_moment_are_two_rooms() {
    let mut server = Server::new();
    let one = server.create(new_room("12", Preset::Private)).unwrap();
    let two = server.create(new_room("12", Preset::Private)).unwrap();
    assert_ne!(one, two);
}

#[test]
fn an_alias_names_one_room() {
    let mut server = Server::new();
    let wanted =
        NewRoom { alias: Some("#pub:one.example".try_into().unwrap()), ..new_room("12", Preset::Private) };
    server.create(wanted.clone()).unwrap();
    assert!(matches!(server.create(wanted), Err(WriteError::AliasTaken)));
}

#[test]
fn levels_that_lock_the_creator_out_make_no_room() {
    let mut server = Server::new();
    let power_levels = object(&json!({ "users": { ALICE: 10 } }));
    let wanted = NewRoom { power_levels, name: Some("x".to_owned()), ..new_room("11", Preset::Private) };
    assert_eq!(denied(server.create(wanted)), Rule::Send);
    let power_levels = object(&json!({ "users": { ALICE: 100 } }));
    let wanted = NewRoom { power_levels, ..new_room("12", Preset::Private) };
    assert_eq!(denied(server.create(wanted)), Rule::PowerLevels);
}

#[test]
fn a_large_plan_is_cut_into_jobs() {
    let large = draft("org.example.large", Some(""), json!({ "x": "x".repeat(40_000) }));
    let small = draft("org.example.small", Some(""), json!({}));
    let sizes = |drafts: Vec<Draft>| batches(drafts).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(vec![small.clone(); 10]), [10]);
    assert_eq!(sizes(vec![small.clone(); limits::JOB_EVENTS + 1]), [limits::JOB_EVENTS, 1]);
    assert_eq!(sizes(vec![large.clone(), large.clone(), small, large]), [1, 2, 1]);
}

#[test]
fn the_same_request_is_carried_out_once() {
    for id in versions() {
        let mut server = Server::new();
        let (room, other) = (server.public_room(id), server.public_room(id));
        let request = |device, endpoint, id: &str| {
            Some(TransactionIdentity { device: DeviceNumber(device), endpoint, id: id.to_owned() })
        };
        let message = || draft("m.room.message", None, json!({ "body": "once" }));
        let sent = |room, request| server.send(room, BOB, message(), request).unwrap();
        let first = sent(room, request(1, Endpoint::Send, "t"));
        assert_eq!(sent(room, request(1, Endpoint::Send, "t")), first);
        let others: BTreeSet<OwnedEventId> = [
            sent(room, request(2, Endpoint::Send, "t")),
            sent(room, request(1, Endpoint::Send, "u")),
            sent(other, request(1, Endpoint::Send, "t")),
            sent(room, None),
            first,
        ]
        .into();
        assert_eq!(others.len(), 5, "another device, id or room is another request");
    }
}

#[test]
fn each_event_follows_the_last_one() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let first = server.say(room, BOB, "one");
    let second = server.say(room, ALICE, "two");
    let event = server.event(room, &second);
    assert_eq!(event.pdu.prev_events(), [first]);
    assert_eq!(server.record(room).extremities, [event.number]);
}

#[test]
fn state_that_would_not_change_is_not_sent_again() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let topic = |text: &str| draft("m.room.topic", Some(""), json!({ "topic": text }));
    let first = server.send(room, ALICE, topic("x"), None).unwrap();
    let count = server.count(room);
    assert_eq!(server.send(room, ALICE, topic("x"), None).unwrap(), first);
    assert_eq!(server.count(room), count);
    assert_ne!(server.send(room, ALICE, topic("y"), None).unwrap(), first);
    assert_eq!(denied(server.send(room, BOB, topic("y"), None)), Rule::Send);
}

#[test]
fn only_members_send() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let message = || draft("m.room.message", None, json!({}));
    assert_eq!(denied(server.send(room, "@x:one.example", message(), None)), Rule::Send);
    server.act(room, BOB, &Action::Leave).unwrap();
    assert_eq!(denied(server.send(room, BOB, message(), None)), Rule::Send);
}

#[test]
fn a_client_cannot_vouch_for_itself() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let content = json!({
        "membership": "join", "displayname": "Bob", "join_authorised_via_users_server": ALICE,
        "third_party_invite": {},
    });
    server.send(room, BOB, draft("m.room.member", Some(BOB), content), None).unwrap();
    let member = server.state(room, "m.room.member", BOB).unwrap();
    assert_eq!(member.content().get(), r#"{"displayname":"Bob","membership":"join"}"#);
}

#[test]
fn a_redaction_takes_effect_with_the_level_or_for_ones_own() {
    for id in versions() {
        let mut server = Server::new();
        let room = server.public_room(id);
        let of_bob = server.say(room, BOB, "secret");
        let redaction = |target: &OwnedEventId| Draft {
            redacts: Some(target.clone()),
            ..draft("m.room.redaction", None, json!({}))
        };
        let by = server.send(room, ALICE, redaction(&of_bob), None).unwrap();
        assert_eq!(server.event(room, &of_bob).header.redacted_by, Some(server.event(room, &by).number));

        // As `/send` takes it, in every version.
        let of_alice = server.say(room, ALICE, "mine");
        let in_content = draft("m.room.redaction", None, json!({ "redacts": of_alice }));
        server.send(room, ALICE, in_content, None).unwrap();
        assert!(server.event(room, &of_alice).header.redacted_by.is_some());

        // Other servers would let one user of a server redact what another said.
        assert_eq!(denied(server.send(room, BOB, redaction(&of_alice), None)), Rule::Member);
        let own = server.say(room, BOB, "mine");
        server.send(room, BOB, redaction(&own), None).unwrap();
        assert!(server.event(room, &own).header.redacted_by.is_some());

        let unknown = redaction(&"$unknown".try_into().unwrap());
        assert!(matches!(server.send(room, ALICE, unknown, None), Err(WriteError::UnknownEvent)));
        let nothing = draft("m.room.redaction", None, json!({}));
        assert!(matches!(server.send(room, ALICE, nothing, None), Err(WriteError::Content(_))));
    }
}

#[test]
fn too_large_an_event_is_refused() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let large = draft("m.room.message", None, json!({ "body": "x".repeat(limits::EVENT_BYTES - 100) }));
    assert!(matches!(server.send(room, ALICE, large, None), Err(WriteError::TooLarge)));
    let long = draft(&"t".repeat(256), None, json!({}));
    assert!(matches!(server.send(room, ALICE, long, None), Err(WriteError::TooLarge)));
}

#[test]
fn joining_and_leaving_twice_is_no_error() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let count = server.count(room);
    server.act(room, BOB, &Action::Join).unwrap();
    assert_eq!(server.count(room), count);
    server.act(room, BOB, &Action::Leave).unwrap();
    server.act(room, BOB, &Action::Leave).unwrap();
    assert_eq!((server.count(room), server.membership(room, BOB)), (count + 1, Some(Membership::Leave)));
    assert_eq!(denied(server.act(room, "@x:one.example", &Action::Leave)), Rule::Member);
}

#[test]
fn a_private_room_takes_whom_it_invited() {
    for id in versions() {
        let mut server = Server::new();
        let room = server.create(new_room(id, Preset::Private)).unwrap();
        assert_eq!(denied(server.act(room, BOB, &Action::Join)), Rule::Member);
        server.act(room, ALICE, &invite(BOB)).unwrap();
        server.act(room, BOB, &Action::Join).unwrap();
        assert_eq!(server.membership(room, BOB), Some(Membership::Join));
        assert_eq!(denied(server.act(room, ALICE, &invite(BOB))), Rule::Member, "he is in it");
        assert!(matches!(server.act(room, ALICE, &invite("@x:two.example")), Err(WriteError::Remote)));
    }
}

#[test]
fn kicks_bans_and_unbans_need_their_target_to_be_what_they_end() {
    for id in versions() {
        let mut server = Server::new();
        let room = server.public_room(id);
        let stranger = "@x:one.example";
        assert_eq!(denied(server.act(room, ALICE, &Action::Kick(owned(stranger)))), Rule::Member);
        assert_eq!(denied(server.act(room, ALICE, &Action::Unban(owned(BOB)))), Rule::Member);
        assert_eq!(denied(server.act(room, BOB, &Action::Kick(owned(CAROL)))), Rule::Member, "no power");
        assert_eq!(denied(server.act(room, BOB, &Action::Ban(owned(ALICE)))), Rule::Member);
        server.act(room, ALICE, &Action::Kick(owned(BOB))).unwrap();
        assert_eq!(server.membership(room, BOB), Some(Membership::Leave));
        server.act(room, BOB, &Action::Join).unwrap();
        server.act(room, ALICE, &Action::Ban(owned(BOB))).unwrap();
        assert_eq!(denied(server.act(room, BOB, &Action::Join)), Rule::Member);
        assert_eq!(denied(server.act(room, ALICE, &Action::Kick(owned(BOB)))), Rule::Member, "not in it");
        server.act(room, ALICE, &Action::Unban(owned(BOB))).unwrap();
        server.act(room, BOB, &Action::Join).unwrap();
        server.act(room, ALICE, &Action::Ban(owned(stranger))).unwrap();
        assert_eq!(server.membership(room, stranger), Some(Membership::Ban));
    }
}

#[test]
fn an_unban_needs_the_level_to_ban_too() {
    let mut server = Server::new();
    let power_levels = object(&json!({ "users": { ALICE: 100, BOB: 50 }, "ban": 60, "kick": 50 }));
    let room = server.create(NewRoom { power_levels, ..new_room("11", Preset::Public) }).unwrap();
    server.act(room, BOB, &Action::Join).unwrap();
    server.act(room, ALICE, &Action::Ban(owned(CAROL))).unwrap();
    assert_eq!(denied(server.act(room, BOB, &Action::Unban(owned(CAROL)))), Rule::Member);
    server.act(room, ALICE, &Action::Unban(owned(CAROL))).unwrap();
}

#[test]
fn knocking_is_for_rooms_that_let_knock() {
    for id in versions() {
        let mut server = Server::new();
        let room = server.create(new_room(id, Preset::Private)).unwrap();
        let knock = Action::Knock;
        assert_eq!(denied(server.act(room, BOB, &knock)), Rule::Member);
        let rules = draft("m.room.join_rules", Some(""), json!({ "join_rule": "knock" }));
        server.send(room, ALICE, rules, None).unwrap();
        if !version(id).auth().knocking {
            assert_eq!(denied(server.act(room, BOB, &knock)), Rule::Member);
            continue;
        }
        server.act(room, BOB, &knock).unwrap();
        assert_eq!(server.membership(room, BOB), Some(Membership::Knock));
        server.act(room, ALICE, &invite(BOB)).unwrap();
        server.act(room, BOB, &Action::Join).unwrap();
    }
}

#[test]
fn a_restricted_room_takes_members_of_the_rooms_it_names() {
    for id in versions() {
        let mut server = Server::new();
        let space = server.public_room(id);
        server.act(space, CAROL, &Action::Leave).unwrap();
        let space_id = server.room_id(space);
        let content = json!({
            "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": space_id }],
        });
        let rules = draft("m.room.join_rules", Some(""), content);
        let wanted = NewRoom { initial_state: vec![rules], ..new_room(id, Preset::Private) };
        let room = server.create(wanted).unwrap();
        if !version(id).auth().restricted_join_rule {
            assert_eq!(denied(server.act(room, BOB, &Action::Join)), Rule::Member);
            continue;
        }
        server.act(room, BOB, &Action::Join).unwrap();
        let member = server.state(room, "m.room.member", BOB).unwrap();
        assert!(member.content().get().contains(&format!(r#""join_authorised_via_users_server":"{ALICE}""#)));
        assert_eq!(denied(server.act(room, CAROL, &Action::Join)), Rule::Member);
        server.act(room, ALICE, &invite(CAROL)).unwrap();
        server.act(room, CAROL, &Action::Join).unwrap();
    }
}

#[test]
fn a_new_name_is_shown_where_the_user_is() {
    let mut server = Server::new();
    let (room, left) = (server.public_room("12"), server.public_room("12"));
    server.act(left, BOB, &Action::Leave).unwrap();
    let counts = [server.count(room), server.count(left)];
    server
        .write(|transaction| {
            let number = transaction.user_number(user(BOB))?.unwrap();
            transaction.create_account(number, "bob", None, false)?;
            transaction.set_profile_field(number, "displayname", r#""Bob""#)
        })
        .unwrap();
    for room in [room, left, room, left] {
        server.show_profile(room, BOB);
    }
    assert_eq!([server.count(room), server.count(left)], [counts[0] + 1, counts[1]]);
    let member = server.state(room, "m.room.member", BOB).unwrap();
    assert_eq!(member.content().get(), r#"{"displayname":"Bob","membership":"join"}"#);
}

#[test]
fn who_left_may_forget() {
    let mut server = Server::new();
    let room = server.public_room("12");
    let forgets = |id: &'static str| server.write(move |transaction| forget(transaction, room, user(id)));
    assert!(matches!(forgets(BOB), Err(WriteError::NotLeft)));
    assert!(matches!(forgets("@x:one.example"), Err(WriteError::UnknownRoom)));
    server.act(room, BOB, &Action::Leave).unwrap();
    forgets(BOB).unwrap();
    assert!(server.stay(room, BOB).unwrap().forgotten);
    server.act(room, BOB, &Action::Join).unwrap();
    assert!(!server.stay(room, BOB).unwrap().forgotten);
}

#[test]
fn every_plan_stands_by_its_rules() {
    for id in versions() {
        for preset in [Preset::Private, Preset::TrustedPrivate, Preset::Public] {
            let mut server = Server::new();
            let wanted =
                NewRoom { invite: vec![owned(BOB)], topic: Some("t".to_owned()), ..new_room(id, preset) };
            let events = plan(wanted.clone(), user(ALICE), &Profile::default()).unwrap().len();
            let room = server.create(wanted).unwrap();
            assert_eq!(server.count(room), events);
        }
    }
}

#[test]
fn the_rooms_of_an_older_store_are_indexed() {
    let mut server = Server::new();
    let rooms: Vec<_> = (0..3).map(|_| server.public_room("12")).collect();
    let mut roots = Vec::new();
    for room in &rooms {
        let root = server.say(*room, ALICE, "root");
        let relation = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
        server.send(*room, BOB, draft("m.room.message", None, relation), None).unwrap();
        roots.push(root);
    }
    let app = App::new(Parts {
        config: Config::of_defaults(server_name!("one.example"), Path::new("unused")),
        store: server.store().clone(),
        signing_key: key_pair("one.example"),
        clock: Clock::manual(Timestamp(1_000_000)),
        rng: Rng::seeded(1),
    });
    let replies = || {
        let (rooms, roots) = (rooms.clone(), roots.clone());
        server.read(move |view| {
            let replies = rooms.iter().zip(&roots).map(|(room, root)| {
                let (parent, threads) = (view.parent(*room, root), view.threads(*room, ..).count());
                (view.children(parent, RelationKind::Thread, ..).count(), threads)
            });
            Ok((replies.collect::<Vec<_>>(), view.count_tasks()?))
        })
    };
    assert_eq!(replies(), (vec![(1, 1); 3], 0));
    let forgotten = rooms.clone();
    server
        .write(move |transaction| forgotten.iter().try_for_each(|room| transaction.forget_relations(*room)))
        .unwrap();
    assert_eq!(replies(), (vec![(0, 0); 3], 1));
    server.block_on(app.index_relations()).unwrap();
    assert_eq!(replies(), (vec![(1, 1); 3], 0));
    server.block_on(app.index_relations()).unwrap();
}

#[test]
fn relations_are_summed_up_as_far_as_they_are_looked_at() {
    let mut server = Server::new();
    let room = server.public_room("11");
    let roots = ["one", "two", "three"].map(|text| server.say(room, ALICE, text));
    let mut newest = Vec::new();
    for root in &roots {
        let reply = |sender| {
            let relation = json!({ "rel_type": "m.thread", "event_id": root });
            let content = json!({ "msgtype": "m.text", "body": "reply", "m.relates_to": relation });
            server.send(room, sender, draft("m.room.message", None, content), None).unwrap()
        };
        reply(CAROL);
        for _ in 0..8 {
            reply(BOB);
        }
        newest.push(reply(BOB));
    }
    let room_id = server.room_id(room);
    let sums = |reach: Reach| {
        let (room_id, roots, newest) = (room_id.clone(), roots.clone(), newest.clone());
        server.read(move |view| {
            let user = view.user_number(user(CAROL))?.unwrap();
            let onlooker =
                Onlooker { user, user_id: owned(CAROL), device: DeviceNumber(1), now: Timestamp(1) };
            let access = Access::of(view, &room_id, user).unwrap();
            let graph = view.graph(access.room);
            let mut reader = Reader::new(view, &graph, &access, &onlooker);
            reader.reach = reach;
            let mut sums = Vec::new();
            for (root, newest) in roots.iter().zip(newest) {
                let number = view.event_number(access.room, root)?.unwrap();
                let event = reader.visible(number)?.unwrap();
                let written: Raw<Value> = reader.write(&event)?;
                let thread = &written.deserialize().unwrap()["unsigned"]["m.relations"]["m.thread"];
                assert_eq!(thread["latest_event"]["event_id"], newest.as_str());
                sums.push((thread["count"].as_u64().unwrap(), thread["current_user_participated"] == true));
            }
            Ok(sums)
        })
    };
    assert_eq!(sums(Reach::default()), [(10, true); 3]);
    assert_eq!(sums(Reach { thread: 4, ..Reach::default() }), [(4, false); 3], "the newest of each");
    let reach = |left| Reach { left: Cell::new(left), least: 3, ..Reach::default() };
    assert_eq!(sums(reach(15)), [(10, true), (5, false), (3, false)]);
    assert_eq!(sums(reach(12)), [(10, true), (3, false), (3, false)], "some of every one");
}
