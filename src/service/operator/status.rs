//! How the server is: for how long it runs, how far its log is, what waits, what it takes.

use serde::{Deserialize, Serialize};

use crate::{
    base::process::Usage,
    service::{App, federation::sending::Count, media::Transfers, traffic::Traffic},
    store::{StoreError, View},
};

/// A server as it is now. Sizes are in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    pub server_name: String,
    pub version: String,
    pub uptime_s: u64,
    pub accounts: u64,
    pub rooms: u64,
    /// Where the log stands.
    pub position: u64,
    /// How far it is in the event store; what follows is in the journal and in memory.
    pub checkpointed: u64,
    /// None: it was never backed up, as far as the data folder knows.
    pub backed_up_s_ago: Option<u64>,
    pub traffic: Traffic,
    pub waiting: Waiting,
    pub servers: Servers,
    pub disk: Disk,
    pub process: Option<Process>,
}

/// What is under way or waits for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Waiting {
    pub writes: usize,
    pub reads: usize,
    /// Long work, done step by step.
    pub tasks: u64,
    /// Passwords to hash.
    pub passwords: usize,
    pub uploads: usize,
    pub downloads: usize,
    pub thumbnails: usize,
    /// In memory, until a checkpoint writes it to the event store.
    pub tail_bytes: usize,
}

/// Other servers to which something is to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Servers {
    pub waiting: usize,
    /// Those of them that are caught up from the log.
    pub behind: usize,
    /// Those that can't be reached, and are tried again later.
    pub resting: usize,
    /// Messages to their users' devices that were given up since the start.
    pub given_up: u64,
}

/// What the data folder takes on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Disk {
    pub records_bytes: u64,
    /// Of the records' write-ahead log.
    pub log_bytes: u64,
    pub events_bytes: u64,
    /// Of the index of words.
    pub search_bytes: u64,
    /// Of what was uploaded, each in full; the media folder has the same content once, and thumbnails.
    pub media_bytes: u64,
}

/// What the process takes, and has taken since its start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    /// What the kernel can't take back.
    pub memory_bytes: u64,
    /// Pages of files, which it can.
    pub mapped_bytes: u64,
    pub written_bytes: u64,
    pub events: u64,
    /// None before the first event.
    pub written_bytes_per_event: Option<u64>,
}

/// How the server is now.
pub(super) async fn status(app: &App) -> Result<Status, StoreError> {
    let (accounts, rooms, tasks, position, checkpointed) = app.store.read(counts).await?;
    let media_bytes = app.store.read(|view| view.media_uploads()).await?.bytes;
    let (load, sizes) = (app.store.load(), app.store.sizes()?);
    let Transfers { uploads, downloads, thumbnails } = app.repository.transfers();
    let Count { waiting, behind, resting } = app.destinations();
    let process = Usage::now().map(|usage| Process {
        memory_bytes: usage.memory,
        mapped_bytes: usage.mapped,
        written_bytes: usage.written,
        events: load.events,
        written_bytes_per_event: usage.written.checked_div(load.events),
    });
    Ok(Status {
        server_name: app.server_name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: app.uptime().as_secs(),
        accounts,
        rooms,
        position,
        checkpointed,
        backed_up_s_ago: app.store.backed_up_at().map(|at| app.clock.now().since(at).as_secs()),
        traffic: app.traffic.now(),
        waiting: Waiting {
            writes: load.writes,
            reads: load.reads,
            tasks,
            passwords: app.passwords.queued(),
            uploads,
            downloads,
            thumbnails,
            tail_bytes: load.tail_bytes,
        },
        servers: Servers { waiting, behind, resting, given_up: app.messages_given_up() },
        disk: Disk {
            records_bytes: sizes.records,
            log_bytes: sizes.log,
            events_bytes: sizes.events,
            search_bytes: sizes.search,
            media_bytes,
        },
        process,
    })
}

/// Accounts, rooms, tasks, the log's position and how far it is checkpointed.
fn counts(view: &View<'_>) -> Result<(u64, u64, u64, u64, u64), StoreError> {
    let mut rooms = 0;
    for room in view.rooms() {
        room?;
        rooms += 1;
    }
    Ok((view.count_accounts()?, rooms, view.count_tasks()?, view.position().0, view.checkpointed()?.0))
}
