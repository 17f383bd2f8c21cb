//! The directory of rooms as both clients and servers are told it.

use ruma::{
    UInt,
    directory::{Filter, PublicRoomsChunk, PublicRoomsChunkInit, RoomNetwork},
};

use super::Error;
use crate::service::directory::rooms::{DirectoryError, Published, Wanted};

/// What is wanted of the rooms that a filter lets through.
pub(super) fn wanted(
    filter: Filter,
    network: RoomNetwork,
    since: Option<String>,
    limit: Option<UInt>,
) -> Wanted {
    let types = filter.room_types.iter().map(|kind| kind.as_str().map(str::to_owned)).collect();
    Wanted {
        network: match network {
            RoomNetwork::ThirdParty(network) => Some(network),
            // There are no networks but Matrix.
            _ => None,
        },
        since,
        limit: limit.map(size),
        term: filter.generic_search_term,
        types: Some(types).filter(|types: &Vec<_>| !types.is_empty()),
        federated: false,
    }
}

/// Rooms as they are told.
pub(super) fn chunk(rooms: Vec<Published>) -> Vec<PublicRoomsChunk> {
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

pub(super) fn size(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
}

impl From<DirectoryError> for Error {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::UnknownRoom => Self::not_found("This server knows no such room"),
            DirectoryError::Forbidden => Self::forbidden("You may not publish this room"),
            DirectoryError::UnknownNetwork => Self::not_found("This server knows no such network"),
            DirectoryError::Token => Self::invalid_param("The token is not one of this server's"),
            DirectoryError::Store(error) => error.into(),
        }
    }
}
