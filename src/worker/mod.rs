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

use tokio::task::JoinSet;

use crate::service::App;

/// Starts every worker. They end when the set is dropped.
pub fn start(app: &App) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    workers.spawn(rounds::run(app.clone()));
    workers.spawn(media::run(app.clone()));
    workers.spawn(presence::run(app.clone()));
    workers.spawn(directory::run(app.clone()));
    workers.spawn(relations::run(app.clone()));
    workers.spawn(device_lists::run(app.clone()));
    workers.spawn(gaps::run(app.clone()));
    workers.spawn(joins::run(app.clone()));
    workers.spawn(erasing::run(app.clone()));
    workers.spawn(delayed::run(app.clone()));
    workers.spawn(sending::run(app.clone()));
    workers.spawn(push::run(app.clone()));
    workers.spawn(connections::run(app.clone()));
    workers.spawn(search::run(app.clone()));
    workers
}
