//! The directory of rooms. <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use ruma::{
    RoomId, UInt,
    api::client::{
        directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility},
        room::Visibility,
    },
};

use crate::{
    api::{
        Anyone, Error, User,
        custom::Unparsed,
        published::{chunk, size, wanted},
    },
    service::{
        App,
        directory::rooms::{self, Wanted},
        federation::queries::{self, WantedRooms},
    },
};

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
pub(crate) async fn visibility(
    app: App,
    _: Anyone,
    request: get_room_visibility::v3::Request,
) -> Result<get_room_visibility::v3::Response, Error> {
    let published = rooms::is_published(&app, request.room_id).await?;
    let visibility = if published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
pub(crate) async fn set_visibility(
    app: App,
    user: User,
    request: Unparsed<set_room_visibility::v3::Request>,
) -> Result<set_room_visibility::v3::Response, Error> {
    let (room_id, published) = if request.body.contains_key("visibility") {
        let request = request.parse()?;
        match request.visibility {
            Visibility::Public => (request.room_id, true),
            Visibility::Private => (request.room_id, false),
            _ => return Err(Error::invalid_param("There is no such visibility")),
        }
    } else {
        // ruma wants it said.
        let [room_id] = &request.arguments[..] else { return Err(Error::unrecognized()) };
        (RoomId::parse(room_id).map_err(|_| Error::invalid_param("This is not a room id"))?, true)
    };
    rooms::set_published(&app, &user, room_id, published).await?;
    Ok(set_room_visibility::v3::Response::new())
}

/// `GET /_matrix/client/v3/publicRooms`
pub(crate) async fn list(
    app: App,
    _: Anyone,
    request: get_public_rooms::v3::Request,
) -> Result<get_public_rooms::v3::Response, Error> {
    let get_public_rooms::v3::Request { server, since, limit, .. } = request;
    let limit = limit.map(size);
    if let Some(server) = server.filter(|server| *server != app.server_name) {
        let wanted = WantedRooms { since, limit, ..WantedRooms::default() };
        let told = queries::public_rooms(&app, &server, wanted).await?;
        let mut response = get_public_rooms::v3::Response::new(told.rooms);
        response.total_room_count_estimate = told.total.and_then(UInt::new);
        (response.next_batch, response.prev_batch) = (told.next, told.previous);
        return Ok(response);
    }
    let wanted = Wanted { since, limit, ..Wanted::default() };
    let page = rooms::page(&app, wanted).await?;
    let mut response = get_public_rooms::v3::Response::new(chunk(page.rooms));
    response.total_room_count_estimate = UInt::new(page.total);
    (response.next_batch, response.prev_batch) = (page.next, page.previous);
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
pub(crate) async fn search(
    app: App,
    _user: User,
    request: get_public_rooms_filtered::v3::Request,
) -> Result<get_public_rooms_filtered::v3::Response, Error> {
    let get_public_rooms_filtered::v3::Request { server, since, limit, filter, room_network, .. } = request;
    if let Some(server) = server.filter(|server| *server != app.server_name) {
        let wanted = WantedRooms { filter, network: room_network, since, limit: limit.map(size) };
        let told = queries::public_rooms(&app, &server, wanted).await?;
        let mut response = get_public_rooms_filtered::v3::Response::new();
        response.chunk = told.rooms;
        response.total_room_count_estimate = told.total.and_then(UInt::new);
        (response.next_batch, response.prev_batch) = (told.next, told.previous);
        return Ok(response);
    }
    let page = rooms::page(&app, wanted(filter, room_network, since, limit)).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = chunk(page.rooms);
    response.total_room_count_estimate = UInt::new(page.total);
    (response.next_batch, response.prev_batch) = (page.next, page.previous);
    Ok(response)
}
