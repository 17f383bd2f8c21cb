//! More rooms than one user reads, more members than one room knows.

use tayberry::{
    base::{rng::Rng, secret::Secret},
    config::Config,
    service::{
        App,
        accounts::{self, Registration},
        app::Parts,
        sessions::DeviceRequest,
        signer::signing_key,
    },
    store::{Options, Store},
};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_without_number() {
    let _turn = TURN.lock().await;
    let count = if is_whole() { 10_000 } else { 500 };
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 1], "mallory").await;
    let ask = async |method: &str, path: &str, body: Value| {
        site.ask([127, 0, 1, 1], method, path, Some(&mallory), body).await.ok()
    };
    let create = |_| {
        let mallory = mallory.clone();
        async move { site.ask([127, 0, 1, 1], "POST", "/createRoom", Some(&mallory), json!({})).await }
    };
    for reply in flooded.through(all(16, (0..count).map(create))).await {
        reply.ok();
    }
    let synced = flooded.through(async {
        let synced = ask("GET", "/sync", Value::Null).await;
        // Long enough for a measure.
        sleep(Duration::from_secs(2)).await;
        synced
    });
    let synced = synced.await;
    assert_eq!(synced["rooms"]["join"].as_object().unwrap().len(), count);
    let since = format!("/sync?since={}", synced["next_batch"].as_str().unwrap());
    assert!(ask("GET", &since, Value::Null).await["rooms"].is_null());
    assert_eq!(
        ask("GET", "/joined_rooms", Value::Null).await["joined_rooms"].as_array().unwrap().len(),
        count
    );
    flooded.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_without_number() {
    let _turn = TURN.lock().await;
    let count = if is_whole() { 20_000 } else { 500 };
    let place = Place::init();
    let crowd = crowd(&place, count).await;
    let flooded = Flooded::on(place).await;
    let site = flooded.site;
    let ask = async |who: &Member, method: &str, path: String, body: Value| {
        site.ask([127, 0, 1, 1], method, &path, Some(who), body).await.ok()
    };
    let public = json!({"preset": "public_chat"});
    let room = ask(&crowd[0], "POST", "/createRoom".to_owned(), public).await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    let joins = crowd[1..].iter().enumerate().map(|(number, member)| {
        let (member, path) = (member.clone(), format!("/rooms/{room}/join"));
        let from = [127, 0, 1, (number % 200) as u8];
        async move { site.ask(from, "POST", &path, Some(&member), json!({})).await }
    });
    for reply in flooded.through(all(16, joins)).await {
        reply.ok();
    }
    let read = async {
        let last = crowd.last().unwrap();
        let synced = ask(last, "GET", "/sync".to_owned(), Value::Null).await;
        assert_eq!(synced["rooms"]["join"][&room]["summary"]["m.joined_member_count"], count);
        let members = ask(last, "GET", format!("/rooms/{room}/members"), Value::Null).await;
        assert_eq!(members["chunk"].as_array().unwrap().len(), count);
        let joined = ask(last, "GET", format!("/rooms/{room}/joined_members"), Value::Null).await;
        assert_eq!(joined["joined"].as_object().unwrap().len(), count);
        let message = json!({"msgtype": "m.text", "body": "so many"});
        ask(last, "PUT", format!("/rooms/{room}/send/m.room.message/1"), message).await;
        // Long enough for a measure.
        sleep(Duration::from_secs(2)).await;
    };
    flooded.through(read).await;
    flooded.end();
}

/// Accounts that are logged in, made without the hashing of passwords.
async fn crowd(place: &Place, count: usize) -> Vec<Member> {
    let dir = place.folder.path().join("tayberry-data");
    let (clock, rng) = (Clock::system(), Rng::system());
    let options = Options { dir: dir.clone(), clock: clock.clone(), rng: rng.clone() };
    let app = App::new(Parts {
        config: Config::of_defaults(ruma::server_name!("a.example"), &dir),
        store: Store::open(options).unwrap(),
        signing_key: signing_key("1", &Secret::new([7; 32])).unwrap(),
        clock,
        rng,
    });
    let mut crowd = Vec::new();
    for number in 0..count {
        let device = Some(DeviceRequest::default());
        let wanted = Registration { name: Some(format!("crowd-{number}")), device, ..Default::default() };
        let made = accounts::register(&app, wanted).await.unwrap();
        let log_in = made.log_in.unwrap();
        let (user_id, device_id) = (made.user_id.to_string(), log_in.device_id.to_string());
        crowd.push(Member { user_id, device_id, token: log_in.tokens.access.expose().clone() });
    }
    app.store.close();
    crowd
}
