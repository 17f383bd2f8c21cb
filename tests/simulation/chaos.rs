//! The course of a run: rooms are made in peace, then people, network and power do what the dice say, then all calms
//! down and whoever can speaks once more, so that everybody hears of everything.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    host::Host,
    hostile,
    people::{Person, Room, joined},
    verdict,
    world::{HONEST, World},
};

/// Starts the servers, and makes people and rooms.
pub(crate) async fn begin(world: &Arc<World>) {
    for name in HONEST {
        Host::create(world, name).await;
        for nth in 0..PEOPLE {
            let number = world.state().people.len();
            Person::create(world, name, &format!("p{number}"), nth == 0).await;
        }
    }
    let people = world.state().people.clone();
    for number in 0..ROOMS {
        let creator = world.pick(&people).clone();
        let version = *world.pick(&["6", "10", "11", "12"]);
        let others = people.iter().filter(|person| person.id != creator.id && world.chance(50));
        let mut levels: serde_json::Map<String, Value> =
            others.map(|person| (person.id.clone(), json!(*world.pick(&[50, 50, 100])))).collect();
        if version != "12" {
            levels.insert(creator.id.clone(), json!(100));
        }
        let body = json!({
            "preset": "public_chat",
            "room_version": version,
            "room_alias_name": format!("room{number}"),
            "power_level_content_override": {"users": levels},
        });
        let (status, body) = creator.ask(world, "POST", "createRoom", body).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let id = body["room_id"].as_str().unwrap().to_owned();
        let alias = format!("#room{number}:{}", creator.home);
        let room = Room { number, id, alias, keeps_joins: version == "12" };
        world.state().rooms.push(room.clone());
        for person in people.iter().filter(|person| person.id != creator.id && world.chance(80)) {
            join(world, person, &room, creator.home).await;
        }
    }
    let rooms = world.state().rooms.clone();
    for room in rooms.iter().filter(|_| world.chance(70)) {
        let through = *world.pick(&HONEST);
        world.hostile.enter(world, room, through).await;
    }
    count_stays(world).await;
}

/// Does what the dice say.
pub(crate) async fn rage(world: &Arc<World>, acts: &mut JoinSet<()>) {
    world.network.set_rough(true);
    for _ in 0..STEPS {
        let most = if world.chance(8) { 90_000 } else { 2_000 };
        world.pass(Duration::from_millis(most)).await;
        while let Some(ended) = acts.try_join_next() {
            ended.unwrap();
        }
        let own = world.clone();
        match world.dice.below(100) {
            0..5 => {
                let (one, other) = (*world.pick(&HONEST), *world.pick(&HONEST));
                if one != other {
                    world.log("network", format_args!("parts {one} and {other}"));
                    world.network.cut(one, other);
                }
            }
            5..9 => {
                world.log("network", "is whole");
                world.network.mend();
            }
            9..14 => {
                let name = *world.pick(&HONEST);
                let in_order = world.chance(30);
                let down_s = *world.pick(&[0, 1, 20, 20, 900]);
                acts.spawn(async move {
                    if let Some(remains) = Host::end(&own, name, in_order).await {
                        sleep(Duration::from_secs(down_s)).await;
                        remains.start(&own).await;
                    }
                });
            }
            14..26 => _ = acts.spawn(async move { own.hostile.act(&own).await }),
            _ => {
                let person = world.pick(&world.state().people.clone()).clone();
                let room = world.pick(&world.state().rooms.clone()).clone();
                let act = world.dice.below(100);
                acts.spawn(async move { Box::pin(does(&own, &person, &room, act)).await });
            }
        }
        count_stays(world).await;
    }
}

/// Lets everything that is on its way arrive, and everybody hear of everything.
pub(crate) async fn calm(world: &Arc<World>, acts: &mut JoinSet<()>) {
    world.log("network", "calms down");
    world.network.set_rough(false);
    world.network.mend();
    while let Ok(Some(ended)) = timeout(QUIET, acts.join_next()).await {
        ended.unwrap();
    }
    if !acts.is_empty() {
        world.fail("something that people did has no end");
    }
    assert_eq!(world.up().len(), HONEST.len());
    sleep(QUIET).await;
    count_stays(world).await;
    // Where everybody is honest, nobody has to say anything more to those who were known to be there.
    let people = world.state().people.clone();
    let rooms = world.state().rooms.clone();
    for room in rooms.iter().filter(|room| !world.hostile.is_in(room)) {
        verdict::events(world, room, false).await;
    }
    for round in 0..ROUNDS {
        for room in &rooms {
            for name in HONEST {
                for person in people.iter().filter(|person| person.home == name) {
                    if person.say(world, room, &format!("round {round}")).await.is_some() {
                        break;
                    }
                }
            }
        }
        sleep(Duration::from_secs(600)).await;
    }
    for room in &rooms {
        ban(world, &people, room).await;
    }
    count_stays(world).await;
    for person in &people {
        for room in &rooms {
            person.read_back(world, room).await;
        }
        // What comes along with the first is gone for good with the second.
        person.sync(world).await;
        person.sync(world).await;
    }
}

