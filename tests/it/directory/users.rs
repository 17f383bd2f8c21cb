//! The user directory. <https://spec.matrix.org/v1.19/client-server-api/#user-directory>

use serde_json::{Value, json};
use tayberry::service::operator::{self, Command};

use super::all;
use crate::{
    accounts::by_password,
    rig::{Member, Rig},
    rooms::{act, create, set},
};

const SEARCH: &str = "/_matrix/client/v3/user_directory/search";

/// Whom somebody finds, by the localparts, in order.
async fn found(rig: &Rig, who: &Member, term: &str) -> String {
    let answer = rig.send_as(who, "POST", SEARCH, json!({"search_term": term, "limit": 50})).await.ok();
    assert_eq!(answer["limited"], false, "{answer}");
    let names = all(&answer["results"], "user_id");
    names.iter().map(|id| &id[1..id.len() - ":example.org".len()]).collect::<Vec<_>>().join(" ")
}

/// Registers somebody of this display name.
async fn named(rig: &Rig, localpart: &str, name: &str) -> Member {
    let member = rig.register(localpart).await;
    call(rig, &member, name).await;
    member
}

async fn call(rig: &Rig, who: &Member, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", who.user_id);
    rig.send_as(who, "PUT", &path, json!({"displayname": name})).await.ok();
}

/// A room of the first with the others, by invitation.
async fn company(rig: &Rig, people: &[&Member]) -> String {
    let invited: Vec<_> = people[1..].iter().map(|member| &member.user_id).collect();
    let room = create(rig, people[0], json!({"preset": "private_chat", "invite": invited})).await;
    for person in &people[1..] {
        act(rig, person, &room, "join", json!({})).await;
    }
    room
}

#[tokio::test]
async fn people_are_found_by_what_one_types_of_their_names() {
    let rig = Rig::start().await;
    let seeker = rig.register("zed").await;
    let people = [
        named(&rig, "asmith", "Alice Smith").await,
        named(&rig, "jose", "José Ångström").await,
        named(&rig, "wolf-7", "Łukasz Müller-Ørsted").await,
        named(&rig, "yamada", "山田太郎").await,
        named(&rig, "wide", "Ｗｉｄｅ　Ｂｏｄｙ").await,
        rig.register("plain").await,
    ];
    let everybody: Vec<_> = [&seeker].into_iter().chain(&people).collect();
    company(&rig, &everybody).await;
    for (term, expected) in [
        ("alice", "asmith"),
        ("ALICE SMITH", "asmith"),
        ("al smi", "asmith"),
        ("smi al", "asmith"),
        ("smith  alice", "asmith"),
        ("asm", "asmith"),
        ("lice", ""),
        ("al smu", ""),
        ("alice smithers", ""),
        ("jose", "jose"),
        ("José angs", "jose"),
        ("lukasz", "wolf-7"),
        ("orsted MULLER", "wolf-7"),
        ("wolf-7", "wolf-7"),
        ("7", "wolf-7"),
        ("山田", "yamada"),
        ("太郎", "yamada"),
        ("wide bo", "wide"),
        ("ｗｉｄｅ", "wide"),
        ("plain", "plain"),
        ("@plain", "plain"),
        ("@plain:example.org", "plain"),
        ("PLAIN:exam", "plain"),
        ("@Plain:Example.ORG", "plain"),
        ("@plai:example.org", ""),
        ("@plain:elsewhere.example", ""),
        ("@plain:example.org.uk", ""),
        ("a", "asmith jose"),
        ("zed", ""),
        ("", ""),
        ("%", ""),
        ("' OR 1", ""),
        ("=alice smith", "asmith"),
    ] {
        assert_eq!(found(&rig, &seeker, term).await, expected, "{term}");
    }
}

