//! The directory of rooms. <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use http::StatusCode;
use ruma::{
    RoomId, UInt,
    api::{
        client::{
            directory::{
                get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
            },
            room::Visibility,
        },
        error::ErrorKind,
    },
    directory::{PublicRoomsChunk, PublicRoomsChunkInit, RoomNetwork},
};

use crate::{
    api::{Anyone, Error, User, custom::Unparsed},
    service::{
        App,
        directory::rooms::{self, DirectoryError, Published, Wanted},
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
    let wanted = Wanted { server, since, limit: limit.map(size), ..Wanted::default() };
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
    let types = filter.room_types.iter().map(|kind| kind.as_str().map(str::to_owned)).collect();
    let wanted = Wanted {
        server,
        network: match room_network {
            RoomNetwork::ThirdParty(network) => Some(network),
            // There are no networks but Matrix.
            _ => None,
        },
        since,
        limit: limit.map(size),
        term: filter.generic_search_term,
        types: Some(types).filter(|types: &Vec<_>| !types.is_empty()),
    };
    let page = rooms::page(&app, wanted).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = chunk(page.rooms);
    response.total_room_count_estimate = UInt::new(page.total);
    (response.next_batch, response.prev_batch) = (page.next, page.previous);
    Ok(response)
}

fn chunk(rooms: Vec<Published>) -> Vec<PublicRoomsChunk> {
    let told = rooms.into_iter().map(|Published { room_id, joined, listing }| {
        let mut told = PublicRoomsChunk::from(PublicRoomsChunkInit {
            num_joined_members: joined.into(),
            room_id,
            world_readable: listing.world_readable,
            guest_can_join: listing.guest_can_join,
        });
        told.name = listing.name;
        told.topic = listing.topic;
        told.canonical_alias = listing.canonical_alias;
        told.avatar_url = listing.avatar_url;
        told.join_rule = listing.join_rule;
        told.room_type = listing.room_type;
        told
    });
    told.collect()
}

fn size(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
}

impl From<DirectoryError> for Error {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::UnknownRoom => Self::not_found("This server knows no such room"),
            DirectoryError::Forbidden => Self::forbidden("You may not publish this room"),
            // What is asked for may well exist: it is the way there that fails.
            DirectoryError::Remote => Self::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::Unknown,
                "The rooms of other servers can't be listed from here",
            ),
            DirectoryError::UnknownNetwork => Self::not_found("This server knows no such network"),
            DirectoryError::Token => Self::invalid_param("The token is not one of this server's"),
            DirectoryError::Store(error) => error.into(),
        }
    }
}
