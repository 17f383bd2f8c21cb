//! What a client notices of another's flood.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::Figure;
use crate::{
    Scale,
    meter::{Stopwatch, percentile},
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Flood;

impl Figure for Flood {
    const NAME: &'static str = "flood";
    const ROWS: &'static [Row] = &[
        Row { what: "a page of 10 messages, p50, ms", goal: Goal::None },
        Row { what: "the same beside another's 64 reads and 64 sends at once, p50, ms", goal: Goal::None },
        Row { what: "the second by the first", goal: Goal::AtMost(2.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", 2).await?;
        let (mut other, mut one) = people.pop().zip(people.pop()).context("two people")?;
        let (its_room, room) = (other.create_room().await?, one.create_room().await?);
        for n in 0..50 {
            other.send(&its_room, &format!("message {n}")).await?;
            one.send(&room, &format!("message {n}")).await?;
        }
        let mut alone = page_times(&mut one, &room, scale).await?;

        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // A thread of its own: what is measured must not wait for the flood's own work.
        let flood = thread::spawn(move || flood(&other, &its_room, &stopped));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let beside = page_times(&mut one, &room, scale).await;
        stop.store(true, Relaxed);
        let served = flood.join().ok().context("the flood panicked")??;
        let (alone, beside) = (percentile(&mut alone, 0.5), percentile(&mut beside?, 0.5));
        let measured = Measured::from([alone, beside, beside / alone]);
        Ok(measured.note(format!("flood: {served} of its requests were answered meanwhile")))
    }
}

/// How long pages of messages take, one after the other with pauses, in milliseconds.
async fn page_times(person: &mut Person, room: &str, scale: Scale) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..scale.of(1_000) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let stopwatch = Stopwatch::start();
        person.messages(room, 10).await?;
        times.push(stopwatch.elapsed_ms());
    }
    Ok(times)
}

/// Reads on every even connection and sends on every other, until it is stopped; returns the number of answers.
fn flood(person: &Person, room: &str, stop: &Arc<AtomicBool>) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for index in 0..2 * AT_ONCE {
            let (mut person, room, stop) = (person.split().await?, room.to_owned(), stop.clone());
            tasks.spawn(async move {
                let mut answered = 0;
                while !stop.load(Relaxed) {
                    if index % 2 == 0 {
                        person.messages(&room, 50).await?;
                    } else {
                        person.send(&room, &format!("flood {index}")).await?;
                    }
                    answered += 1;
                }
                anyhow::Ok(answered)
            });
        }
        tasks.join_all().await.into_iter().sum()
    })
}

const AT_ONCE: usize = 64;