/// Bans whoever means ill, who says something all the same.
async fn ban(world: &Arc<World>, people: &[Person], room: &Room) {
    let Some(early) = world.hostile.early(world, &room.id) else { return };
    let ban = json!({"user_id": hostile::USER});
    for person in people {
        let path = format!("rooms/{}/ban", room.id);
        if let Some((200, _)) = person.ask(world, "POST", &path, ban.clone()).await {
            sleep(Duration::from_secs(600)).await;
            world.hostile.come_late(world, &room.id, early).await;
            sleep(Duration::from_secs(60)).await;
            return;
        }
    }
}

async fn join(world: &Arc<World>, person: &Person, room: &Room, through: &str) {
    let name = if world.chance(30) { &room.alias } else { &room.id };
    let name = name.replace('#', "%23").replace(':', "%3A").replace('!', "%21");
    let version_names = format!("server_name={through}&via={through}");
    person.ask(world, "POST", &format!("join/{name}?{version_names}"), json!({})).await;
}

/// Does one of the things that people do.
async fn does(world: &Arc<World>, person: &Person, room: &Room, act: u64) {
    let people = world.state().people.clone();
    let other = world.pick(&people).clone();
    let path = |action: &str| format!("rooms/{}/{action}", room.id);
    let target = if world.chance(25) { hostile::USER.to_owned() } else { other.id.clone() };
    let of_other = json!({"user_id": target});
    match act {
        0..30 => _ = person.say(world, room, "says something").await,
        30..37 => _ = person.put(world, room, "state/m.room.topic/", json!({"topic": topic(world)})).await,
        37..41 => _ = person.put(world, room, "state/m.room.name/", json!({"name": topic(world)})).await,
        41..46 => {
            let Some(mut levels) = person.state(world, room, "m.room.power_levels").await else { return };
            levels["users"][&other.id] = json!(*world.pick(&[0, 50, 50, 100]));
            levels["word"] = json!(topic(world));
            person.put(world, room, "state/m.room.power_levels/", levels).await;
        }
        46..49 => {
            let rule = *world.pick(&["public", "public", "invite", "knock"]);
            let rule = if room.keeps_joins { rule } else { "public" };
            person
                .put(
                    world,
                    room,
                    "state/m.room.join_rules/",
                    json!({"join_rule": rule, "word": topic(world)}),
                )
                .await;
        }
        49..58 => {
            let through = if world.chance(10) { hostile::NAME } else { *world.pick(&HONEST) };
            join(world, person, room, through).await;
        }
        58..62 => _ = person.ask(world, "POST", &path("invite"), of_other).await,
        62..64 => {
            let via = *world.pick(&HONEST);
            let path = format!("knock/{}?server_name={via}&via={via}", room.id.replace('!', "%21"));
            person.ask(world, "POST", &path, json!({})).await;
        }
        64..67 => _ = person.ask(world, "POST", &path("leave"), json!({})).await,
        67..70 => _ = person.ask(world, "POST", &path("kick"), of_other).await,
        70..72 => _ = person.ask(world, "POST", &path("ban"), of_other).await,
        72..74 => _ = person.ask(world, "POST", &path("unban"), of_other).await,
        74..78 => {
            let Some(id) = said(world, room) else { return };
            let path = format!("redact/{}/t{}", id.replace('$', "%24"), world.next());
            person.put(world, room, &path, json!({})).await;
        }
        78..81 => {
            let Some(id) = said(world, room) else { return };
            let path = path(&format!("receipt/m.read/{}", id.replace('$', "%24")));
            person.ask(world, "POST", &path, json!({})).await;
        }
        81..84 => {
            let path = path(&format!("typing/{}", person.id));
            person.ask(world, "PUT", &path, json!({"typing": true, "timeout": 20_000})).await;
        }
        84..91 => person.message(world, &other).await,
        91..94 => {
            person.change_devices(world).await;
        }
        _ => person.sync(world).await,
    }
}

/// An event that somebody was told is taken.
fn said(world: &World, room: &Room) -> Option<String> {
    let ids: Vec<_> = {
        let state = world.state();
        state
            .acknowledged
            .iter()
            .filter(|event| event.room == room.number)
            .map(|event| event.id.clone())
            .collect()
    };
    (!ids.is_empty()).then(|| world.pick(&ids).clone())
}

fn topic(world: &World) -> String {
    format!("word {}", world.next())
}

/// Looks who is where.
async fn count_stays(world: &Arc<World>) {
    let rooms = world.state().rooms.clone();
    for name in world.up() {
        for room in &rooms {
            let is_joined = joined(world, name, room, |_, _| Ok(())).await.is_some();
            let now = world.elapsed();
            let mut state = world.state();
            if is_joined {
                state.stays.entry((name, room.number)).or_insert(now);
            } else if state.hosts.contains_key(name) {
                state.stays.remove(&(name, room.number));
            }
        }
    }
}

/// People of each server, and rooms.
const PEOPLE: usize = 2;
const ROOMS: usize = 2;
/// What happens between the beginning and the calm.
const STEPS: usize = 60;
/// How long it takes until nobody waits any more before trying again.
const QUIET: Duration = Duration::from_secs(3 * 60 * 60);
/// How often everybody speaks in the end.
const ROUNDS: usize = 3;
