use ruma::RoomAliasId;
use serde_json::{Value, json};

use super::{
    super::fixture::{ALICE, BOB, CAROL, Server, draft, new_room, owned, user, version},
    *,
};
use crate::{
    base::json::canonical_object,
    service::write::plan::{NewRoom, Preset},
};

const NEW_ID: &str = "!new:one.example";

fn found(server: &Server, old: RoomNumber, by: &str, id: &str) -> Upgrade {
    let (by, id) = (owned(by), RoomId::parse(id).unwrap());
    server
        .signed(move |transaction, signer| {
            super::found(transaction, signer, old, &by, (version("11"), id.clone()), &[])
        })
        .unwrap()
}

fn copy(server: &Server, upgrade: &Upgrade, mut kinds: &'static [&'static str]) -> usize {
    let mut jobs = 0;
    while !kinds.is_empty() {
        let upgrade = upgrade.clone();
        let done =
            server.signed(move |transaction, signer| upgrade.copy(transaction, signer, kinds)).unwrap();
        kinds = &kinds[done..];
        jobs += 1;
    }
    jobs
}

fn ban(server: &Server, upgrade: &Upgrade) -> usize {
    let (mut jobs, mut last) = (0, Some(UserNumber::default()));
    while let Some(after) = last {
        let upgrade = upgrade.clone();
        last = server.signed(move |transaction, signer| upgrade.ban(transaction, signer, after)).unwrap();
        jobs += 1;
    }
    jobs
}

fn end(server: &Server, upgrade: &Upgrade) -> Option<OwnedRoomId> {
    let upgrade = upgrade.clone();
    server.signed(move |transaction, signer| upgrade.end(transaction, signer)).unwrap()
}

fn content(server: &Server, room: RoomNumber, kind: &'static str) -> Option<Value> {
    server.state(room, kind, "").map(|event| event.content_as().unwrap())
}

fn state_of(server: &Server, room: RoomNumber, kind: &str, content: Value) {
    server.send(room, ALICE, draft(kind, Some(""), content), None).unwrap();
}

#[test]
fn wherever_it_stops_the_old_room_goes_on_or_leads_to_a_whole_one() {
    let mut server = Server::new();
    let alias = RoomAliasId::parse("#pub:one.example").unwrap();
    let wanted = NewRoom { alias: Some(alias.clone()), ..new_room("11", Preset::Public) };
    let old = server.create(wanted).unwrap();
    server.act(old, BOB, &Action::Join).unwrap();
    server.act(old, CAROL, &Action::Ban(owned(BOB))).unwrap_err();
    server.act(old, ALICE, &Action::Ban(owned(CAROL))).unwrap();
    let leads = |server: &Server| {
        let alias = alias.clone();
        server.read(move |view| view.alias(&alias)).map(|(room, _)| room)
    };
    let goes_on = |server: &Server, body: &str| {
        assert_eq!(content(server, old, TOMBSTONE), None);
        assert_eq!(leads(server), Some(old));
        server.say(old, BOB, body);
    };

    let upgrade = found(&server, old, ALICE, NEW_ID);
    let new = upgrade.new;
    let cannot_enter = |server: &Server| server.act(new, CAROL, &Action::Join).unwrap_err();
    goes_on(&server, "founded");
    cannot_enter(&server);
    copy(&server, &upgrade, FIRST);
    goes_on(&server, "copied");
    cannot_enter(&server);
    ban(&server, &upgrade);
    goes_on(&server, "banned");
    copy(&server, &upgrade, LAST);
    goes_on(&server, "copied all");
    cannot_enter(&server);
    assert_eq!(end(&server, &upgrade), None);

    assert_eq!(content(&server, old, TOMBSTONE).unwrap()["replacement_room"], json!(NEW_ID));
    assert_eq!(leads(&server), Some(new));
    server.send(old, BOB, draft("m.room.message", None, json!({})), None).unwrap_err();
    server.act(new, BOB, &Action::Join).unwrap();
    cannot_enter(&server);
}

#[test]
fn who_was_faster_made_the_room() {
    let mut server = Server::new();
    let old = server.public_room("11");
    state_of(&server, old, LEVELS, json!({ "users": { ALICE: 100, BOB: 100 } }));
    let of_alice = found(&server, old, ALICE, NEW_ID);
    let of_bob = found(&server, old, BOB, "!late:one.example");
    assert_eq!(end(&server, &of_alice), None);
    assert_eq!(end(&server, &of_bob), Some(RoomId::parse(NEW_ID).unwrap()));
    assert_eq!(content(&server, old, TOMBSTONE).unwrap()["replacement_room"], json!(NEW_ID));
    let left = server.stay(of_bob.new, BOB).unwrap();
    assert_eq!((left.membership, left.forgotten), (Membership::Leave, true));

    // Who begins after the end means to replace the room once more.
    let again = found(&server, old, BOB, "!again:one.example");
    assert_eq!(end(&server, &again), None);
    let replaced = content(&server, old, TOMBSTONE).unwrap()["replacement_room"].clone();
    assert_eq!(replaced, json!("!again:one.example"));
}

