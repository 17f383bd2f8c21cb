//! State resolution of forked rooms, from a store on disk: its time, and what it takes of the heap.
//!
//! Every event of the rooms is made and signed here as another server would, and goes in by the checks of what is
//! received. `cargo bench --bench resolution`; `-- --scale 0.05` is a smoke run, whose figures mean nothing.

#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

#[path = "../graph.rs"]
mod graph;
#[path = "../heap.rs"]
mod heap;
mod room;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lexopt::prelude::*;
use tayberry::{
    base::ids::RoomNumber,
    room::{
        graph::State,
        resolve::{auth_difference, resolve},
        version::Version,
    },
    store::{StoreError, View},
};

use crate::{
    graph::End,
    heap::Peak,
    room::{Room, state},
};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> Result<()> {
    let scale = scale()?;
    let of = |full: usize| ((full as f64 * scale) as usize).max(4);
    let runtime = tokio::runtime::Runtime::new()?;
    println!("| {:<88} | must reach | measured |\n| --- | --- | --- |", "figure");
    for id in ["11", "12"] {
        let version = Version::of(&id.try_into()?).expect("a known version");
        let (members, conflicts) = (of(10_000), of(200));
        let fork = async {
            let (mut room, trunk) = Room::new(version, members).await?;
            let ends = [room.renamed(&trunk, 0..conflicts).await?, room.renamed(&trunk, 0..conflicts).await?];
            anyhow::Ok((room.reopened()?, ends))
        };
        let (room, ends) = runtime.block_on(fork)?;
        let (time, peak) = runtime.block_on(measure(&room, ends, move |states, view, room| {
            Ok(resolve(states, &view.graph(room), version)?.changes.len())
        }))?;
        let what = format!("version {id}: resolution of {conflicts} conflicts among {members} members");
        row(&format!("{what}, ms"), "20", &milliseconds(time));
        row(&format!("{what}, MB of heap"), "8", &megabytes(peak));

        let members = of(5_000);
        let fork = async {
            let (mut room, mut trunk) = Room::new(version, members).await?;
            for _ in 0..4 {
                trunk = room.renamed(&trunk, 0..members).await?;
            }
            let mut one = trunk.clone();
            for _ in 0..5 {
                one = room.renamed(&one, 0..members).await?;
            }
            let other = room.renamed(&trunk, 0..4).await?;
            anyhow::Ok((room.reopened()?, [one, other]))
        };
        let (room, ends) = runtime.block_on(fork)?;
        let (time, peak) = runtime.block_on(measure(&room, ends, move |states, view, room| {
            Ok(auth_difference(states, &view.graph(room))?.len())
        }))?;
        let what = format!("version {id}: auth difference, {} events, half of them in it", room.events());
        row(&format!("{what}, ms"), "50", &milliseconds(time));
        row(&format!("{what}, MB of heap"), "", &megabytes(peak));
    }
    Ok(())
}

/// The median time of doing something with the states at two ends of a room, warm, and the most that it held at once.
async fn measure(
    room: &Room,
    ends: [End; 2],
    act: impl Fn(&[State], &View<'_>, RoomNumber) -> Result<usize> + Copy + Send + 'static,
) -> Result<(Duration, usize)> {
    let mut runs = Vec::new();
    let mut most = 0;
    for _ in 0..RUNS {
        let (number, ends) = (room.number(), ends.clone());
        let run = room.store().read(move |view| {
            let states = [state(&ends[0], view, number)?, state(&ends[1], view, number)?];
            let peak = Peak::begin();
            let start = now();
            let found = act(&states, view, number);
            Ok::<_, StoreError>((start.elapsed(), peak.end(), found))
        });
        let (time, peak, found) = run.await?;
        if found? == 0 {
            bail!("nothing was found to differ");
        }
        runs.push(time);
        most = most.max(peak);
    }
    runs.sort();
    Ok((runs[RUNS / 2], most))
}

const RUNS: usize = 21;

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn row(what: &str, goal: &str, measured: &str) {
    println!("| {what:<88} | {goal:>10} | {measured:>8} |");
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn scale() -> Result<f64> {
    let mut parser = lexopt::Parser::from_env();
    let mut scale = 1.0;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("scale") => scale = parser.value()?.parse()?,
            // Cargo says it to every bench.
            Long("bench") => {}
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(scale)
}
