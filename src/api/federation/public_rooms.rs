//! The directory of rooms, for other servers. <https://spec.matrix.org/v1.19/server-server-api/#published-room-directory>

use ruma::{
    UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
    directory::Filter,
};

use crate::{
    api::{
        Error,
        peer::Peer,
        published::{chunk, wanted},
    },
    service::{
        App,
        directory::rooms::{self, Wanted},
    },
};

/// `GET /_matrix/federation/v1/publicRooms`
pub(crate) async fn list(
    app: App,
    _peer: Peer,
    request: get_public_rooms::v1::Request,
) -> Result<get_public_rooms::v1::Response, Error> {
    let get_public_rooms::v1::Request { limit, since, room_network, .. } = request;
    let page = rooms::page(&app, federated(wanted(Filter::new(), room_network, since, limit))).await?;
    let mut response = get_public_rooms::v1::Response::new();
    response.chunk = chunk(page.rooms);
    response.total_room_count_estimate = UInt::new(page.total);
    (response.next_batch, response.prev_batch) = (page.next, page.previous);
    Ok(response)
}

/// `POST /_matrix/federation/v1/publicRooms`
pub(crate) async fn search(
    app: App,
    _peer: Peer,
    request: get_public_rooms_filtered::v1::Request,
) -> Result<get_public_rooms_filtered::v1::Response, Error> {
    let get_public_rooms_filtered::v1::Request { limit, since, filter, room_network, .. } = request;
    let page = rooms::page(&app, federated(wanted(filter, room_network, since, limit))).await?;
    let mut response = get_public_rooms_filtered::v1::Response::new();
    response.chunk = chunk(page.rooms);
    response.total_room_count_estimate = UInt::new(page.total);
    (response.next_batch, response.prev_batch) = (page.next, page.previous);
    Ok(response)
}

/// Nobody is told of rooms that can't be joined from there.
fn federated(wanted: Wanted) -> Wanted {
    Wanted { federated: true, ..wanted }
}
