//! Past events that this server lacks, fetched when somebody asks for them. Each stands in its place with the state before
//! it, so that its history visibility is judged like any other's; one whose state can't be found out stays away.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

mod batch;
mod jump;

use std::{future::ready, time::Duration};

use ruma::{OwnedEventId, OwnedServerName, ServerName};
use tokio::time::timeout;

use self::batch::Batch;
pub(super) use self::batch::{Judged, judge};
pub(in crate::service) use self::jump::{Nearest, jump};
use super::fetch::{Room, Source};
use crate::{
    base::{
        clock::Clock,
        ids::{Position, RoomNumber, ServerNumber},
        limits,
    },
    net::cache::Cache,
    service::App,
    store::{
        StoreError, View,
        events::{Item, Place},
    },
};

/// A gap of a room: the position of the event before which something is missing.
pub(in crate::service) type Gap = (RoomNumber, Position);

/// What is being done about gaps.
pub(in crate::service) struct Fills {
    /// Those that are being filled, and those that nobody could fill a while ago.
    fills: Cache<Gap, bool>,
    /// Those into which somebody jumps.
    jumps: Cache<Gap, bool>,
}

impl Fills {
    pub(in crate::service) fn new(clock: Clock) -> Self {
        Self {
            fills: Cache::new(limits::BACKFILL_GAPS, clock.clone()),
            jumps: Cache::new(limits::BACKFILL_GAPS, clock),
        }
    }
}

/// Fetches some of the events that are missing before the one at `anchor`, and waits so long for them; tells whether there
/// may be more to show now, or soon.
pub(in crate::service) async fn fill(app: &App, room: RoomNumber, anchor: Position, wait: Duration) -> bool {
    if !app.config.federation.enabled {
        return false;
    }
    let shared = app.clone();
    let work = |()| async move {
        let filled = Box::pin(timeout(limits::FETCH_TIME, fill_by_any(&shared, room, anchor))).await;
        match filled {
            Ok(Ok(true)) => (true, Duration::ZERO),
            Ok(Err(error)) => {
                tracing::warn!(%error, "missing events are not filled in");
                (false, Duration::ZERO)
            }
            Ok(Ok(false)) | Err(_) => (false, limits::BACKFILL_RETRY),
        }
    };
    let gap = (room, anchor);
    let filled = app.fills.fills.get_begun(&gap, || ready(()), work);
    // Who waits no longer may ask again.
    timeout(wait, filled).await.unwrap_or(true)
}

async fn fill_by_any(app: &App, number: RoomNumber, anchor: Position) -> Result<bool, StoreError> {
    let own = app.server_name.clone();
    let read = move |view: &View<'_>| {
        let Some(missing) = view.gap(number, anchor)? else { return Ok(None) };
        let (room, servers) = asked(view, &own, (number, anchor))?;
        Ok::<Option<(Room, Vec<OwnedEventId>, Vec<OwnedServerName>)>, StoreError>(Some((
            room, missing, servers,
        )))
    };
    // Somebody else closed it.
    let Some((room, missing, servers)) = app.store.read(read).await? else { return Ok(true) };
    for server in servers.clone() {
        let source = Source::new(app, server, &room);
        let name = source.server.clone();
        let filled = Box::pin(fill_by(source, servers.clone(), &missing, anchor));
        if in_its_share(&name, filled).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a server gave what it was asked for, in its share of the time.
async fn in_its_share(
    server: &ServerName,
    asked: impl Future<Output = Result<bool, StoreError>>,
) -> Result<bool, StoreError> {
    match timeout(limits::FETCH_TIME_PER_SERVER, asked).await {
        // What this one tells is more than a job may write; another may tell it otherwise.
        Ok(Err(error @ StoreError::TooLarge(_))) => {
            tracing::warn!(%server, %error, "past events are not taken");
            Ok(false)
        }
        Ok(done) => done,
        Err(_) => {
            tracing::debug!(%server, "a server tells past events too slowly");
            Ok(false)
        }
    }
}

/// A room, and the servers that are asked for what is missing in a gap of it.
fn asked(
    view: &View<'_>,
    own: &ServerName,
    (number, anchor): Gap,
) -> Result<(Room, Vec<OwnedServerName>), StoreError> {
    let room = Room { number, id: view.room_id(number)?, version: view.room(number)?.version };
    // Whoever sent what comes next knew what it followed.
    let mut servers = Vec::new();
    if let Some((_, Item::Event(next))) =
        view.timeline(number, ..=Place::live(anchor)).next_back().transpose()?
    {
        servers.push(view.event(number, next)?.pdu.sender().server_name().to_owned());
    }
    let joined = view.servers_joined(number, ServerNumber::default(), limits::SERVERS_STEP)?.0;
    for server in joined {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.retain(|server| *server != *own);
    servers.truncate(limits::BACKFILL_SERVERS);
    Ok((room, servers))
}

/// Fills the gap by what one server tells; tells whether something of it was filled.
async fn fill_by(
    source: Source,
    servers: Vec<OwnedServerName>,
    missing: &[OwnedEventId],
    anchor: Position,
) -> Result<bool, StoreError> {
    match source.past(missing.to_vec(), limits::BACKFILLED).await {
        Ok(told) => {
            let told = source.verified(told).await;
            Batch::new(source, servers, missing, told).place(anchor).await
        }
        Err(error) => {
            tracing::debug!(server = %source.server, %error, "a server tells no past events");
            Ok(false)
        }
    }
}
