//! Sliding sync of an account in many rooms: the first window, a message, and connections that wait.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Figure, initial_sync::drop_caches};
use crate::{
    Scale,
    meter::{Resident, Runtimes, Stopwatch, Switches, percentile},
    person::Person,
    phone::{Phone, WINDOW},
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Sliding;

impl Figure for Sliding {
    const NAME: &'static str = "sliding";
    const ROWS: &'static [Row] = &[
        Row { what: "first window of 20 rooms of 1,000, cold, ms", goal: Goal::AtMostOrLess(50.0, 10.0) },
        Row { what: "its answer, KB", goal: Goal::None },
        Row {
            what: "step of one new message in 1,000 rooms, processor time, p50, ms",
            goal: Goal::AtMostOrLess(5.0, 10.0),
        },
        Row { what: "the same, until it is answered, p50, ms", goal: Goal::None },
        Row {
            what: "memory of each of 100 connections that wait for 1,000 rooms, KB",
            goal: Goal::AtMostOrLess(64.0, 10.0),
        },
        Row { what: "wake-ups a second with them", goal: Goal::AtMostOrLess(5.0, 10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let (mut friend, rooms, mut phone) = many_rooms(server, scale.of(1_000)).await?;

        let (mut windows, mut size, mut cold) = (Vec::new(), 0, true);
        for _ in 0..5 {
            server.stop()?;
            cold &= drop_caches()?;
            server.start().await?;
            phone.begin_anew();
            let stopwatch = Stopwatch::start();
            let answer = phone.look().await?;
            windows.push(stopwatch.elapsed_ms());
            size = answer.body.len();
            let answer: Value = serde_json::from_slice(&answer.body)?;
            let shown = answer["rooms"].as_object().map_or(0, serde_json::Map::len);
            ensure!(shown == WINDOW.min(rooms.len()), "the first window has {shown} rooms");
        }

        phone.grow().await?;
        let (mut ran, mut took) = (Vec::new(), Vec::new());
        for n in 0..scale.of(200) {
            let text = format!("message number {n}.");
            friend.send(&rooms[n * 7 % rooms.len()], &text).await?;
            // What the server does beside, it has done.
            settle().await;
            let (stopwatch, before) = (Stopwatch::start(), Runtimes::of(server.pid()?)?);
            let answer = phone.look().await?;
            took.push(stopwatch.elapsed_ms());
            settle().await;
            ran.push(Runtimes::of(server.pid()?)?.since(&before));
            ensure!(super::delivery::contains(&answer.body, &text), "the step doesn't tell of the message");
        }

        let Waiting { count, each_kb, wakeups } = waiting(server, &phone, scale).await?;
        let how = if cold { "dropped page cache" } else { "a warm page cache" };
        let [window, ran, took] = [windows, ran, took].map(|mut samples| percentile(&mut samples, 0.5));
        let measured = Measured::from([window, size as f64 / 1e3, ran, took, each_kb, wakeups]);
        Ok(measured
            .note(format!("sliding: first window after a restart with {how}; {count} connections waited")))
    }
}

struct Waiting {
    count: usize,
    each_kb: f64,
    wakeups: f64,
}

/// Lets devices of the account wait, each on a connection that knows the whole list.
async fn waiting(server: &Server, phone: &Phone, scale: Scale) -> Result<Waiting> {
    // The first ones bring what all of them share. Synapse takes long for each.
    let (first, count) = (4, if server.kind == Kind::Synapse { 10 } else { scale.of(100).max(2) });
    let mut phones = Vec::new();
    for _ in 0..first + count {
        phones.push(Phone::new(phone.person.another_login().await?));
    }
    let mut polls: JoinSet<Result<()>> = JoinSet::new();
    let mut before = 0.0;
    for (n, mut phone) in phones.into_iter().enumerate() {
        if n == first {
            before = Resident::of(server.pid()?)?.own;
        }
        phone.grow().await?;
        polls.spawn(async move {
            loop {
                phone.poll().await?;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let each_kb = (Resident::of(server.pid()?)?.own - before) * 1e3 / count as f64;
    // Shorter than a long-poll, so that none ends meanwhile.
    let stretch = Duration::from_secs(scale.of(40) as u64);
    let (stopwatch, before) = (Stopwatch::start(), Switches::of(server.pid()?)?);
    tokio::time::sleep(stretch).await;
    let wakeups = Switches::of(server.pid()?)?.since(&before) / stopwatch.elapsed().as_secs_f64();
    ensure!(polls.len() == first + count && polls.try_join_next().is_none(), "a poll ended");
    Ok(Waiting { count, each_kb, wakeups })
}

/// An account with a phone in so many rooms, and a friend who is in them, too.
pub(super) async fn many_rooms(server: &Server, count: usize) -> Result<(Person, Vec<String>, Phone)> {
    let person = Person::register(server, "user").await?;
    let friend = Person::register(server, "friend").await?;
    let mut makers = JoinSet::new();
    for first in 0..MAKERS.min(count) {
        let (mut person, mut friend) = (person.split().await?, friend.split().await?);
        makers.spawn(async move {
            let mut rooms = Vec::new();
            for n in (first..count).step_by(MAKERS) {
                let body = json!({ "preset": "public_chat", "name": format!("room {n}") });
                let made: Value =
                    serde_json::from_slice(&person.call(Method::POST, "createRoom", &body).await?)?;
                let room = made["room_id"].as_str().unwrap_or_default().to_owned();
                friend.join(&room).await?;
                friend.send(&room, "the first message").await?;
                rooms.push(room);
            }
            anyhow::Ok(rooms)
        });
    }
    let rooms = makers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?.concat();
    Ok((friend, rooms, Phone::new(person)))
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// How many connections make the rooms.
const MAKERS: usize = 4;