#[tokio::test]
async fn only_those_whom_one_may_see_are_found() {
    let rig = Rig::start().await;
    let (seeker, bob) = (rig.register("seeker").await, rig.register("bob").await);
    assert_eq!(found(&rig, &seeker, "bob").await, "", "that they have accounts is not enough");

    let room = create(&rig, &bob, json!({"invite": [seeker.user_id]})).await;
    assert_eq!(found(&rig, &seeker, "bob").await, "", "an invitation is not yet company");
    act(&rig, &seeker, &room, "join", json!({})).await;
    assert_eq!(found(&rig, &seeker, "bob").await, "bob");
    assert_eq!(found(&rig, &bob, "seeker").await, "seeker");
    act(&rig, &bob, &room, "leave", json!({})).await;
    assert_eq!(found(&rig, &seeker, "bob").await, "");

    // Whom everybody may meet.
    let room = create(&rig, &bob, json!({"visibility": "public", "preset": "private_chat"})).await;
    let publish = format!("/_matrix/client/v3/directory/list/room/{room}");
    for published in ["public", "private"] {
        rig.send_as(&bob, "PUT", &publish, json!({"visibility": published})).await.ok();
        for (rule, history, expected) in [
            ("invite", "shared", ""),
            ("knock", "joined", ""),
            ("public", "joined", "bob"),
            ("invite", "invited", ""),
            ("invite", "world_readable", "bob"),
            ("restricted", "shared", ""),
            ("public", "world_readable", "bob"),
        ] {
            set(&rig, &bob, &room, "m.room.join_rules", json!({"join_rule": rule})).await;
            set(&rig, &bob, &room, "m.room.history_visibility", json!({"history_visibility": history})).await;
            assert_eq!(found(&rig, &seeker, "bob").await, expected, "{published} {rule} {history}");
            assert_eq!(found(&rig, &seeker, "@bob:example.org").await, expected, "{published} {rule}");
        }
    }
    rig.send_as(&bob, "POST", &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    assert_eq!(found(&rig, &seeker, "bob").await, "");
}

#[tokio::test]
async fn whose_account_ended_is_not_found() {
    let rig = Rig::start().await;
    let seeker = rig.register("seeker").await;
    let (bob, bea) = (named(&rig, "bob", "Bob").await, named(&rig, "bea", "Bobby").await);
    company(&rig, &[&seeker, &bob, &bea]).await;
    let mut rig = rig;
    assert_eq!(found(&rig, &seeker, "bob").await, "bob bea");
    // They are still in the room for a while.
    rig.stop_workers().await;
    for (user, erase) in [(&bob, false), (&bea, true)] {
        let name = user.user_id[1..].split(':').next().unwrap();
        let body = json!({"auth": by_password(name), "erase": erase});
        rig.send_as(user, "POST", "/_matrix/client/v3/account/deactivate", body).await.ok();
    }
    for term in ["bob", "bobby", "bea", "@bob:example.org"] {
        assert_eq!(found(&rig, &seeker, term).await, "", "{term}");
    }
}

#[tokio::test]
async fn who_is_called_so_comes_first_and_then_company() {
    let rig = Rig::start().await;
    let seeker = rig.register("seeker").await;
    let stranger = named(&rig, "s1", "Ann").await;
    let strangers = named(&rig, "s2", "Annabel").await;
    let near = named(&rig, "n1", "Annabel Lee").await;
    let exact = named(&rig, "n2", "Ann").await;
    let also = named(&rig, "ann", "Somebody").await;
    let hidden = named(&rig, "h1", "Ann").await;
    let room = create(&rig, &stranger, json!({"preset": "public_chat"})).await;
    act(&rig, &strangers, &room, "join", json!({})).await;
    company(&rig, &[&seeker, &near, &exact, &also]).await;
    company(&rig, &[&hidden]).await;
    assert_eq!(found(&rig, &seeker, "ann").await, "n2 ann s1 n1 s2");
    assert_eq!(found(&rig, &seeker, "ANNABEL").await, "s2 n1");

    let part = async |limit: Value| {
        let mut body = json!({"search_term": "ann"});
        if !limit.is_null() {
            body["limit"] = limit;
        }
        let answer = rig.send_as(&seeker, "POST", SEARCH, body).await.ok();
        (all(&answer["results"], "user_id").join(" "), answer["limited"].as_bool().unwrap())
    };
    assert_eq!(part(json!(0)).await, (String::new(), true));
    assert_eq!(part(json!(1)).await, ("@n2:example.org".into(), true));
    assert_eq!(part(json!(3)).await, ("@n2:example.org @ann:example.org @s1:example.org".into(), true));
    assert_eq!(part(json!(4)).await.0.matches('@').count(), 4);
    assert!(part(json!(4)).await.1);
    assert_eq!(part(json!(5)).await.0.matches('@').count(), 5);
    assert!(!part(json!(5)).await.1, "the hidden one does not count");
    for at in 0..5 {
        let more = named(&rig, &format!("more{at}"), "Annika").await;
        act(&rig, &more, &room, "join", json!({})).await;
    }
    assert_eq!(part(Value::Null).await.0.matches('@').count(), 10);
    assert!(!part(Value::Null).await.1);
    let eleventh = named(&rig, "more5", "Annika").await;
    act(&rig, &eleventh, &room, "join", json!({})).await;
    assert_eq!(part(Value::Null).await.0.matches('@').count(), 10);
    assert!(part(Value::Null).await.1);
    assert_eq!(part(json!(1_000)).await.0.matches('@').count(), 11);
    let missing = rig.send_as(&seeker, "POST", SEARCH, json!({})).await;
    assert_eq!(missing.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn people_are_found_and_shown_as_they_are_called_now() {
    let rig = Rig::start().await;
    let (seeker, bob) = (rig.register("seeker").await, named(&rig, "bob", "Robert Tailor").await);
    company(&rig, &[&seeker, &bob]).await;
    let profile = |field: &str| format!("/_matrix/client/v3/profile/{}/{field}", bob.user_id);
    let avatar = json!({"avatar_url": "mxc://example.org/bob"});
    rig.send_as(&bob, "PUT", &profile("avatar_url"), avatar).await.ok();
    let answer = rig.send_as(&seeker, "POST", SEARCH, json!({"search_term": "tailor"})).await.ok();
    let shown = json!({
        "user_id": bob.user_id, "display_name": "Robert Tailor", "avatar_url": "mxc://example.org/bob",
    });
    assert_eq!(answer, json!({"results": [shown], "limited": false}));

    call(&rig, &bob, "Tinker").await;
    assert_eq!(found(&rig, &seeker, "tailor").await, "");
    assert_eq!(found(&rig, &seeker, "tinker").await, "bob");
    rig.send_as(&bob, "PUT", &profile("avatar_url"), json!({"avatar_url": ""})).await.ok();
    rig.send_as(&bob, "DELETE", &profile("displayname"), Value::Null).await.ok();
    assert_eq!(found(&rig, &seeker, "tinker").await, "");
    let answer = rig.send_as(&seeker, "POST", SEARCH, json!({"search_term": "bob"})).await.ok();
    assert_eq!(answer["results"], json!([{"user_id": bob.user_id}]));
    assert_eq!(found(&rig, &seeker, "bob").await, "bob");
}

/// A store in which everything was there before the directories.
#[tokio::test]
async fn an_older_store_is_searched_as_well() {
    let mut rig = Rig::start().await;
    let (seeker, open) = (rig.register("seeker").await, named(&rig, "open", "Öppen").await);
    let people = async |deactivated: bool| {
        for number in 0..70 {
            let name = format!("{}-{number}", if deactivated { "gone" } else { "user" });
            let create = Command::CreateUser { name: name.clone(), password: None, admin: false };
            operator::run(&rig.app, create).await.unwrap();
            if deactivated {
                operator::run(&rig.app, Command::DeactivateUser { name, erase: false }).await.unwrap();
            }
        }
    };
    people(true).await;
    people(false).await;
    for number in 0..70 {
        let preset = if number == 69 { "public_chat" } else { "private_chat" };
        create(&rig, &open, json!({"preset": preset})).await;
    }
    rig.stop_workers().await;

    let sql = rusqlite::Connection::open(rig.folder().join("records.sqlite")).unwrap();
    let tables = || {
        let mut words = sql.prepare("SELECT word || user FROM user_words ORDER BY word, user").unwrap();
        let mut rooms =
            sql.prepare("SELECT room || text || listing FROM listed_rooms ORDER BY room").unwrap();
        let mut all = Vec::<String>::new();
        for statement in [&mut words, &mut rooms] {
            all.extend(statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap));
        }
        all
    };
    let before = tables();
    assert_eq!(before.len(), 2 + 4 + 70 * 3 + 1);
    sql.execute_batch("DROP TABLE user_words; DROP TABLE listed_rooms").unwrap();
    for migration in [
        include_str!("../../../src/store/records/migrations/0011_directory.sql"),
        include_str!("../../../src/store/records/migrations/0015_federated_rooms.sql"),
    ] {
        sql.execute_batch(migration).unwrap();
    }
    assert!(tables().is_empty());
    assert_eq!(found(&rig, &seeker, "oppen").await, "");
    rig.app.fill_directories().await.unwrap();
    assert_eq!(found(&rig, &seeker, "oppen").await, "open");
    assert_eq!(tables(), before);
    rig.start_workers();
}