#[test]
fn who_lost_the_right_meanwhile_ends_nothing() {
    let mut server = Server::new();
    let old = server.public_room("11");
    state_of(&server, old, LEVELS, json!({ "users": { ALICE: 100, BOB: 100 } }));
    let upgrade = found(&server, old, BOB, NEW_ID);
    server.send(old, BOB, draft(LEVELS, Some(""), json!({ "users": { ALICE: 100 } })), None).unwrap();
    let ended = server.signed(move |transaction, signer| upgrade.end(transaction, signer));
    assert!(matches!(ended, Err(WriteError::Denied(_))), "{ended:?}");
    assert_eq!(content(&server, old, TOMBSTONE), None);
}

#[test]
fn no_step_is_more_than_a_job_may_do() {
    let mut server = Server::new();
    let old = server.public_room("11");
    let large = |field: &str, length: usize| {
        // What cannot be compressed.
        let text: String = (0..length as u64).map(|n| char::from(33 + (n * n * 7 % 89) as u8)).collect();
        json!({ field: text.replace(['"', '\\'], "x") })
    };
    for kind in FIRST {
        let fitting = match *kind {
            "m.room.history_visibility" => json!({ "history_visibility": "shared" }),
            kind => large(kind, 60_000),
        };
        state_of(&server, old, kind, fitting);
    }
    let banned: Vec<_> = (0..limits::JOB_EVENTS * 2 + 1).map(|n| format!("@b{n}:one.example")).collect();
    for user in &banned {
        server.act(old, ALICE, &Action::Ban(owned(user))).unwrap();
    }
    let reason = draft("m.room.member", Some("@c:one.example"), {
        let mut content = large("reason", 60_000);
        content["membership"] = json!("ban");
        content
    });
    server.send(old, ALICE, reason, None).unwrap();
    let long = "a".repeat(limits::EVENT_FIELD_BYTES - "#000:one.example".len());
    server
        .write(move |transaction| {
            let maker = transaction.intern_user(user(ALICE))?;
            for n in 0..limits::JOB_ALIASES {
                let alias = RoomAliasId::parse(format!("#{n:03}{long}:one.example")).unwrap();
                transaction.set_alias(&alias, old, maker)?;
            }
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let mut levels = large("org.example.large", 60_000);
    levels["users"] = json!({ ALICE: 100 });
    state_of(&server, old, LEVELS, levels.clone());

    let upgrade = found(&server, old, ALICE, NEW_ID);
    assert!(copy(&server, &upgrade, FIRST) > 3);
    assert!(ban(&server, &upgrade) > 3);
    copy(&server, &upgrade, LAST);
    assert_eq!(end(&server, &upgrade), None);
    for kind in FIRST {
        assert_eq!(content(&server, upgrade.new, kind), content(&server, old, kind), "{kind}");
    }
    assert_eq!(content(&server, upgrade.new, LEVELS), Some(levels));
    let new = upgrade.new;
    let count = server.read(move |view| Ok(view.members(new, Membership::Ban).count()));
    assert_eq!(count, banned.len() + 1);
    let aliases = server.read(move |view| view.aliases(new).collect::<Result<Vec<_>, _>>());
    assert_eq!(aliases.len(), limits::JOB_ALIASES);
}

#[test]
fn aliases_of_other_servers_and_other_rooms_stay() {
    let mut server = Server::new();
    let alias = RoomAliasId::parse("#pub:one.example").unwrap();
    let wanted = NewRoom { alias: Some(alias), ..new_room("11", Preset::Public) };
    let old = server.create(wanted).unwrap();
    let other = server.public_room("11");
    server
        .write(move |transaction| {
            let maker = transaction.intern_user(user(ALICE))?;
            let alias = RoomAliasId::parse("#other:one.example").unwrap();
            transaction.set_alias(&alias, other, maker)
        })
        .unwrap();
    let upgrade = found(&server, old, ALICE, NEW_ID);
    let said = json!({
        "alias": "#pub:two.example", "alt_aliases": ["#other:one.example", "#pub:one.example", "#gone:one.example", 1],
    });
    let said = canonical_object(&said.to_string()).unwrap();
    let parted = server.read(move |view| upgrade.parted(view, user(ALICE).server_name(), said));
    let parted = [parted.0, parted.1].map(|content| serde_json::to_value(content).unwrap());
    assert_eq!(parted[0], json!({ "alt_aliases": ["#pub:one.example"] }));
    assert_eq!(
        parted[1],
        json!({
            "alias": "#pub:two.example", "alt_aliases": ["#other:one.example", "#gone:one.example", 1],
        })
    );
}
