//! What a server does without being asked: each worker follows something that the store says is to be done, and goes on
//! after a restart where it was.
//!
//! A worker is a loop that ends with the server. It holds nothing that would be lost with it.

mod connections;
mod delayed;
mod device_lists;
mod directory;
mod erasing;
mod gaps;
mod joins;
mod media;
mod presence;
mod push;
mod relations;
mod rounds;
mod search;
mod sending;

use std::pin::Pin;

use tokio::task::JoinSet;

use crate::service::App;

/// Starts every worker. They end when the set is dropped.
pub fn start(app: &App) -> JoinSet<()> {
    // Of one type, which the program needs the way of a task for once.
    let runs: [Pin<Box<dyn Future<Output = ()> + Send>>; _] = [
        Box::pin(rounds::run(app.clone())),
        Box::pin(media::run(app.clone())),
        Box::pin(presence::run(app.clone())),
        Box::pin(directory::run(app.clone())),
        Box::pin(relations::run(app.clone())),
        Box::pin(device_lists::run(app.clone())),
        Box::pin(gaps::run(app.clone())),
        Box::pin(joins::run(app.clone())),
        Box::pin(erasing::run(app.clone())),
        Box::pin(delayed::run(app.clone())),
        Box::pin(sending::run(app.clone())),
        Box::pin(push::run(app.clone())),
        Box::pin(connections::run(app.clone())),
        Box::pin(search::run(app.clone())),
    ];
    let mut workers = JoinSet::new();
    for run in runs {
        workers.spawn(run);
    }
    workers
}
